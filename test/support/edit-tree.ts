/** Trees changed as people change them. */
import fc from 'fast-check';
import { type FileTree, S_IFDIR, S_IFMT, type TreeNode } from '../../src/tree/node.ts';

export const edits = fc.array(fc.record({ what: fc.nat(14), where: fc.nat(1000), to: fc.nat(1000) }), {
  maxLength: 12,
});

interface Spot {
  readonly dir: TreeNode;
  readonly name: string;
  readonly node: TreeNode;
}

function spotsOf(root: TreeNode): Spot[] {
  const spots: Spot[] = [];
  const add = (dir: TreeNode): void => {
    for (const [name, node] of dir.children!) {
      spots.push({ dir, name, node });
      if (node.children !== null) add(node);
    }
  };
  add(root);
  return spots;
}

const holds = (dir: TreeNode, other: TreeNode): boolean =>
  dir === other || [...(dir.children?.values() ?? [])].some((child) => holds(child, other));

/** A copy with some of the things done that people do to trees. */
export function edit(tree: FileTree, list: readonly { what: number; where: number; to: number }[]): FileTree {
  const root = structuredClone(tree.root);
  for (const { what, where, to } of list) {
    const spots = spotsOf(root);
    if (spots.length === 0) break;
    const full = spots.filter(({ node }) => node.children !== null && node.children.size > 0);
    const some = what > 9 && full.length > 0 ? full : spots;
    const { dir, name, node } = some[where % some.length]!;
    const dirs = [root, ...spots.map((spot) => spot.node).filter((one) => one.children !== null)];
    const target = dirs[to % dirs.length]!;
    const isDir = (node.mode & S_IFMT) === S_IFDIR;
    const fresh = `new-${to}`;
    if (what === 0) dir.children!.delete(name);
    else if (what <= 3 && !holds(node, target) && !target.children!.has(name)) {
      dir.children!.delete(name);
      target.children!.set(name, node);
    } else if ((what <= 5 || what > 9) && !target.children!.has(fresh) && !holds(node, target)) {
      dir.children!.delete(name);
      target.children!.set(fresh, node);
    } else if (what === 6) node.mode ^= 0o111;
    else if (what === 7 && node.source >= 0 && node.at < 30_000) node.at += 512;
    else if (what === 8 && !isDir && !target.children!.has(fresh)) target.children!.set(fresh, node);
    else if (what === 9)
      dir.children!.set(name, structuredClone(isDir ? spots[to % spots.length]!.node : node));
  }
  return { ...tree, root };
}
