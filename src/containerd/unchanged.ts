/**
 * What an overlayfs copied up and nobody changed: opening a file for writing, or touching something below a directory,
 * is enough for a copy in the upper directory. A layer that said it all again would only be larger.
 */
import { closeSync, constants, openSync, readlinkSync, readSync } from 'node:fs';
import { openBeneath } from '../sys/open-beneath.ts';
import { type FileFacts, statAt } from '../sys/stat.ts';
import { getXattr, listXattrs } from '../sys/xattr.ts';
import { fillPiece, type ReadData } from '../tree/file-data.ts';
import { type FileTree, S_IFLNK, S_IFMT, S_IFREG, type TreeNode } from '../tree/node.ts';
import { countLinks } from '../tree/walk.ts';

const { O_RDONLY, O_DIRECTORY, O_NONBLOCK } = constants;
const PIECE = 256 << 10;
/** Each level holds a descriptor; what is deeper stays as it is. */
const MAX_DEPTH = 100;
/** Overlayfs's own, which the lower directory may show when it is one itself. */
const OVERLAY_XATTR = /^(trusted|user)\.overlay\./;

/**
 * Takes out of `tree`, an upper directory, what the lower directory shows just so. A directory stays as long as
 * something is left in it; the root becomes implied when it says nothing new. Files with several names stay whole.
 */
export function dropUnchanged(tree: FileTree, read: ReadData, lower: string): void {
  const root = openSync(lower, O_RDONLY | O_DIRECTORY);
  try {
    const facts = statAt(root, '');
    // The root of an upper directory is made anew for each container: its time says nothing.
    const { mtime, mtimeNsec } = tree.root;
    const same =
      facts !== null && isSame(tree.root, { ...facts, mtime, mtimeNsec }, `/proc/self/fd/${root}/.`);
    new Pruner(countLinks(tree), read).prune(tree.root, root, 0);
    tree.root.implied = same && !tree.root.opaque;
  } finally {
    closeSync(root);
  }
}

class Pruner {
  readonly #links: ReadonlyMap<TreeNode, number>;
  readonly #read: ReadData;
  readonly #pieces = [Buffer.allocUnsafeSlow(PIECE), Buffer.allocUnsafeSlow(PIECE)] as const;

  constructor(links: ReadonlyMap<TreeNode, number>, read: ReadData) {
    this.#links = links;
    this.#read = read;
  }

  /** `lower`: the open directory that `dir` covers. */
  prune(dir: TreeNode, lower: number, depth: number): void {
    if (dir.opaque || depth > MAX_DEPTH) return;
    for (const [name, node] of dir.children!) {
      const facts = statAt(lower, name);
      if (facts === null) continue;
      const here = `/proc/self/fd/${lower}/${name}`;
      const same = isSame(node, facts, here);
      if (node.children !== null) {
        if (!this.#pruneBelow(node, lower, name, depth)) continue;
        if (same && node.children.size === 0 && node.whiteouts === null) dir.children!.delete(name);
      } else if (same && this.#links.get(node) === 1 && this.#hasSameBytes(node, lower, name)) {
        dir.children!.delete(name);
      }
    }
  }

  /** False where the directory covers nothing that is one. */
  #pruneBelow(node: TreeNode, lower: number, name: string, depth: number): boolean {
    if (node.opaque) return false;
    let fd: number;
    try {
      fd = openBeneath(lower, name, O_RDONLY | O_DIRECTORY);
    } catch {
      return false;
    }
    try {
      this.prune(node, fd, depth + 1);
    } finally {
      closeSync(fd);
    }
    return true;
  }

  #hasSameBytes(node: TreeNode, lower: number, name: string): boolean {
    if ((node.mode & S_IFMT) !== S_IFREG || node.size === 0) return true;
    const fd = openBeneath(lower, name, O_RDONLY | O_NONBLOCK);
    try {
      const [ours, theirs] = this.#pieces;
      for (let at = 0; at < node.size; at += PIECE) {
        const length = Math.min(PIECE, node.size - at);
        fillPiece(node, at, ours.subarray(0, length), this.#read);
        if (!readFully(fd, theirs, at, length)) return false;
        if (ours.compare(theirs, 0, length, 0, length) !== 0) return false;
      }
      return true;
    } finally {
      closeSync(fd);
    }
  }
}

function readFully(fd: number, into: Buffer, at: number, length: number): boolean {
  for (let done = 0; done < length; ) {
    const got = readSync(fd, into, done, length - done, at + done);
    if (got === 0) return false;
    done += got;
  }
  return true;
}

/** All but the bytes of regular files. */
function isSame(node: TreeNode, facts: FileFacts, here: string): boolean {
  const type = node.mode & S_IFMT;
  return (
    node.mode === facts.mode &&
    node.uid === facts.uid &&
    node.gid === facts.gid &&
    node.mtime === facts.mtime &&
    node.mtimeNsec === facts.mtimeNsec &&
    node.devMajor === facts.rdevMajor &&
    node.devMinor === facts.rdevMinor &&
    (type !== S_IFREG || node.size === facts.size) &&
    (type !== S_IFLNK || node.target === readlinkSync(Buffer.from(here, 'latin1'), { encoding: 'latin1' })) &&
    hasSameXattrs(node, Buffer.from(here, 'latin1'))
  );
}

function hasSameXattrs(node: TreeNode, here: Buffer): boolean {
  const names = listXattrs(here).filter((name) => !OVERLAY_XATTR.test(name));
  const xattrs = node.xattrs ?? new Map<string, string>();
  return names.length === xattrs.size && names.every((name) => getXattr(here, name) === xattrs.get(name));
}
