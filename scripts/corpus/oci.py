#!/usr/bin/env python3
"""Writes OCI layers and images from directory trees.

oci.py scan ROOT STATE                remember ROOT as the tree that the next layer starts from
oci.py layer ROOT STATE OUT NUMBER    OUT = layer tar of what changed in ROOT since STATE; STATE moves on
oci.py image < JSON                   {layout, name, compression, config, tars, history, rows}

The tars are written by Python's tarfile, on purpose not by anything of this
project: what veneer reads here it did not make.
"""
import hashlib
import json
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor

EPOCH = int(os.environ["SOURCE_DATE_EPOCH"])

# Logs, caches and mount points: they differ from run to run and belong to no image.
SKIP = re.compile(
    rb"^(proc/.|sys/.|dev/.|run/.|tmp/.|var/cache/apt/.|var/lib/apt/lists/.|var/log/apt/."
    rb"|var/log/(dpkg|alternatives|bootstrap|fontconfig)\.log$|var/cache/ldconfig/aux-cache$"
    rb"|etc/(resolv\.conf|hostname|machine-id)$|etc/apt/sources\.list$|etc/apt/sources\.list\.d/."
    rb"|etc/apt/apt\.conf\.d/99|var/lib/dpkg/(lock|triggers/Lock)|var/cache/debconf/.*-old$"
    rb"|etc/(passwd|group|shadow|gshadow|subuid|subgid)-$"
    rb"|etc/ssl/(certs/ssl-cert-snakeoil|private/ssl-cert)"
    rb"|var/lib/dpkg/(status|available|diversions)-old$|root/\.npm|var/cache/fontconfig/."
    rb"|var/log/lastlog$|var/log/faillog$)"
)

MODE, UID, GID, SIZE, MTIME, INO, NLINK, RDEV, TARGET, XATTRS = range(10)


def scan(root):
    """Relative path (bytes) to a tuple of attributes, for everything below root."""
    root = os.fsencode(root)
    found = {}

    def walk(rel):
        with os.scandir(os.path.join(root, rel) if rel else root) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
        for entry in ordered:
            path = rel + b"/" + entry.name if rel else entry.name
            if SKIP.match(path):
                continue
            st = entry.stat(follow_symlinks=False)
            if stat.S_ISSOCK(st.st_mode):
                continue
            link = stat.S_ISLNK(st.st_mode)
            xattrs = {}
            if not link:
                for name in os.listxattr(entry.path, follow_symlinks=False):
                    if name.startswith("user.") or name == "security.capability":
                        xattrs[name] = os.getxattr(entry.path, name, follow_symlinks=False)
            found[path] = (
                st.st_mode, st.st_uid, st.st_gid, st.st_size, st.st_mtime_ns, st.st_ino, st.st_nlink,
                st.st_rdev, os.readlink(entry.path) if link else None, tuple(sorted(xattrs.items())),
            )
            if stat.S_ISDIR(st.st_mode):
                walk(path)

    walk(b"")
    return found


def is_dir(facts):
    return stat.S_ISDIR(facts[MODE])


def changed(before, after):
    keys = (MODE, UID, GID, MTIME, INO, XATTRS)
    if not is_dir(after):
        keys += (SIZE, RDEV, TARGET)
    return any(before[key] != after[key] for key in keys)


def parents(path):
    while b"/" in path:
        path = path.rsplit(b"/", 1)[0]
        yield path


def compare(old, new):
    """What a layer must say: (paths to emit, paths to white out, opaque directories)."""
    emit, opaque = set(), set()
    for path, after in new.items():
        before = old.get(path)
        if before is None or changed(before, after):
            emit.add(path)
            if before is not None and is_dir(after) and is_dir(before) and before[INO] != after[INO]:
                opaque.add(path)
    # Only the topmost needs a marker: what lies inside is new anyway.
    opaque = {path for path in opaque if not any(up in opaque for up in parents(path))}
    emit.update(path for path in new if any(up in opaque for up in parents(path)))

    def gone_as_a_whole(path):
        return any(up in opaque or (up in old and (up not in new or not is_dir(new[up]))) for up in parents(path))

    deleted = [path for path in old if path not in new and not gone_as_a_whole(path)]
    # A directory's mtime also moves when files that are left out come and go: not a change.
    for path in list(emit):
        before, after = old.get(path), new[path]
        if before is not None and is_dir(after) and path not in opaque:
            if all(before[k] == after[k] for k in (MODE, UID, GID, XATTRS)):
                emit.discard(path)
    for path in list(emit) + deleted:
        emit.update(up for up in parents(path) if up in new)
    return emit, deleted, opaque


def beside(path, name):
    return path.rsplit(b"/", 1)[0] + b"/" + name if b"/" in path else name


def write_layer(root, state, out, number):
    old = pickle.load(open(state, "rb")) if os.path.exists(state) else {}
    new = scan(root)
    now = EPOCH + 60 * int(number)
    emit, deleted, opaque = compare(old, new)
    items = [(path, False) for path in emit]
    items += [(beside(path, b".wh." + path.rsplit(b"/", 1)[-1]), True) for path in deleted]
    items += [(path + b"/.wh..wh..opq", True) for path in opaque]
    items.sort(key=lambda item: item[0].split(b"/"))
    first_name, hard_links = {}, 0
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape") as tar:
        for path, marker in items:
            info = tarfile.TarInfo(os.fsdecode(path))
            if marker:
                info.mode, info.mtime = 0, now
                tar.addfile(info)
                continue
            facts = new[path]
            info.mode, info.uid, info.gid = stat.S_IMODE(facts[MODE]), facts[UID], facts[GID]
            info.mtime = min(facts[MTIME] // 10**9, now)
            info.uname = info.gname = ""
            for name, value in facts[XATTRS]:
                info.pax_headers["SCHILY.xattr." + name] = value.decode("utf-8", "surrogateescape")
            kind = stat.S_IFMT(facts[MODE])
            if kind == stat.S_IFDIR:
                info.type = tarfile.DIRTYPE
            elif kind == stat.S_IFLNK:
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, os.fsdecode(facts[TARGET]), 0o777
            elif kind == stat.S_IFREG:
                if facts[NLINK] > 1 and facts[INO] in first_name:
                    info.type, info.linkname = tarfile.LNKTYPE, os.fsdecode(first_name[facts[INO]])
                    info.pax_headers = {}
                    hard_links += 1
                else:
                    if facts[NLINK] > 1:
                        first_name[facts[INO]] = path
                    info.size = facts[SIZE]
                    with open(os.path.join(os.fsencode(root), path), "rb") as data:
                        tar.addfile(info, data)
                    continue
            elif kind == stat.S_IFIFO:
                info.type = tarfile.FIFOTYPE
            else:
                info.type = tarfile.CHRTYPE if kind == stat.S_IFCHR else tarfile.BLKTYPE
                info.devmajor, info.devminor = os.major(facts[RDEV]), os.minor(facts[RDEV])
            tar.addfile(info)
    with open(state, "wb") as file:
        pickle.dump(new, file)
    counts = {"entries": len(items), "whiteouts": len(deleted), "opaques": len(opaque), "hardlinks": hard_links}
    with open(out + ".json", "w") as file:
        json.dump(counts, file)


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def put_file(blobs, source):
    digest = sha256(source)
    target = os.path.join(blobs, digest)
    if not os.path.exists(target):
        os.link(source, target)
    return "sha256:" + digest, os.path.getsize(source)


def put_json(blobs, value):
    data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(data).hexdigest()
    with open(os.path.join(blobs, digest), "wb") as file:
        file.write(data)
    return "sha256:" + digest, len(data)


def compress(tar, compression, out):
    command = ["gzip", "-n", "-6", "-c"] if compression == "gzip" else ["zstd", "-q", "-3", "-T1", "-c"]
    with open(tar, "rb") as source, open(out, "wb") as target:
        subprocess.run(command, stdin=source, stdout=target, check=True)


def write_image(layout, name, compression, config, tars, history, rows):
    """An OCI layout with one image, tag `latest`. It appears under its name complete or not at all."""
    building = layout + ".building"
    shutil.rmtree(building, ignore_errors=True)
    blobs = building + "/blobs/sha256"
    os.makedirs(blobs)

    def one_layer(item):
        number, tar = item
        packed = "%s/%02d.packed" % (building, number)
        compress(tar, compression, packed)
        digest, size = put_file(blobs, packed)
        os.unlink(packed)
        return digest, size, "sha256:" + sha256(tar)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        layers = list(pool.map(one_layer, enumerate(tars)))
    steps = []
    for number, text in enumerate(history):
        step = {"created": "2025-05-05T00:%02d:00Z" % (number % 60), "created_by": text.lstrip("!")}
        if text.startswith("!"):
            step["empty_layer"] = True
        steps.append(step)
    if sum(1 for text in history if not text.startswith("!")) != len(tars):
        sys.exit("corpus: %s has %d layers but another number of history steps" % (name, len(tars)))
    config_digest, config_size = put_json(blobs, {
        "created": "2025-05-05T00:59:00Z", "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer[2] for layer in layers]}, "history": steps,
    })
    oci = "application/vnd.oci.image."
    manifest = {
        "schemaVersion": 2, "mediaType": oci + "manifest.v1+json",
        "config": {"mediaType": oci + "config.v1+json", "digest": config_digest, "size": config_size},
        "layers": [
            {"mediaType": oci + "layer.v1.tar+" + compression, "digest": digest, "size": size}
            for digest, size, _ in layers
        ],
    }
    digest, size = put_json(blobs, manifest)
    index = {
        "schemaVersion": 2, "mediaType": oci + "index.v1+json",
        "manifests": [{
            "mediaType": manifest["mediaType"], "digest": digest, "size": size,
            "platform": {"architecture": "amd64", "os": "linux"},
            "annotations": {
                "org.opencontainers.image.ref.name": "latest",
                "io.containerd.image.name": "docker.io/library/%s:latest" % name,
            },
        }],
    }
    with open(building + "/index.json", "w") as file:
        json.dump(index, file)
    with open(building + "/oci-layout", "w") as file:
        file.write('{"imageLayoutVersion":"1.0.0"}')
    with open(rows, "w") as file:
        for number, (tar, layer) in enumerate(zip(tars, layers)):
            counts = json.load(open(tar + ".json"))
            row = [name, number, os.path.getsize(tar), layer[1], counts["entries"], counts["whiteouts"],
                   counts["opaques"], counts["hardlinks"], layer[2]]
            file.write("\t".join(map(str, row)) + "\n")
    shutil.rmtree(layout, ignore_errors=True)
    os.rename(building, layout)


if __name__ == "__main__":
    if sys.argv[1] == "scan":
        with open(sys.argv[3], "wb") as file:
            pickle.dump(scan(sys.argv[2]), file)
    elif sys.argv[1] == "layer":
        write_layer(*sys.argv[2:6])
    else:
        write_image(**json.load(sys.stdin))
