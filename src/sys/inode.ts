/** What node:fs cannot do to an inode: special files, times in nanoseconds, exchanging renames, reflinks. */
import { constants } from 'node:os';
import { check, cString, type SysPath, showPath, sysError } from './error.ts';
import { errno, libc } from './libc.ts';

// <fcntl.h>
const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
// <linux/fs.h>
const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;
const FICLONE = 0x40049409;
const FICLONERANGE = 0x4020940d;

/** Seconds since the epoch (may be negative) and 0..999_999_999 nanoseconds counted forward from them. */
export interface Timestamp {
  readonly seconds: number;
  readonly nanoseconds: number;
}

/**
 * mknod(2): a FIFO, socket, character or block device, or empty file.
 *
 * @param mode type and permission bits; the umask applies
 */
export function makeNode(path: SysPath, mode: number, major: number, minor: number): void {
  check(libc('mknod')(cString(path), mode, makeDevice(major, minor)), `make the node ${showPath(path)}`);
}

/** A device number as makedev(3) packs it; sums, because its upper half is out of reach for shifts. */
export function makeDevice(major: number, minor: number): number {
  const low = (minor & 0xff) + (major & 0xfff) * 0x100;
  const minorHigh = Math.floor(minor / 0x100) * 0x100000;
  const majorHigh = Math.floor(major / 0x1000) * 0x1000 * 0x1_0000_0000;
  return low + minorHigh + majorHigh;
}

/** Sets access and modification time to the nanosecond, never following a final symlink. */
export function setTimes(path: SysPath, accessed: Timestamp, modified: Timestamp): void {
  // struct timespec[2]: tv_sec and tv_nsec, 8 bytes each
  const times = Buffer.alloc(32);
  times.writeBigInt64LE(BigInt(accessed.seconds), 0);
  times.writeUInt32LE(accessed.nanoseconds, 8);
  times.writeBigInt64LE(BigInt(modified.seconds), 16);
  times.writeUInt32LE(modified.nanoseconds, 24);
  const result = libc('utimensat')(AT_FDCWD, cString(path), times, AT_SYMLINK_NOFOLLOW);
  check(result, `set the times of ${showPath(path)}`);
}

/** Swaps two existing names in one step. */
export function exchangeNames(a: SysPath, b: SysPath): void {
  const result = libc('renameat2')(AT_FDCWD, cString(a), AT_FDCWD, cString(b), RENAME_EXCHANGE);
  check(result, `exchange ${showPath(a)} and ${showPath(b)}`);
}

/** Renames unless the new name exists: `sys/EEXIST`. */
export function renameNew(from: SysPath, to: SysPath): void {
  const result = libc('renameat2')(AT_FDCWD, cString(from), AT_FDCWD, cString(to), RENAME_NOREPLACE);
  check(result, `rename ${showPath(from)} to ${showPath(to)}`);
}

/** Makes `target` share all blocks of `source` (both open files). `sys/ENOTSUP`, `sys/EXDEV`, `sys/EINVAL`: not here. */
export function cloneFile(source: number, target: number): void {
  check(libc('ioctlValue')(target, FICLONE, source), `share the blocks of file descriptor ${source}`);
}

/**
 * Makes a range of `target` share the blocks of a range of `source`; all numbers are bytes and multiples of the file
 * system's block size. False when this cannot be done here (another file system, or one without reflinks).
 */
export function cloneRange(
  source: number,
  sourceAt: number,
  length: number,
  target: number,
  targetAt: number,
): boolean {
  // struct file_clone_range: src_fd s64, src_offset, src_length, dest_offset u64
  const range = Buffer.alloc(32);
  range.writeBigInt64LE(BigInt(source), 0);
  range.writeBigUInt64LE(BigInt(sourceAt), 8);
  range.writeBigUInt64LE(BigInt(length), 16);
  range.writeBigUInt64LE(BigInt(targetAt), 24);
  if (libc('ioctlPointer')(target, FICLONERANGE, range) !== -1) return true;
  const reason = errno();
  const { ENOTSUP, EOPNOTSUPP, EXDEV, EINVAL, ENOTTY, ENOSYS, EPERM, ETXTBSY } = constants.errno;
  if ([ENOTSUP, EOPNOTSUPP, EXDEV, EINVAL, ENOTTY, ENOSYS, EPERM, ETXTBSY].includes(reason)) return false;
  throw sysError(reason, 'share blocks between files');
}
