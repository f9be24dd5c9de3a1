import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { applyLayers } from '../../test/support/reference-apply.ts';
import {
  anyLayers,
  buildLayer,
  describeNode,
  groupNames,
  mergeEntries,
  type Snapshot,
  snapshotReference,
  snapshotTree,
} from '../../test/support/tree-cases.ts';
import type { TarEntry } from '../tar/entry.ts';
import { type FileTree, mergeLayers, needsChain, resolveLayer, type TreeNode } from './index.ts';
import { S_IFDIR, S_IFMT } from './node.ts';

const RUNS = Number(process.env.VENEER_PROPERTY_RUNS ?? 3000);

function attempt<T>(work: () => T): T | null {
  try {
    return work();
  } catch (error) {
    if (error instanceof RangeError || error instanceof TypeError) throw error;
    return null;
  }
}

test('merged layers equal a naive application of their entries', () => {
  let meaningful = 0;
  fc.assert(
    fc.property(anyLayers, (layers) => {
      const expected = attempt(() => snapshotReference(applyLayers(layers)));
      const merged = attempt(() => snapshotTree(mergeEntries(layers)));
      if (expected !== null) meaningful++;
      assert.deepEqual(merged, expected);
    }),
    { numRuns: RUNS },
  );
  assert.ok(meaningful > RUNS / 4, `${meaningful} of ${RUNS} cases have a meaning`);
});

test('overlayfs over resolved layers equals the merge', () => {
  fc.assert(
    fc.property(anyLayers, (layers) => {
      const merged = attempt(() => snapshotTree(mergeEntries(layers)));
      fc.pre(merged !== null);
      assert.deepEqual(overlay(resolveAll(layers)), merged);
    }),
    { numRuns: RUNS / 3 },
  );
});

test('resolving leaves the layers below as they are', () => {
  fc.assert(
    fc.property(anyLayers, (layers) => {
      const below = attempt(() => mergeEntries(layers.slice(0, -1)));
      fc.pre(below !== null);
      const before = snapshotTree(below);
      attempt(() => resolveLayer(below, buildLayer(layers.at(-1)!, layers.length)));
      assert.deepEqual(snapshotTree(below), before);
    }),
    { numRuns: RUNS / 6 },
  );
});

/** Every layer on its own chain, bottom-up. */
function resolveAll(layers: readonly TarEntry[][]): FileTree[] {
  return layers.map((entries, number) => {
    const below = mergeLayers(layers.slice(0, number).map((lower, index) => buildLayer(lower, index)));
    const resolved = resolveLayer(below, buildLayer(entries, number));
    assert.equal(needsChain(resolved), false);
    return resolved;
  });
}

/** What overlayfs shows (Documentation/filesystems/overlayfs.rst), as said by the layers' own facts. */
function overlay(layers: readonly FileTree[]): Snapshot {
  const owner = new Map<TreeNode, FileTree>();
  const named: [string, TreeNode][] = [];
  const show = (path: string, stack: { node: TreeNode; tree: FileTree }[]): void => {
    const top = stack[0]!;
    named.push([path, top.node]);
    owner.set(top.node, top.tree);
    if ((top.node.mode & S_IFMT) !== S_IFDIR) return;
    const names = new Set(stack.flatMap(({ node }) => [...node.children!.keys()]));
    for (const name of names) {
      const below: { node: TreeNode; tree: FileTree }[] = [];
      for (const { node, tree } of stack) {
        if (node.whiteouts?.has(name)) break;
        const child = node.children!.get(name);
        if (child === undefined) continue;
        const isDir = (child.mode & S_IFMT) === S_IFDIR;
        if (below.length > 0 && !isDir) break;
        below.push({ node: child, tree });
        if (!isDir || child.opaque) break;
      }
      if (below.length > 0) show(path === '' ? name : `${path}/${name}`, below);
    }
  };
  const roots = [...layers].reverse().map((tree) => ({ node: tree.root, tree }));
  const opaque = roots.findIndex(({ node }) => node.opaque);
  show('', opaque < 0 ? roots : roots.slice(0, opaque + 1));
  return groupNames(named, (node) =>
    describeNode(node, owner.get(node)!.sources).replace(/ opaque| without .*/g, ''),
  );
}
