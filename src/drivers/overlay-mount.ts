/** An overlayfs over directories, on a bundle's root file system. */
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { readMountInfo } from '../mount/mountinfo.ts';
import { explainMountError } from '../mount/privilege.ts';
import { checkFileSystem, copyRootAttributes, upperPath, workPath } from '../mount/upper.ts';
import { makeDirectory } from '../sys/make-directory.ts';
import { detachMount, MAX_MOUNT_DATA, mountOld } from '../sys/mount-api.ts';

/** Where a bundle keeps what is written to its root file system. */
export const overlayFolder = (bundle: string): string => join(bundle, 'overlay');

const SOURCE = 'veneer-layers';
/** A path that overlayfs takes as it is, in every kernel's way of escaping. */
const PLAIN_PATH = /^[\w./@%=+-]+$/;

/** Mounts `lowers`, lowest first, with the bundle's own upper directory on `target`. */
export function mountOverlay(lowers: readonly string[], bundle: string, target: string): void {
  const folder = overlayFolder(bundle);
  makeDirectory(folder, 0o700);
  checkFileSystem(folder);
  makeDirectory(workPath(folder), 0o700);
  const fresh = makeDirectory(upperPath(folder), 0o700).length > 0;
  makeDirectory(target, 0o755);
  const open: number[] = [];
  try {
    const top = openSync(lowers.at(-1)!, 'r');
    open.push(top);
    if (fresh) copyRootAttributes(top, upperPath(folder));
    const named = dataOf(lowers, folder, (path) => path);
    const isPlain = [...lowers, folder].every((path) => PLAIN_PATH.test(path));
    const data =
      isPlain && named.length <= MAX_MOUNT_DATA
        ? named
        : dataOf(lowers, folder, (path) => {
            open.push(openSync(path, 'r'));
            return `/proc/self/fd/${open.at(-1)}`;
          });
    explainMountError(() => mountOld(SOURCE, target, 'overlay', 0, data), 'the overlay');
  } finally {
    for (const fd of open) closeSync(fd);
  }
}

function dataOf(lowers: readonly string[], folder: string, name: (path: string) => string): string {
  const stack = lowers.toReversed().map(name).join(':');
  const [upper, work] = [upperPath(folder), workPath(folder)].map(name);
  return `lowerdir=${stack},upperdir=${upper},workdir=${work},redirect_dir=nofollow,metacopy=off`;
}

/** Takes such an overlay off `target`, if there is one. */
export function unmountOverlay(target: string): void {
  const top = readMountInfo().findLast((mount) => mount.target === target);
  if (top?.source === SOURCE) detachMount(target, { lazy: true });
}
