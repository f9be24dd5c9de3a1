"""make-image.py KIND LAYOUT [TAR]: an OCI layout with one made-up image, tag `latest`; the same bytes every time.

many-layers   120 layers of two small files each
big-file      one layer, one file of 2 GB
many-files    one layer of 300,000 empty files in 3,000 directories
tar           the layer TAR, not compressed
much-data     one layer of 100,000 files of 0 to 8,000 bytes in 1,000 directories
"""
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import sys
import tarfile

kind, layout = sys.argv[1:3]
blobs = os.path.join(layout, "blobs", "sha256")
os.makedirs(blobs)
OCI = "application/vnd.oci.image."


class Zeros(io.RawIOBase):
    def readinto(self, buffer):
        buffer[:] = bytes(len(buffer))
        return len(buffer)


def entry(tar, name, data=None, size=0):
    info = tarfile.TarInfo(name)
    info.mtime = 1746403200
    info.mode = 0o755 if data is None and size == 0 and name.endswith("/") else 0o644
    if name.endswith("/"):
        info.type = tarfile.DIRTYPE
    info.size = size or len(data or b"")
    tar.addfile(info, Zeros() if size else io.BytesIO(data or b""))


def fill(tar, number):
    if kind == "many-layers":
        entry(tar, "layers/")
        entry(tar, "layers/%03d" % number, b"layer %d\n" % number)
        entry(tar, "top", b"%d\n" % number)
    elif kind == "big-file":
        entry(tar, "big", size=2 * 10**9)
    elif kind == "much-data":
        data = random.Random(1)
        for folder in range(1000):
            entry(tar, "d%03d/" % folder)
            for file in range(100):
                entry(tar, "d%03d/f%02d" % (folder, file), data.randbytes((folder * 100 + file) * 37 % 8001))
    else:
        for folder in range(3000):
            entry(tar, "d%04d/" % folder)
            for file in range(100):
                entry(tar, "d%04d/f%02d" % (folder, file))


class Hashing:
    def __init__(self, file):
        self.file, self.hash = file, hashlib.sha256()

    def write(self, data):
        self.hash.update(data)
        return self.file.write(data)

    def flush(self):
        self.file.flush()


def plain_layer(tar):
    with open(tar, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    path = os.path.join(blobs, digest)
    shutil.copyfile(tar, path)
    facts = {"mediaType": OCI + "layer.v1.tar", "digest": "sha256:" + digest, "size": os.path.getsize(path)}
    return facts, "sha256:" + digest


def layer(number):
    path = os.path.join(blobs, "new")
    with open(path, "wb") as raw:
        outer = Hashing(raw)
        with gzip.GzipFile(fileobj=outer, mode="wb", mtime=0, filename="", compresslevel=1) as packed:
            inner = Hashing(packed)
            with tarfile.open(fileobj=inner, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                fill(tar, number)
    digest = outer.hash.hexdigest()
    os.rename(path, os.path.join(blobs, digest))
    facts = {"mediaType": OCI + "layer.v1.tar+gzip", "digest": "sha256:" + digest}
    return {**facts, "size": os.path.getsize(os.path.join(blobs, digest))}, "sha256:" + inner.hash.hexdigest()


def put(media_type, value):
    data = json.dumps(value, sort_keys=True).encode()
    digest = hashlib.sha256(data).hexdigest()
    with open(os.path.join(blobs, digest), "wb") as file:
        file.write(data)
    return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(data)}


if kind == "tar":
    layers = [plain_layer(sys.argv[3])]
else:
    layers = [layer(number) for number in range(120 if kind == "many-layers" else 1)]
config = put(OCI + "config.v1+json", {
    "architecture": "amd64", "os": "linux", "config": {},
    "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
})
manifest = put(OCI + "manifest.v1+json", {
    "schemaVersion": 2, "mediaType": OCI + "manifest.v1+json", "config": config,
    "layers": [descriptor for descriptor, _ in layers],
})
manifest["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
with open(os.path.join(layout, "oci-layout"), "w") as file:
    file.write('{"imageLayoutVersion":"1.0.0"}')
with open(os.path.join(layout, "index.json"), "w") as file:
    json.dump({"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": [manifest]}, file)
