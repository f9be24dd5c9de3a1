"""Mounts by system calls, with libc only: no mount(8), which would put loop devices in between."""
import ctypes
import fcntl
import os
import struct

LIBC = ctypes.CDLL(None, use_errno=True)
MOVE_MOUNT, FSOPEN, FSCONFIG, FSMOUNT = 429, 430, 431, 432  # the same on every 64-bit architecture
FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE = 0, 1, 6
MOUNT_ATTR_RDONLY = 1
AT_FDCWD = -100
MOVE_MOUNT_F_EMPTY_PATH = 4
UMOUNT_NOFOLLOW = 8
MS_RDONLY = 1
# linux/loop.h
LOOP_CTL_GET_FREE, LOOP_CONFIGURE = 0x4C82, 0x4C0A
LOOP_CONFIG_SIZE, LOOP_FLAGS_AT = 304, 60
LO_FLAGS_READ_ONLY, LO_FLAGS_AUTOCLEAR = 1, 4


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


def open_loop(path):
    """A loop device on a file, which goes with its last user: (path, open descriptor)."""
    control = os.open("/dev/loop-control", os.O_RDWR)
    backing = os.open(path.encode("latin1"), os.O_RDONLY)
    try:
        device = "/dev/loop%d" % fcntl.ioctl(control, LOOP_CTL_GET_FREE)
        fd = os.open(device, os.O_RDONLY)
        config = bytearray(LOOP_CONFIG_SIZE)
        struct.pack_into("=II", config, 0, backing, 512)
        struct.pack_into("=I", config, LOOP_FLAGS_AT, LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR)
        try:
            fcntl.ioctl(fd, LOOP_CONFIGURE, bytes(config))
        except OSError:
            os.close(fd)
            raise
        return device, fd
    finally:
        os.close(backing)
        os.close(control)


def mount_old(type, target, path=None, options=()):
    """mount(2) read-only on a new directory; `path` is a file that gets a loop device."""
    os.mkdir(target)
    device, fd = open_loop(path) if path is not None else (type, None)
    try:
        data = ",".join(options).encode("latin1")
        if LIBC.mount(device.encode(), target.encode(), type.encode(), MS_RDONLY, data) < 0:
            errno = ctypes.get_errno()
            raise OSError(errno, "mount %s of %s: %s" % (type, path, os.strerror(errno)))
    finally:
        if fd is not None:
            os.close(fd)
