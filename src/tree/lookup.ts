/** Finds the inode that a path names. */
import { Descent } from './descent.ts';
import { type FileTree, S_IFDIR, S_IFLNK, S_IFMT, type TreeNode } from './node.ts';
import { splitPath } from './path.ts';

/**
 * The inode at `path`, or null when there is none. Symlinks on the way are
 * followed inside the tree; a symlink at the end only when `follow` is set.
 * `path` is a byte string seen from the root, with or without a leading slash;
 * `..` goes to the parent of where the path has led to, and stops at the root.
 * Throws `tree/invalid` after 40 symlinks.
 */
export function lookupPath(tree: FileTree, path: string, follow = false): TreeNode | null {
  return lookupParts(new Descent(tree.root), splitPath(path), follow);
}

/** The same with a descent that is kept from look-up to look-up, so that its limits cover all of them. */
export function lookupParts(descent: Descent, parts: readonly string[], follow: boolean): TreeNode | null {
  descent.start(parts);
  for (;;) {
    const last = descent.pending.shift();
    if (last === undefined) return descent.dir;
    if (descent.run() !== 'end') return null;
    if (last === '..') {
      descent.pending.push(last);
      descent.run();
      return descent.dir;
    }
    const child = descent.dir.children!.get(last);
    if (child === undefined) return null;
    const type = child.mode & S_IFMT;
    if (type === S_IFDIR) descent.enter(last, child);
    else if (type === S_IFLNK && follow) descent.follow(child);
    else return child;
  }
}
