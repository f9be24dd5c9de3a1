/** Whiteout names (OCI image spec, layer.md, "Whiteouts") and what is left of them when a layer is complete. */
import { S_IFDIR, S_IFMT, type TreeNode } from './node.ts';

export const WHITEOUT_PREFIX = '.wh.';
/** Hides everything that lower layers have in this directory. */
export const OPAQUE_MARKER = '.wh..wh..opq';

export type WhiteoutName =
  | { readonly kind: 'remove'; readonly name: string }
  | { readonly kind: 'opaque' }
  /** aufs's own bookkeeping: `.wh..wh.aufs`, `.wh..wh.plnk`, `.wh..wh.orph` (aufs(5)). */
  | { readonly kind: 'internal' }
  /** Names nothing that could be removed. */
  | { readonly kind: 'invalid' };

/** `name` starts with {@link WHITEOUT_PREFIX}. */
export function parseWhiteout(name: string): WhiteoutName {
  if (name === OPAQUE_MARKER) return { kind: 'opaque' };
  const rest = name.slice(WHITEOUT_PREFIX.length);
  if (rest.startsWith(WHITEOUT_PREFIX)) return { kind: 'internal' };
  if (rest === '' || rest === '.' || rest === '..') return { kind: 'invalid' };
  return { kind: 'remove', name: rest };
}

/**
 * Settles the whiteouts of a complete layer, in whatever order its entries came.
 * They act on lower layers only: an entry of the same name stays, and as a
 * directory it starts from nothing. What is below an opaque directory has
 * nothing under it, so its own whiteouts say nothing and are dropped.
 */
export function settleWhiteouts(withWhiteouts: readonly TreeNode[], opaque: TreeNode[]): void {
  for (const dir of withWhiteouts) {
    if (dir.whiteouts === null) continue;
    for (const name of dir.whiteouts) {
      const child = dir.children!.get(name);
      if (child === undefined) continue;
      dir.whiteouts.delete(name);
      if ((child.mode & S_IFMT) !== S_IFDIR) continue;
      // The lower directory is gone, and with it what an implied one would have inherited.
      child.implied = false;
      child.opaque = true;
      opaque.push(child);
    }
    if (dir.whiteouts.size === 0) dir.whiteouts = null;
  }
  const settled = new Set<TreeNode>();
  for (const top of opaque) {
    if (settled.has(top)) continue;
    top.whiteouts = null;
    const dirs = [top];
    for (let dir = dirs.pop(); dir !== undefined; dir = dirs.pop()) {
      settled.add(dir);
      for (const child of dir.children!.values()) {
        if ((child.mode & S_IFMT) !== S_IFDIR) continue;
        child.whiteouts = null;
        child.opaque = false;
        child.implied = false;
        if (!settled.has(child)) dirs.push(child);
      }
    }
  }
}
