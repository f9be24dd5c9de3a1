/** openat2(2): opens what is in a directory and nothing else, whoever moves things about meanwhile. */
import { closeSync, constants } from 'node:fs';
import { check, cString, showPath } from './error.ts';
import { libc } from './libc.ts';

/** openat2(2) on x86-64 and on arm64. */
const SYS_OPENAT2 = 437;
// <linux/openat2.h>
const RESOLVE_NO_MAGICLINKS = 0x02;
const RESOLVE_NO_SYMLINKS = 0x04;
const RESOLVE_BENEATH = 0x08;
const BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
const O_CLOEXEC = 0o2000000;
/** For paths that begin there: a descriptor of what may not be read is had, too. */
export const O_PATH = 0o10000000;
/** Bytes of a path that one call takes, with room to spare (PATH_MAX, linux/limits.h). */
const PATH_PIECE = 4000;

/**
 * Opens `path` (a byte string, relative, '' for the directory itself) below the open directory. No symbolic link is
 * followed on the way or at its end, and `..` never leads out: `sys/ELOOP`, `sys/EXDEV`. Paths may be longer than
 * PATH_MAX.
 *
 * @param flags `O_…` of node:fs
 */
export function openBeneath(directory: number, path: string, flags: number): number {
  if (path.length <= PATH_PIECE) return openPiece(directory, path, flags);
  const cut = path.lastIndexOf('/', PATH_PIECE);
  const between = openPiece(directory, path.slice(0, cut), O_PATH | constants.O_DIRECTORY);
  try {
    return openBeneath(between, path.slice(cut + 1), flags);
  } finally {
    closeSync(between);
  }
}

function openPiece(directory: number, path: string, flags: number): number {
  const bytes = Buffer.from(path === '' ? '.' : path, 'latin1');
  // struct open_how: flags, mode, resolve, each u64
  const how = Buffer.alloc(24);
  how.writeUInt32LE(flags | O_CLOEXEC, 0);
  how.writeUInt32LE(BENEATH, 16);
  const fd = libc('openat2')(SYS_OPENAT2, directory, cString(bytes), how, how.length);
  return check(fd, `open ${showPath(bytes)}`);
}
