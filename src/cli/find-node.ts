/** Finds a path in an open image, or says exactly why it cannot be found. */
import { displayByteString } from '../bytes/byte-string.ts';
import { VeneerError } from '../errors.ts';
import { lookupPath } from '../tree/lookup.ts';
import { S_IFDIR, type TreeNode } from '../tree/node.ts';
import { isType, typeName } from './node-facts.ts';
import type { OpenImage } from './open-image.ts';

/** `path` is a byte string. @throws VeneerError `tree/not-found`, or `tree/invalid` on a loop of symlinks. */
export function findNode(image: OpenImage, path: string, follow: boolean): TreeNode {
  const wantsDirectory = path.length > 1 && path.endsWith('/');
  const node = lookupPath(image.tree, path, follow || wantsDirectory);
  if (node !== null && !(wantsDirectory && !isType(node, S_IFDIR))) return node;
  throw new VeneerError(
    'tree/not-found',
    `Cannot find ${displayByteString(path)} in ${image.name}: ${whyMissing(image, path)}`,
  );
}

function whyMissing(image: OpenImage, path: string): string {
  const parts = path.split('/').filter((part) => part !== '');
  let done = '';
  for (const part of parts) {
    const here = lookupPath(image.tree, done, true);
    if (here !== null && !isType(here, S_IFDIR))
      return `${displayByteString(done)} is a ${typeName(here)}, not a directory`;
    const next = `${done}/${part}`;
    const link = lookupPath(image.tree, next, false);
    if (link === null)
      return `${done === '' ? 'the root' : displayByteString(done)} has no "${displayByteString(part)}"`;
    if (lookupPath(image.tree, next, true) === null) {
      return `${displayByteString(next)} is a symlink to ${displayByteString(link.target)}, which is not in the image`;
    }
    done = next;
  }
  const last = lookupPath(image.tree, done, true);
  return `it is a ${last === null ? 'dangling symlink' : typeName(last)}, not a directory`;
}
