/** Fills a new directory with a whole tree. */
import { mkdirSync } from 'node:fs';
import type { Attributes } from '../rootfs/attributes.ts';
import type { Folder } from '../sys/folder.ts';
import { statAt } from '../sys/stat.ts';
import type { FileTree, TreeNode } from '../tree/node.ts';
import { countLinks } from '../tree/walk.ts';
import { linkTo, type Maker } from './maker.ts';
import type { Pace } from './pace.ts';
import { StatIndex } from './stat-index.ts';

interface Frame {
  readonly folder: Folder;
  readonly node: TreeNode;
  readonly name: string;
  /** From the root, byte string; '' for it. */
  readonly path: string;
  /** Still to do, the next one last. */
  readonly names: string[];
}

export interface Filled {
  readonly index: StatIndex;
  /** Names that were made. */
  readonly names: number;
}

/** Makes all of `tree` in the empty directory `name` of `parent`, which gets the attributes of the root. */
export async function fillDirectory(
  parent: Folder,
  name: string,
  tree: FileTree,
  maker: Maker,
  attributes: Attributes,
  pace: Pace,
): Promise<Filled> {
  const links = countLinks(tree);
  const index = StatIndex.make(countNames(links));
  /** Inodes with more names: where the first is, and the numbers of all. */
  const groups = new Map<TreeNode, { readonly first: readonly string[]; readonly orders: number[] }>();
  const root = parent.enter(name);
  const stack: Frame[] = [enter(root, tree.root, name, '')];
  let order = 0;
  let names = 1;
  try {
    for (let frame = stack.at(-1); frame !== undefined; frame = stack.at(-1)) {
      const child = frame.names.pop();
      if (child === undefined) {
        // The root is opened once more: its own descriptor is needed until the end.
        stack.pop();
        const above = stack.at(-1)?.folder ?? parent;
        attributes.apply(above.at(frame.name), `/${frame.path}`, frame.node);
        if (frame.folder !== root) frame.folder.close();
        continue;
      }
      const node = frame.node.children!.get(child)!;
      const path = frame.path === '' ? child : `${frame.path}/${child}`;
      order++;
      names++;
      if (node.children !== null) {
        // Nobody else gets in before owner and mode are set.
        mkdirSync(frame.folder.at(child), { mode: 0o700 });
        stack.push(enter(frame.folder.enter(child), node, child, path));
      } else {
        const group = groups.get(node);
        if (group !== undefined) {
          linkTo(root, group.first, frame.folder, child);
          group.orders.push(order);
        } else if (!maker.make(frame.folder, child, node, `/${path}`)) {
          names--;
        } else if (links.get(node)! > 1) {
          groups.set(node, { first: [...stack.slice(1).map((one) => one.name), child], orders: [order] });
        } else {
          index.note(order, statAt(frame.folder.fd, child)!);
        }
      }
      await pace.step(maker.counts.bytes);
    }
    noteGroups(root, groups.values(), index);
    return { index, names };
  } finally {
    for (const { folder } of stack) if (folder !== root) folder.close();
    root.close();
  }
}

const enter = (folder: Folder, node: TreeNode, name: string, path: string): Frame => ({
  folder,
  node,
  name,
  path,
  names: [...node.children!.keys()].sort().reverse(),
});

/** Every further name of an inode changes its change time. */
function noteGroups(
  root: Folder,
  groups: Iterable<{ readonly first: readonly string[]; readonly orders: readonly number[] }>,
  index: StatIndex,
): void {
  for (const { first, orders } of groups) {
    const opened: Folder[] = [];
    try {
      let at = root;
      for (const part of first.slice(0, -1)) opened.push((at = at.enter(part)));
      const facts = statAt(at.fd, first.at(-1)!);
      if (facts !== null) for (const order of orders) index.note(order, facts);
    } catch {
      // A directory whose modes keep us out: then nothing is known of what is in it.
    } finally {
      for (const folder of opened) folder.close();
    }
  }
}

/** All names of a tree, the root's included. */
export function countNames(links: ReadonlyMap<TreeNode, number>): number {
  let names = 0;
  for (const [node, count] of links) names += node.children === null ? count : 1;
  return names;
}
