/** Inode flags, ioctl_iflags(2): a file that not even root changes by accident. */
import { constants } from 'node:os';
import { sysError } from './error.ts';
import { errno, libc } from './libc.ts';

// <linux/fs.h>
const FS_IOC_GETFLAGS = 0x80086601;
const FS_IOC_SETFLAGS = 0x40086602;
const FS_IMMUTABLE_FL = 0x10;

/** Reads the flags of an open file; null where the file system has none. */
function readFlags(fd: number): Buffer | null {
  // the kernel takes an int, whatever the request's size says
  const flags = Buffer.alloc(8);
  return libc('ioctlPointer')(fd, FS_IOC_GETFLAGS, flags) === -1 ? null : flags;
}

export function isImmutable(fd: number): boolean {
  const flags = readFlags(fd);
  return flags !== null && (flags.readUInt32LE() & FS_IMMUTABLE_FL) !== 0;
}

/**
 * Sets or clears the immutable flag (`chattr +i`) of an open file. False when this file system has no such flag.
 * Throws `sys/EPERM` without CAP_LINUX_IMMUTABLE.
 */
export function setImmutable(fd: number, on: boolean): boolean {
  const flags = readFlags(fd);
  if (flags === null) return false;
  const was = flags.readUInt32LE();
  const wanted = (on ? was | FS_IMMUTABLE_FL : was & ~FS_IMMUTABLE_FL) >>> 0;
  if (wanted === was) return true;
  flags.writeUInt32LE(wanted);
  if (libc('ioctlPointer')(fd, FS_IOC_SETFLAGS, flags) !== -1) return true;
  const reason = errno();
  const { ENOTTY, ENOTSUP, EOPNOTSUPP } = constants.errno;
  if (reason === ENOTTY || reason === ENOTSUP || reason === EOPNOTSUPP) return false;
  throw sysError(reason, `${on ? 'set' : 'clear'} the immutable flag of a file`);
}
