"""Unpacks layers one over another: GNU tar extracts, this script does what the OCI image spec adds.

Before a layer is extracted: its whiteouts are applied to what is there, and what its
entries replace is removed. After it: directories that it did not name get their times
back, and directories that nobody ever named get the attributes the caller says.
"""
import os
import re
import shutil
import stat
import subprocess

WHITEOUT, OPAQUE = b".wh.", b".wh..wh..opq"
ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}
ESCAPES = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def unescape(name):
    """Undoes tar's --quoting-style=escape."""
    def one(match):
        code = match[1]
        return bytes([int(code, 8)]) if code.isdigit() else ESCAPES.get(code, code)
    return re.sub(rb"\\([0-7]{3}|.)", one, name)


def clean(name):
    """The path below the root that tar extracts a member to; empty for the root itself."""
    parts = []
    for part in name.split(b"/"):
        if part == b"..":
            parts = []  # tar drops everything up to the last ..
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def listing(tar):
    """(type letter as ls prints it, path) of every member, as GNU tar sees them."""
    def lines(flags):
        command = ["tar", flags, "--quoting-style=escape", "--numeric-owner", "-f", tar]
        # What it cannot read it says again when it extracts.
        return subprocess.run(command, env=ENVIRONMENT, capture_output=True).stdout.split(b"\n")[:-1]
    plain, verbose = lines("-t"), lines("-tv")
    if len(plain) != len(verbose):
        raise ValueError("tar's two listings of %s differ in length" % tar)
    return [(line[:1].decode(), clean(unescape(name))) for line, name in zip(verbose, plain)]


def parents(path):
    while b"/" in path:
        path = path.rsplit(b"/", 1)[0]
        yield path


def lstat(path):
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def remove(path):
    st = lstat(path)
    if st is None:
        return
    if stat.S_ISDIR(st.st_mode):
        shutil.rmtree(path)
    else:
        os.unlink(path)


class Tree:
    def __init__(self, root):
        self.root = root
        self.unnamed = set()  # directories that exist only as somebody's parent

    def full(self, path):
        return os.path.join(self.root, path) if path else self.root

    def forget(self, path):
        self.unnamed = {p for p in self.unnamed if p != path and not p.startswith(path + b"/")}

    def remove(self, path):
        remove(self.full(path))
        self.forget(path)

    def apply_whiteouts(self, members):
        for _, path in members:
            folder, _, name = path.rpartition(b"/")
            if name == OPAQUE:
                st = lstat(self.full(folder))
                if st is not None and stat.S_ISDIR(st.st_mode):
                    for child in os.listdir(self.full(folder)):
                        self.remove(folder + b"/" + child if folder else child)
            elif name.startswith(WHITEOUT):
                hidden = name[len(WHITEOUT):]
                if hidden not in (b"", b".", b".."):
                    self.remove(folder + b"/" + hidden if folder else hidden)

    def clear_the_way(self, members):
        """What an entry replaces goes; a directory over a directory keeps its children only."""
        for kind, path in members:
            for up in parents(path):
                st = lstat(self.full(up))
                if st is not None and not stat.S_ISDIR(st.st_mode):
                    self.remove(up)
            st = lstat(self.full(path))
            if st is None or not path:
                continue
            if kind != "d" or not stat.S_ISDIR(st.st_mode):
                self.remove(path)
            else:
                for name in os.listxattr(self.full(path)):
                    os.removexattr(self.full(path), name)

    def times(self):
        found = {}
        for folder, _, _ in os.walk(self.root):
            found[os.path.relpath(folder, self.root) if folder != self.root else b""] = os.lstat(folder).st_mtime_ns
        return found

    def extract(self, tar):
        members = listing(tar)
        entries = [(k, p) for k, p in members if not any(c.startswith(WHITEOUT) for c in p.split(b"/"))]
        before = self.times()
        self.apply_whiteouts(members)
        self.clear_the_way(entries)
        command = [
            "tar", "-x", "-f", tar, "-C", self.root, "--numeric-owner", "--same-owner", "--same-permissions",
            "--xattrs", "--xattrs-include=*", "--exclude=.wh.*",
        ]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True)
        named = {path for _, path in entries}
        self.unnamed -= named
        for path in {up for path in named for up in parents(path)} - named:
            if path not in before or path in self.unnamed:
                self.unnamed.add(path)
        for path, mtime in before.items():
            st = lstat(self.full(path))
            if path not in named and st is not None and stat.S_ISDIR(st.st_mode):
                os.utime(self.full(path), ns=(mtime, mtime))
        if b"" not in named and not self.root_named:
            self.unnamed.add(b"")
        else:
            self.root_named = True
            self.unnamed.discard(b"")
        return done.stderr.decode("latin1").strip() if done.returncode else ""

    root_named = False


def unpack(layers, into, implied):
    """Extracts the layers, lowest first; returns what GNU tar complained about, one text a layer ('' = nothing)."""
    tree = Tree(into.encode("latin1"))
    complaints = [tree.extract(layer) for layer in layers]
    for path in sorted(tree.unnamed, reverse=True):
        full = tree.full(path)
        os.chown(full, implied["uid"], implied["gid"])
        os.chmod(full, implied["mode"])
        mtime = implied["mtime"] * 10**9
        os.utime(full, ns=(mtime, mtime))
    return complaints
