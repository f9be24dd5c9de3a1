/**
 * How a layer's facts are said in its image: the way overlayfs reads them where
 * it has one (whiteouts, opaque), and in attributes of our own where it has not
 * (implied parents, hard links to lower layers), so that the reader gets the
 * same tree back. A merged image has none of these.
 */
import { S_IFCHR, S_IFMT, TreeNode } from '../tree/node.ts';

/** Directory hides all of the lower layers (Documentation/filesystems/overlayfs.rst). */
export const XATTR_OPAQUE = 'trusted.overlay.opaque';
/** On parents of whiteouts, so that overlayfs reads them as merged directories and hides the whiteouts. */
const XATTR_ORIGIN = 'trusted.overlay.origin';
/** No layer entry names this directory. */
const XATTR_IMPLIED = 'trusted.veneer.implied';
/** On a character device 0:0 that a layer really holds, so that it is not read back as a whiteout. */
const XATTR_DEVICE = 'trusted.veneer.device';
/** An empty file that stands for a hard link to this path in a lower layer. */
const XATTR_LOWER_LINK = 'trusted.veneer.lower-link';

/** The inode that stands for every whiteout of an image: character device 0:0. */
export function makeWhiteoutNode(): TreeNode {
  return new TreeNode(S_IFCHR);
}

/** Is this inode what overlayfs takes for a whiteout? */
function looksLikeWhiteout(node: TreeNode): boolean {
  return (node.mode & S_IFMT) === S_IFCHR && node.devMajor === 0 && node.devMinor === 0;
}

/**
 * The attributes to store for `node`: its own and those that say its facts, in name order; null when there are none.
 * In a merged image a device 0:0 needs no mark: there are no whiteouts.
 */
export function storedXattrs(node: TreeNode, merged: boolean): ReadonlyMap<string, string> | null {
  const device = !merged && looksLikeWhiteout(node);
  if (!node.opaque && !node.implied && node.whiteouts === null && node.lowerLink === null && !device) {
    return node.xattrs;
  }
  const all = new Map(node.xattrs ?? []);
  if (node.opaque) all.set(XATTR_OPAQUE, 'y');
  if (node.whiteouts !== null) all.set(XATTR_ORIGIN, '');
  if (node.implied) all.set(XATTR_IMPLIED, '');
  if (device) all.set(XATTR_DEVICE, '');
  if (node.lowerLink !== null) all.set(XATTR_LOWER_LINK, node.lowerLink);
  return new Map([...all].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/**
 * The reverse: moves the facts out of `xattrs` into the node's fields; the rest
 * becomes `node.xattrs`. Returns false when the node is a whiteout and not a node at all.
 */
export function restoreFacts(node: TreeNode, xattrs: Map<string, string> | null, merged: boolean): boolean {
  if (xattrs === null) return merged || !looksLikeWhiteout(node);
  if (!merged && looksLikeWhiteout(node) && !xattrs.delete(XATTR_DEVICE)) return false;
  if (xattrs.delete(XATTR_IMPLIED)) node.implied = true;
  xattrs.delete(XATTR_ORIGIN);
  const opaque = xattrs.get(XATTR_OPAQUE);
  if (opaque !== undefined) {
    xattrs.delete(XATTR_OPAQUE);
    if (opaque === 'y') node.opaque = true;
  }
  const link = xattrs.get(XATTR_LOWER_LINK);
  if (link !== undefined) {
    xattrs.delete(XATTR_LOWER_LINK);
    node.lowerLink = link;
  }
  node.xattrs = xattrs.size === 0 ? null : xattrs;
  return true;
}
