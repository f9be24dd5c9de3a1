"""An exact picture of a directory on disk: everything lstat, readlink, the xattr calls and read say."""
import errno
import hashlib
import json
import os
import stat

TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


def text(data):
    return data.decode("latin1")


def xattrs_of(path):
    names = os.listxattr(path, follow_symlinks=False)
    found = [(os.fsencode(name), os.getxattr(path, name, follow_symlinks=False)) for name in names]
    return [[text(name), text(value)] for name, value in sorted(found)]


BLOCK = 512


def hash_all(fd, digest, buffer):
    while count := os.readv(fd, [buffer]):
        digest.update(buffer[:count])


def hash_sparse(fd, digest, buffer):
    """Only blocks that are not all zero, each with its offset: for files too long to read."""
    end, at = os.fstat(fd).st_size, 0
    while at < end:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end
                return
            raise
        stop, at = os.lseek(fd, at, os.SEEK_HOLE), at - at % BLOCK
        while at < stop:
            block = os.pread(fd, BLOCK, at)
            if any(block):
                digest.update(b"%d " % at + block)
            at += BLOCK


def content_of(path, buffer, hash_file):
    digest = hashlib.sha256()
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            hash_file(fd, digest, buffer)
        finally:
            os.close(fd)
    except OSError as error:  # an unreadable file is a difference, not the end
        return "!" + os.strerror(error.errno)
    return digest.hexdigest()


def write(out, dir, content):
    """One JSON array an entry, names of a directory in byte order; returns their number.

    content: "all" is hashed, or "sparse": only what is not zero, or "none".
    """
    hash_file = {"all": hash_all, "sparse": hash_sparse, "none": None}[content]
    root = dir.encode("latin1")
    buffer = memoryview(bytearray(1 << 20))
    encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
    pending = [(b"", root)]
    count = 0
    while pending:
        rel, path = pending.pop()
        st = os.lstat(path)
        kind = stat.S_IFMT(st.st_mode)
        device = kind in (stat.S_IFCHR, stat.S_IFBLK)
        out.write(encode([
            text(rel), TYPES[kind], stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid,
            0 if kind == stat.S_IFDIR else st.st_size,
            st.st_mtime_ns // 10**9, st.st_mtime_ns % 10**9,
            os.major(st.st_rdev) if device else 0, os.minor(st.st_rdev) if device else 0,
            text(os.readlink(path)) if kind == stat.S_IFLNK else "",
            st.st_nlink, "%d:%d" % (st.st_dev, st.st_ino) if kind != stat.S_IFDIR and st.st_nlink > 1 else "",
            xattrs_of(path), content_of(path, buffer, hash_file) if hash_file and kind == stat.S_IFREG else "",
        ]))
        out.write("\n")
        count += 1
        if kind == stat.S_IFDIR:
            for name in sorted(os.listdir(path), reverse=True):
                pending.append((rel + b"/" + name if rel else name, path + b"/" + name))
    return count
