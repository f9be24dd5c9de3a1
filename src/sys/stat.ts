/** statx(2) of names in an open directory: exact times and numbers, several times as fast as node:fs with BigInts. */
import { putByteString } from '../bytes/byte-string.ts';
import { check, cString, showPath } from './error.ts';
import { errno, libc } from './libc.ts';

// <fcntl.h>, <linux/stat.h>
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_EMPTY_PATH = 0x1000;
const STATX_BASIC_STATS = 0x7ff;
/** `ENOENT`, <asm-generic/errno-base.h> */
const ENOENT = 2;

/** One inode as the kernel describes it. Times: seconds since the epoch, and 0..999_999_999 nanoseconds from there. */
export interface FileFacts {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  /** Bytes. */
  readonly size: number;
  readonly mtime: number;
  readonly mtimeNsec: number;
  readonly ctime: number;
  readonly ctimeNsec: number;
  /** Equal for names of one inode, on whatever file system; overlayfs uses all 64 bits. */
  readonly inode: bigint;
  /** Of the file system: major and minor number. */
  readonly device: readonly [number, number];
  /** Of a device node. */
  readonly rdevMajor: number;
  readonly rdevMinor: number;
}

const scratch = Buffer.alloc(256);
const name = Buffer.alloc(4096);

/** The facts of `path` (a byte string) in the open directory, or of that itself with ''; null when there is none. */
export function statAt(directory: number, path: string): FileFacts | null {
  let bytes: Buffer = name;
  if (path.length < name.length && !path.includes('\0')) name[putByteString(name, 0, path)] = 0;
  else bytes = cString(Buffer.from(path, 'latin1'));
  const flags = AT_SYMLINK_NOFOLLOW | (path === '' ? AT_EMPTY_PATH : 0);
  const result = libc('statx')(directory, bytes, flags, STATX_BASIC_STATS, scratch);
  if (result === -1) {
    if (errno() === ENOENT) return null;
    check(result, `look at ${showPath(Buffer.from(path, 'latin1'))}`);
  }
  // struct statx, <linux/stat.h>
  return {
    nlink: scratch.readUInt32LE(16),
    uid: scratch.readUInt32LE(20),
    gid: scratch.readUInt32LE(24),
    mode: scratch.readUInt16LE(28),
    inode: scratch.readBigUInt64LE(32),
    size: scratch.readUInt32LE(40) + scratch.readUInt32LE(44) * 0x1_0000_0000,
    ctime: readSeconds(96),
    ctimeNsec: scratch.readUInt32LE(104),
    mtime: readSeconds(112),
    mtimeNsec: scratch.readUInt32LE(120),
    rdevMajor: scratch.readUInt32LE(128),
    rdevMinor: scratch.readUInt32LE(132),
    device: [scratch.readUInt32LE(136), scratch.readUInt32LE(140)],
  };
}

function readSeconds(at: number): number {
  return scratch.readUInt32LE(at) + scratch.readInt32LE(at + 4) * 0x1_0000_0000;
}
