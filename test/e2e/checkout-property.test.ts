/** Whatever two trees are: updated from one to the other is the other, checked out. */
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { checkOut } from '../../src/checkout/checkout.ts';
import { pullImage } from '../../src/store/pull.ts';
import type { ImageRecord } from '../../src/store/records.ts';
import { Store } from '../../src/store/store.ts';
import { fillPiece } from '../../src/tree/file-data.ts';
import { layerTar } from '../../src/tree/layer-tar.ts';
import { type FileTree, S_IFIFO, S_IFMT, S_IFSOCK } from '../../src/tree/node.ts';
import { namesOf } from '../../src/tree/walk.ts';
import { edit, edits } from '../support/edit-tree.ts';
import { buildImage, memorySource } from '../support/image-builder.ts';
import { MountLab, whyNoKernel } from '../support/kernel-mount.ts';
import { Oracle } from '../support/oracle.ts';
import { SOURCE_BYTES, treeArbitrary } from '../support/random-tree.ts';
import { missing } from '../support/require-tool.ts';
import { snapshotDirectory } from '../support/tree-snapshot.ts';
import { assertSameSnapshot } from '../support/tree-snapshot-diff.ts';

const RUNS = Math.ceil(Number(process.env.VENEER_PROPERTY_RUNS ?? 1500) / 75);

/** Sockets have no place in a tar, and nobody can own what belongs to 2^32 - 1. */
function tarOf(tree: FileTree): Buffer {
  for (const [, node] of namesOf(tree)) {
    if ((node.mode & S_IFMT) === S_IFSOCK) node.mode = (node.mode & ~S_IFMT) | S_IFIFO;
    node.uid = Math.min(node.uid, 0xfffffffe);
    node.gid = Math.min(node.gid, 0xfffffffe);
  }
  return Buffer.concat(
    [
      ...layerTar(tree, (node, from, piece) =>
        fillPiece(node, from, piece, (_, at, length) => SOURCE_BYTES.subarray(at, at + length)),
      ),
    ].map((piece) => Buffer.from(piece)),
  );
}

test('an updated checkout is like a new one', async (t) => {
  const why = whyNoKernel();
  if (why !== null) return missing(t, why);
  const oracle = new Oracle();
  const mounts = new MountLab(oracle);
  const folder = await mounts.mountMemory();
  let changed = 0;
  try {
    await fc.assert(
      fc.asyncProperty(
        treeArbitrary(false),
        edits,
        treeArbitrary(false),
        fc.boolean(),
        fc.boolean(),
        async (tree, list, other, related, link) => {
          const store = Store.open(join(folder, 'store'), { fsync: false });
          const [updated, fresh] = [join(folder, 'updated'), join(folder, 'fresh')];
          try {
            const pull = (one: FileTree, name: string): Promise<ImageRecord> =>
              pullImage(store, memorySource(buildImage([{ tar: tarOf(one), compression: 'none' }])), {
                name,
              });
            const before = await pull(tree, 'before');
            const after = await pull(related ? edit(tree, list) : other, 'after');
            await checkOut(store, before, updated, { link });
            const report = await checkOut(store, after, updated, { update: true });
            await checkOut(store, after, fresh, { link });
            assert.deepEqual(report.replaced, []);
            assert.deepEqual(report.kept, []);
            assertSameSnapshot(
              await snapshotDirectory(oracle, fresh),
              await snapshotDirectory(oracle, updated),
              'a new checkout and an updated one',
            );
            if (report.changes.changed + report.changes.added > 0) changed++;
          } finally {
            store.close();
            for (const path of [updated, fresh, join(folder, 'store')])
              rmSync(path, { recursive: true, force: true });
          }
        },
      ),
      { numRuns: RUNS },
    );
    assert.ok(changed > RUNS / 3, `${changed} of ${RUNS} changed something`);
  } finally {
    await mounts.close();
    await oracle.close();
  }
});
