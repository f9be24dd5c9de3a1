"""Mounts through the new mount API, with libc only: no mount(8), which would put loop devices in between."""
import ctypes
import os

LIBC = ctypes.CDLL(None, use_errno=True)
MOVE_MOUNT, FSOPEN, FSCONFIG, FSMOUNT = 429, 430, 431, 432  # the same on every 64-bit architecture
FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE = 0, 1, 6
MOUNT_ATTR_RDONLY = 1
AT_FDCWD = -100
MOVE_MOUNT_F_EMPTY_PATH = 4
UMOUNT_NOFOLLOW = 8


def call(what, *arguments):
    result = LIBC.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, "%s: %s" % (what, os.strerror(errno)))
    return result


def log_of(fd):
    """What the kernel wrote about the failure, if anything."""
    lines = []
    try:
        while True:
            lines.append(os.read(fd, 4096).decode("latin1").strip())
    except OSError:
        return "; ".join(lines)


def mount(type, target, source=None, options=(), readonly=True):
    fs = call("fsopen " + type, FSOPEN, type.encode(), 1)
    try:
        try:
            settings = ([["source", source]] if source is not None else []) + list(options)
            for key, value in settings:
                command = FSCONFIG_SET_FLAG if value is None else FSCONFIG_SET_STRING
                data = None if value is None else value.encode("latin1")
                call("fsconfig %s=%s" % (key, value), FSCONFIG, fs, command, key.encode(), data, 0)
            if readonly:
                call("fsconfig ro", FSCONFIG, fs, FSCONFIG_SET_FLAG, b"ro", None, 0)
            call("fsconfig create", FSCONFIG, fs, FSCONFIG_CMD_CREATE, None, None, 0)
            fd = call("fsmount", FSMOUNT, fs, 1, MOUNT_ATTR_RDONLY if readonly else 0)
        except OSError as error:
            raise OSError(error.errno, "mount %s of %s: %s (%s)" % (type, source, error.strerror, log_of(fs))) from None
        try:
            call("move_mount", MOVE_MOUNT, fd, b"", AT_FDCWD, target.encode("latin1"), MOVE_MOUNT_F_EMPTY_PATH)
        finally:
            os.close(fd)
    finally:
        os.close(fs)


def umount(target):
    if LIBC.umount2(target.encode("latin1"), UMOUNT_NOFOLLOW) < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, "umount %s: %s" % (target, os.strerror(errno)))
