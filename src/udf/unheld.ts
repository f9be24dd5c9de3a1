/** What UDF has no place for, told by path: each a finding, and marked for the sidecar. */
import type { Finding } from '../errors.ts';
import { FindingList } from '../findings.ts';
import { S_IFCHR, S_IFMT, type TreeNode } from '../tree/node.ts';
import { fitsTimestamp } from './timestamps.ts';

/** The kernel takes this owner for "none recorded" (`UDF_INVALID_ID`). */
const NO_OWNER = 0xffffffff;
/** `FileLinkCount` has 16 bits. */
export const MAX_LINKS = 0xffff;

/**
 * A character device 0:0 that a layer really holds. Inside UDF overlayfs makes half a whiteout of it: listed, but
 * not to be found. So it is left out, and the whiteout sidecar hides its name, as an EROFS layer does.
 */
export const isWhiteoutDevice = (node: TreeNode): boolean =>
  (node.mode & S_IFMT) === S_IFCHR && node.devMajor === 0 && node.devMinor === 0;

export class Unheld {
  readonly #findings = new FindingList('udf');
  readonly #lost = new FindingList('udf');
  /** Inodes that the volume holds with less than they have. */
  readonly partial = new Set<TreeNode>();
  /** Inodes that the volume lacks under one of their names at least: a sidecar needs their data too. */
  readonly missing = new Set<TreeNode>();

  /** Everything that the volume alone does not hold. */
  get findings(): Finding[] {
    return [...this.#findings.list(), ...this.lost];
  }

  /** What is not in the sidecars either. */
  get lost(): Finding[] {
    return this.#lost.list();
  }

  /** The volume has this inode, and `message` says what of it is lost. */
  addPartial(node: TreeNode, code: string, message: string, path: () => string): void {
    this.partial.add(node);
    this.#findings.add(code, message, undefined, path());
  }

  /** The volume has no such name. With `node` a directory, nothing below it either. */
  addMissing(node: TreeNode, code: string, message: string, path: () => string): void {
    this.#findings.add(code, `left out: ${message}`, undefined, path());
    const pending = [node];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      this.missing.add(next);
      if (next.children !== null) for (const child of next.children.values()) pending.push(child);
    }
  }

  /** Something that no sidecar can hold either. */
  addLost(code: string, message: string, path: () => string): void {
    this.#lost.add(code, message, undefined, path());
  }

  /** Everything about an inode but its name, its data and its link target. */
  checkAttributes(node: TreeNode, path: () => string): void {
    if (node.xattrs !== null) {
      const names = [...node.xattrs.keys()];
      const shown = names.slice(0, 8).join(', ') + (names.length > 8 ? ', ...' : '');
      this.addPartial(node, 'udf/xattrs', `UDF has no extended attributes: ${shown}`, path);
    }
    if (!fitsTimestamp(node.mtime, node.mtimeNsec)) {
      const time = `${node.mtime}.${String(node.mtimeNsec).padStart(9, '0')}`;
      const message = `modified at ${time}, UDF has microseconds of the years 1 to 9999`;
      this.addPartial(node, 'udf/time', message, path);
    }
    if (node.uid === NO_OWNER || node.gid === NO_OWNER) {
      const message = `owner ${node.uid}:${node.gid}, of which ${NO_OWNER} is nobody at all in UDF`;
      this.addPartial(node, 'udf/owner', message, path);
    }
    // most layers do not name their root, and nothing is above an image's
    if (node.implied && path() !== '') {
      const message = 'no entry describes this directory: in an overlay it hides the attributes it has below';
      this.addLost('udf/implied', message, path);
    }
  }
}
