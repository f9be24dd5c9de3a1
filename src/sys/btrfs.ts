/** Subvolumes of btrfs, by ioctl as in <linux/btrfs.h>. */
import { closeSync, constants, openSync, statfsSync, statSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { VeneerError } from '../errors.ts';
import { check } from './error.ts';
import { libc } from './libc.ts';

/** <linux/magic.h> */
const BTRFS_SUPER_MAGIC = 0x9123683e;
/** Inode number of every subvolume's root, <linux/btrfs_tree.h>: BTRFS_FIRST_FREE_OBJECTID. */
const SUBVOLUME_INODE = 256;
// Each takes 4096 bytes: a descriptor, for the second also flags at 16, and a name at the end.
const SUBVOL_CREATE = 0x5000940e;
const SNAP_DESTROY = 0x5000940f;
const SNAP_CREATE_V2 = 0x50009417;
const SUBVOL_RDONLY = 2;
const NAME_AT = 8;
const NAME_AT_V2 = 56;

/** Is `path` on a btrfs? */
export function isBtrfs(path: string): boolean {
  return statfsSync(path).type >>> 0 === BTRFS_SUPER_MAGIC;
}

/** Is it the root of a subvolume or snapshot? */
export function isSubvolume(path: string): boolean {
  const stats = statSync(path, { throwIfNoEntry: false });
  return stats?.ino === SUBVOLUME_INODE && stats.isDirectory() && isBtrfs(path);
}

/** Makes an empty subvolume. `sys/EEXIST`: the name is taken. */
export function createSubvolume(path: string): void {
  change(path, `make the subvolume ${path}`, SUBVOL_CREATE, NAME_AT);
}

/** Makes a snapshot in one step; all that was written to `source` before is in it. `sys/EEXIST`: the name is taken. */
export function createSnapshot(source: string, path: string, options: { readonly: boolean }): void {
  const fd = openSync(source, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    change(path, `make the snapshot ${path} of ${source}`, SNAP_CREATE_V2, NAME_AT_V2, (args) => {
      args.writeBigInt64LE(BigInt(fd), 0);
      args.writeUInt32LE(options.readonly ? SUBVOL_RDONLY : 0, 16);
    });
  } finally {
    closeSync(fd);
  }
}

/** Removes a subvolume with all that is in it, but not with subvolumes in it. */
export function destroySubvolume(path: string): void {
  change(path, `remove the subvolume ${path}`, SNAP_DESTROY, NAME_AT);
}

function change(
  path: string,
  what: string,
  request: number,
  nameAt: number,
  fill: (args: Buffer) => void = () => {},
): void {
  const args = Buffer.alloc(4096);
  const name = Buffer.from(basename(path), 'utf8');
  if (name.length > 255) throw new VeneerError('sys/EINVAL', `Cannot ${what}: its name is too long`);
  fill(args);
  name.copy(args, nameAt);
  const parent = openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    check(libc('ioctlPointer')(parent, request, args), what);
  } finally {
    closeSync(parent);
  }
}
