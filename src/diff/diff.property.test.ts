/** Whatever two trees are: the old one with the changes carried out is the new one, and nothing is said in vain. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { applyChanges, flatLines, flatten } from '../../test/support/apply-changes.ts';
import { SOURCE_BYTES, treeArbitrary } from '../../test/support/random-tree.ts';
import { bufferSource } from '../bytes/io.ts';
import { type FileTree, S_IFDIR, S_IFMT, type TreeNode } from '../tree/node.ts';
import type { Change } from './change.ts';
import { diffTrees } from './diff.ts';

const RUNS = Number(process.env.VENEER_PROPERTY_RUNS ?? 1500);

const data = bufferSource(SOURCE_BYTES);
const read = (_source: number, at: number, length: number): Buffer => data.read(at, length);

/** `known`: the same source under the same name on both sides, so that places can be compared. */
function compare(old: FileTree, now: FileTree, known: boolean, renames = true): Promise<Change[]> {
  const side = (tree: FileTree) => ({
    root: tree.root,
    sources: [known ? 'the bytes' : ''],
    data: () => data,
  });
  return diffTrees(side(old), side(now), {
    renames,
  });
}

const edits = fc.array(fc.record({ what: fc.nat(14), where: fc.nat(1000), to: fc.nat(1000) }), {
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
function edit(tree: FileTree, list: readonly { what: number; where: number; to: number }[]): FileTree {
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

async function check(old: FileTree, now: FileTree, known: boolean, renames: boolean): Promise<Change[]> {
  const changes = await compare(old, now, known, renames);
  const applied = applyChanges(flatten(old, read), changes, read);
  assert.deepEqual(flatLines(applied), flatLines(flatten(now, read)));
  const orders = changes.map(({ place }) => place.order);
  assert.deepEqual(
    orders,
    [...new Set(orders)].sort((a, b) => a - b),
  );
  return changes;
}

test('an edited tree: the changes lead to it', async () => {
  let [moved, linked] = [0, 0];
  await fc.assert(
    fc.asyncProperty(
      treeArbitrary(false),
      edits,
      fc.boolean(),
      fc.boolean(),
      async (tree, list, known, renames) => {
        const changes = await check(tree, edit(tree, list), known, renames);
        if (changes.some(({ names }) => names > 1)) moved++;
        if (changes.some(({ differs }) => differs.includes('links'))) linked++;
        if (!renames) assert.ok(changes.every(({ from }) => from === null));
      },
    ),
    { numRuns: RUNS },
  );
  assert.ok(moved > RUNS / 100, `${moved} of ${RUNS} cases move a directory`);
  assert.ok(linked > RUNS / 100, `${linked} of ${RUNS} cases regroup hard links`);
});

test('two trees that have nothing to do with each other', async () => {
  await fc.assert(
    fc.asyncProperty(treeArbitrary(false), treeArbitrary(false), fc.boolean(), async (old, now, known) => {
      await check(old, now, known, true);
    }),
    { numRuns: RUNS },
  );
});

test('a copy has no changes, wherever its bytes stand', async () => {
  await fc.assert(
    fc.asyncProperty(treeArbitrary(false), async (tree) => {
      assert.deepEqual(await compare(tree, edit(tree, []), false), []);
    }),
    { numRuns: RUNS / 3 },
  );
});
