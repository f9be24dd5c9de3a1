/**
 * Makes a layer's tree complete for overlayfs over one image a layer, where the
 * kernel looks at every layer for itself. docs/decisions/0007.
 */
import { Descent } from './descent.ts';
import { copyAttributes, findLinkTarget, mapSources, rewriteSources } from './merge.ts';
import { type DataSource, type FileTree, S_IFDIR, S_IFMT, TreeNode } from './node.ts';
import { joinPath } from './path.ts';
import { walkTree } from './walk.ts';

/**
 * Does what this layer shows depend on the layers below: directories nobody describes, or hard links into them?
 * Its root does not count: overlayfs shows only the topmost one, so callers look at that layer's `root.implied`.
 */
export function needsChain(layer: FileTree): boolean {
  const dirs = [layer.root];
  for (let dir = dirs.pop(); dir !== undefined; dir = dirs.pop()) {
    if (dir.implied && dir !== layer.root) return true;
    for (const child of dir.children!.values()) {
      if (child.lowerLink !== null) return true;
      if ((child.mode & S_IFMT) === S_IFDIR) dirs.push(child);
    }
  }
  return false;
}

/**
 * `layer` as it must be to lie on `below`, the merged tree of all layers under it.
 * Implied directories take their attributes from there. A hard link into it becomes
 * a copy of the inode, its data in the lower layer's source (added to `sources`),
 * and every name of that inode which still shows is repeated, so that all of them
 * are one inode in the mount too. Consumes `layer`; `below` stays as it is.
 */
export function resolveLayer(below: FileTree, layer: FileTree): FileTree {
  const sources: DataSource[] = [...layer.sources];
  const copies = new Map<TreeNode, TreeNode>();
  const descent = new Descent(below.root);
  const uppers = [layer.root];
  const lowers: (TreeNode | null)[] = [below.root];
  const paths = [''];
  for (let dir = uppers.pop(); dir !== undefined; dir = uppers.pop()) {
    const lower = lowers.pop()!;
    const path = paths.pop()!;
    if (dir.implied) {
      if (lower !== null) copyAttributes(lower, dir);
      dir.implied = false;
    }
    for (const [name, child] of dir.children!) {
      if ((child.mode & S_IFMT) === S_IFDIR) {
        const there = dir.opaque ? undefined : lower?.children?.get(name);
        uppers.push(child);
        lowers.push(there !== undefined && (there.mode & S_IFMT) === S_IFDIR ? there : null);
        paths.push(joinPath(path, name));
      } else if (child.lowerLink !== null) {
        const target = findLinkTarget(descent, child.lowerLink, joinPath(path, name));
        let copy = copies.get(target);
        if (copy === undefined) copies.set(target, (copy = copyFile(target, below.sources, sources)));
        dir.children!.set(name, copy);
      }
    }
  }
  if (copies.size > 0) {
    walkTree(below, (path, node) => {
      const copy = copies.get(node);
      if (copy !== undefined) repeatName(below.root, layer.root, path, copy);
    });
  }
  return { root: layer.root, sources, findings: layer.findings };
}

/** A new inode like `node`, its data references turned from `from` to `sources`. */
function copyFile(node: TreeNode, from: readonly DataSource[], sources: DataSource[]): TreeNode {
  const copy = new TreeNode(node.mode);
  copyAttributes(node, copy);
  copy.size = node.size;
  copy.devMajor = node.devMajor;
  copy.devMinor = node.devMinor;
  copy.target = node.target;
  copy.source = node.source;
  copy.at = node.at;
  copy.extents = node.extents;
  const used = new Set(node.extents?.map(({ source }) => source) ?? (node.source >= 0 ? [node.source] : []));
  if (used.size === 0) return copy;
  const indexes: number[] = [];
  for (const index of used) {
    const at = sources.indexOf(from[index]!);
    indexes[index] = at >= 0 ? at : mapSources(sources, [from[index]!])[0]!;
  }
  if (copy.extents !== null) copy.source = -1;
  rewriteSources(copy, indexes);
  return copy;
}

/** Gives `node` the name `path` in the layer too, unless the layer hides that name of the lower layers. */
function repeatName(below: TreeNode, layer: TreeNode, path: string, node: TreeNode): void {
  const parts = path.split('/');
  const name = parts.pop()!;
  let dir = layer;
  let known = 0;
  for (; known < parts.length; known++) {
    if (dir.opaque) return;
    const child = dir.children!.get(parts[known]!);
    if (child === undefined) break;
    if ((child.mode & S_IFMT) !== S_IFDIR) return;
    dir = child;
  }
  if (dir.opaque || dir.whiteouts?.has(known < parts.length ? parts[known]! : name)) return;
  if (known === parts.length && dir.children!.has(name)) return;
  let lower = below;
  for (let i = 0; i < parts.length; i++) {
    lower = lower.children!.get(parts[i]!)!;
    if (i < known) continue;
    const made = new TreeNode(S_IFDIR);
    copyAttributes(lower, made);
    dir.children!.set(parts[i]!, made);
    dir = made;
  }
  dir.children!.set(name, node);
}
