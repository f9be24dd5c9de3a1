/** What can happen to a name between two trees, and how two inodes differ. */
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, type TreeNode } from '../tree/node.ts';
import { joinPath } from '../tree/path.ts';

/**
 * A name in the union of both trees. Linked to its parent instead of holding its path: the paths of a deep tree are
 * much longer together than the tree.
 */
export class Place {
  readonly parent: Place | null;
  /** Byte string; '' for the root. */
  readonly name: string;
  /** Its turn in a walk, depth-first, names of one directory sorted as bytes. */
  readonly order: number;
  /** 0 for the root. */
  readonly depth: number;

  constructor(parent: Place | null, name: string, order: number) {
    this.parent = parent;
    this.name = name;
    this.order = order;
    this.depth = parent === null ? 0 : parent.depth + 1;
  }

  /** Byte string from the root, without a leading slash; '' for the root. */
  path(): string {
    const names: string[] = [];
    for (let place: Place = this; place.parent !== null; place = place.parent) names.push(place.name);
    return names.reverse().reduce(joinPath, '');
  }
}

/** `type`: another kind of inode in the same place. `attributes`: the same data, only what stands around it differs. */
export type ChangeKind = 'added' | 'removed' | 'changed' | 'type' | 'renamed' | 'attributes';

export type Difference =
  | 'type'
  | 'content'
  | 'target'
  | 'device'
  | 'mode'
  | 'owner'
  | 'mtime'
  | 'xattrs'
  | 'links';

export interface Change {
  readonly kind: ChangeKind;
  /** In the new tree; in the old one for what was removed. */
  readonly place: Place;
  /** Where a renamed name was; null otherwise. */
  readonly from: Place | null;
  /** Null for what was added. */
  readonly old: TreeNode | null;
  /** Null for what was removed. */
  readonly new: TreeNode | null;
  /** In the order of {@link Difference}; empty for what was added or removed. */
  readonly differs: readonly Difference[];
  /** Another name of the same inode in the new tree, when the new name is a hard link that the old tree did not have. */
  readonly link: Place | null;
  /** A directory that moved with all that is in it: names that moved, its own included. 1 otherwise. */
  readonly names: number;
}

/** What differs but the content of regular files and hard links, which cannot be seen from two inodes alone. */
export function compareNodes(old: TreeNode, now: TreeNode, times: boolean): Difference[] {
  const differs: Difference[] = [];
  const type = now.mode & S_IFMT;
  if ((old.mode & S_IFMT) !== type) differs.push('type');
  else if (type === S_IFLNK && old.target !== now.target) differs.push('target');
  else if (
    (type === S_IFCHR || type === S_IFBLK) &&
    (old.devMajor !== now.devMajor || old.devMinor !== now.devMinor)
  ) {
    differs.push('device');
  }
  if (((old.mode ^ now.mode) & ~S_IFMT) !== 0) differs.push('mode');
  if (old.uid !== now.uid || old.gid !== now.gid) differs.push('owner');
  if (times && (old.mtime !== now.mtime || old.mtimeNsec !== now.mtimeNsec)) differs.push('mtime');
  if (!sameXattrs(old.xattrs, now.xattrs)) differs.push('xattrs');
  return differs;
}

function sameXattrs(a: Map<string, string> | null, b: Map<string, string> | null): boolean {
  if ((a?.size ?? 0) !== (b?.size ?? 0)) return false;
  for (const [name, value] of a ?? []) if (b!.get(name) !== value) return false;
  return true;
}

/** Is it a directory? */
export const isDirectory = (node: TreeNode): boolean => (node.mode & S_IFMT) === S_IFDIR;
