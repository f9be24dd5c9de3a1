/** Whatever two trees are: the old one with the changes carried out is the new one, and nothing is said in vain. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { applyChanges, flatLines, flatten } from '../../test/support/apply-changes.ts';
import { edit, edits } from '../../test/support/edit-tree.ts';
import { SOURCE_BYTES, treeArbitrary } from '../../test/support/random-tree.ts';
import { bufferSource } from '../bytes/io.ts';
import type { FileTree } from '../tree/node.ts';
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
