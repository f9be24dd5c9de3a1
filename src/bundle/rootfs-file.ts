/** Small files of an unpacked root file system, whose symlinks mean its own root and must not lead out of it. */
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readlinkSync,
  readSync,
  type Stats,
} from 'node:fs';
import { join } from 'node:path';
import { VeneerError } from '../errors.ts';

/** As many as the kernel follows (path_resolution(7)). */
const MAX_SYMLINKS = 40;
/** /etc/passwd of a site with a million users. */
const MAX_BYTES = 64 << 20;

/**
 * The text of `path` below `rootfs`, or "" when there is none. Nobody may change the tree meanwhile: a link that comes
 * after the look at it would be followed. Throws `oci/invalid` for what is no regular file, `oci/limit`.
 */
export function readRootfsFile(rootfs: string, path: string): string {
  const real = resolveBelow(rootfs, path);
  if (real === null) return '';
  const file = openSync(real, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const stats = fstatSync(file);
    if (!stats.isFile())
      throw new VeneerError('oci/invalid', `Cannot read ${path} in ${rootfs}: it is not a regular file`);
    if (stats.size > MAX_BYTES)
      throw new VeneerError('oci/limit', `Cannot read ${path} in ${rootfs}: more than ${MAX_BYTES} bytes`);
    const bytes = Buffer.alloc(stats.size);
    return bytes.toString('utf8', 0, readSync(file, bytes, 0, bytes.length, 0));
  } finally {
    closeSync(file);
  }
}

/** Follows every link as a process would whose root is `root`; null when something is missing. */
function resolveBelow(root: string, path: string): string | null {
  const pending = path.split('/').reverse();
  const done: string[] = [];
  let links = 0;
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (name === '' || name === '.') continue;
    if (name === '..') {
      done.pop();
      continue;
    }
    const here = join(root, ...done, name);
    const stats = lookAt(here);
    if (stats === null) return null;
    if (!stats.isSymbolicLink()) {
      done.push(name);
      continue;
    }
    if (++links > MAX_SYMLINKS)
      throw new VeneerError(
        'oci/invalid',
        `Cannot read ${path} in ${root}: too many levels of symbolic links`,
      );
    const target = readlinkSync(here);
    if (target.startsWith('/')) done.length = 0;
    pending.push(...target.split('/').reverse());
  }
  return join(root, ...done);
}

/** Null when there is nothing, or a file is where a directory would have to be. */
function lookAt(path: string): Stats | null {
  try {
    return lstatSync(path);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return null;
    throw error;
  }
}
