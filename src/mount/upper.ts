/** The writable layer: where it may be, who uses it, and what a new one must look like. */
import { chmodSync, chownSync, closeSync, fstatSync, openSync, realpathSync, statfsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { VeneerError } from '../errors.ts';
import { flock } from '../sys/flock.ts';
import { setTimes } from '../sys/inode.ts';
import { makeDirectory } from '../sys/make-directory.ts';
import { getXattr, listXattrs, setXattr } from '../sys/xattr.ts';
import { findUpperUser, judgeRecord } from './alive.ts';
import { listEntries, readRecord } from './entry.ts';
import { readMountInfo } from './mountinfo.ts';

// <linux/magic.h>: file systems that overlayfs refuses as an upper layer, or accepts and then breaks on.
const UNSUITABLE: Readonly<Record<number, string>> = {
  2035054128: 'overlayfs',
  3774210530: 'EROFS, which is read-only',
  1936814952: 'squashfs, which is read-only',
  26985: 'NFS',
  1702057286: 'FUSE',
  19780: 'FAT',
  538032816: 'exFAT',
  16914839: '9p',
  4283649346: 'SMB',
  4266872130: 'SMB',
};
const HINT = 'Give --rw=UPPER a directory on a local file system such as ext4, XFS, Btrfs or tmpfs.';

export const upperPath = (directory: string): string => join(directory, 'upper');
export const workPath = (directory: string): string => join(directory, 'work');

export interface PreparedUpper {
  /** Symlinks resolved. */
  readonly directory: string;
  /** Descriptor that holds the lock; to be closed once the overlay is mounted. */
  readonly fd: number;
  /** `upper` was made just now. */
  readonly fresh: boolean;
}

/**
 * Makes `directory` and its `upper` and `work` where missing, and locks it against other mounts being made.
 *
 * @param runDir whose records may know a mount that uses it
 */
export function prepareUpper(directory: string, runDir: string): PreparedUpper {
  let real: string;
  try {
    makeDirectory(resolve(directory), 0o700);
    real = realpathSync(directory);
  } catch (cause) {
    throw new VeneerError(
      'mount/bad-upper',
      `Cannot keep changes in ${directory}: ${(cause as Error).message}`,
      {
        hint: HINT,
        cause,
      },
    );
  }
  checkFileSystem(real);
  const fd = openSync(real, 'r');
  try {
    if (!flock(fd, 'exclusive', { block: false })) throw upperInUse(real, 'a mount that is being made');
    const user = findUser(real, runDir);
    if (user !== null) throw upperInUse(real, `the mount at ${user}`);
    makeDirectory(workPath(real), 0o700);
    const fresh = makeDirectory(upperPath(real), 0o700).length > 0;
    return { directory: real, fd, fresh };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Where an overlay that writes into `directory` is mounted: by the kernel's list, or by our records. */
function findUser(directory: string, runDir: string): string | null {
  const mounts = readMountInfo();
  const known = findUpperUser(upperPath(directory), mounts);
  if (known !== undefined) return known.target;
  for (const id of listEntries(runDir)) {
    const record = readRecord(runDir, id);
    if (record?.upper === directory && judgeRecord(record, mounts) !== 'stale') return record.target;
  }
  return null;
}

function upperInUse(directory: string, by: string): VeneerError {
  return new VeneerError('mount/upper-in-use', `Cannot keep changes in ${directory}: ${by} uses it`, {
    hint: 'Two mounts cannot share one upper directory: unmount the other, or give another directory.',
  });
}

/** Throws `mount/bad-upper` when overlayfs cannot write to the file system of `directory`. */
export function checkFileSystem(directory: string): void {
  const type = UNSUITABLE[statfsSync(directory).type >>> 0];
  if (type === undefined) return;
  throw new VeneerError('mount/bad-upper', `Cannot keep changes in ${directory}: it is on ${type}`, {
    hint: HINT,
  });
}

/**
 * Gives a new upper directory the attributes of the image's root, which it covers.
 *
 * @param lower descriptor of the topmost lower mount
 */
export function copyRootAttributes(lower: number, upper: string): void {
  const stats = fstatSync(lower, { bigint: true });
  const root = `/proc/self/fd/${lower}/.`;
  for (const name of listXattrs(root)) {
    // overlayfs's own facts are about the layer they stand in.
    if (name.startsWith('trusted.overlay.')) continue;
    const value = getXattr(root, name);
    if (value !== null) setXattr(upper, name, value);
  }
  chownSync(upper, Number(stats.uid), Number(stats.gid));
  chmodSync(upper, Number(stats.mode & 0o7777n));
  const billion = 1_000_000_000n;
  const nanoseconds = ((stats.mtimeNs % billion) + billion) % billion;
  const modified = {
    seconds: Number((stats.mtimeNs - nanoseconds) / billion),
    nanoseconds: Number(nanoseconds),
  };
  setTimes(upper, modified, modified);
}
