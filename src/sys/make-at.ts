/**
 * Making and describing what stands in an open directory: openat(2) and its kin. Names are byte strings without `/`,
 * and no name is ever followed: a symlink in the place of a directory or file is an error.
 */
import { constants } from 'node:fs';
import { putByteString } from '../bytes/byte-string.ts';
import { check, cString, showPath } from './error.ts';
import { makeDevice } from './inode.ts';
import { errno, libc } from './libc.ts';

// <fcntl.h>
const AT_SYMLINK_NOFOLLOW = 0x100;
const O_CLOEXEC = 0o2000000;
const { O_CREAT, O_EXCL, O_WRONLY, O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
/** <asm-generic/errno-base.h> */
const EEXIST = 17;

/** Calls copy what they are given, so one buffer an argument serves them all. */
const names = [Buffer.alloc(4096), Buffer.alloc(4096)] as const;
const times = Buffer.alloc(32);

function bytesOf(text: string, which: 0 | 1 = 0): Buffer {
  const buffer = names[which];
  if (text.length >= buffer.length || text.includes('\0')) return cString(Buffer.from(text, 'latin1'));
  buffer[putByteString(buffer, 0, text)] = 0;
  return buffer;
}

const show = (name: string): string => showPath(Buffer.from(name, 'latin1'));

/** False when there is something of that name already. */
export function makeDirectoryAt(dir: number, name: string, mode: number): boolean {
  const result = libc('mkdirat')(dir, bytesOf(name), mode);
  if (result === -1 && errno() === EEXIST) return false;
  check(result, `make the directory ${show(name)}`);
  return true;
}

/** The open directory `name`; `sys/ENOTDIR` for anything else. */
export function openDirectoryAt(dir: number, name: string): number {
  const flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  return check(libc('openat')(dir, bytesOf(name), flags, 0), `open the directory ${show(name)}`);
}

/** A new file, open for writing; `sys/EEXIST` when the name is taken, by a symlink too. The umask applies. */
export function createFileAt(dir: number, name: string, mode: number): number {
  const flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  return check(libc('openat')(dir, bytesOf(name), flags, mode), `make the file ${show(name)}`);
}

export function symlinkAt(target: string, dir: number, name: string): void {
  check(libc('symlinkat')(bytesOf(target, 1), dir, bytesOf(name)), `make the symbolic link ${show(name)}`);
}

/** Another name of an inode; of a symlink itself when that is what it is. */
export function linkAt(fromDir: number, from: string, dir: number, name: string): void {
  check(libc('linkat')(fromDir, bytesOf(from, 1), dir, bytesOf(name), 0), `make the hard link ${show(name)}`);
}

/** As `makeNode`: type and permission bits in `mode`. */
export function makeNodeAt(dir: number, name: string, mode: number, major: number, minor: number): void {
  check(libc('mknodat')(dir, bytesOf(name), mode, makeDevice(major, minor)), `make the node ${show(name)}`);
}

export function setOwnerAt(dir: number, name: string, uid: number, gid: number): void {
  const result = libc('fchownat')(dir, bytesOf(name), uid, gid, AT_SYMLINK_NOFOLLOW);
  check(result, `change the owner of ${show(name)}`);
}

/** Access and modification time of `name`, or with null of the open file `dir` itself. */
export function setTimesAt(dir: number, name: string | null, seconds: number, nanoseconds: number): void {
  // struct timespec[2]: tv_sec and tv_nsec, 8 bytes each
  const high = Math.floor(seconds / 0x1_0000_0000);
  for (const at of [0, 16]) {
    times.writeUInt32LE(seconds - high * 0x1_0000_0000, at);
    times.writeInt32LE(high, at + 4);
    times.writeUInt32LE(nanoseconds, at + 8);
  }
  // glibc's utimensat takes no null for the path.
  const result =
    name === null
      ? libc('futimens')(dir, times)
      : libc('utimensat')(dir, bytesOf(name), times, AT_SYMLINK_NOFOLLOW);
  check(result, `set the times${name === null ? '' : ` of ${show(name)}`}`);
}

/** An attribute of an open file or directory; name and value are byte strings. */
export function setXattrOf(fd: number, name: string, value: string): void {
  const bytes = Buffer.from(value, 'latin1');
  check(libc('fsetxattr')(fd, bytesOf(name), bytes, bytes.length, 0), `set the attribute ${show(name)}`);
}
