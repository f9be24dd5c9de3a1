/** Snapshots to unpack into: not mounted while our differ is the one that fills them, and true mounts for any other. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { ChainMounts } from '../../src/containerd/chain-mounts.ts';
import { Diff } from '../../src/containerd/gen/diff_pb.ts';
import type { Mount } from '../../src/containerd/gen/types_pb.ts';
import { readServeConfig } from '../../src/containerd/serve-config.ts';
import { SnapshotDatabase } from '../../src/containerd/snapshot-db.ts';
import { Snapshots } from '../../src/containerd/snapshots.ts';
import { mayMount } from '../../src/mount/index.ts';
import { IngestPool } from '../../src/store/ingest-pool.ts';
import { MergeThread } from '../../src/store/merge-thread.ts';
import { pullImage } from '../../src/store/pull.ts';
import { Store } from '../../src/store/store.ts';
import { buildImage, memorySource, sampleTars, temporaryDirectory } from '../support/image-builder.ts';
import { missing } from '../support/require-tool.ts';
import { openSnapshotLab, type SnapshotLab, withStatus } from '../support/snapshot-lab.ts';

const optionOf = (mounts: readonly Mount[], name: string): string =>
  mounts[0]!.options.find((option) => option.startsWith(`${name}=`))!.slice(name.length + 1);

/** Asks our differ for what it cannot do. */
const askDiffer = (lab: SnapshotLab, mounts: Mount[]): Promise<unknown> =>
  lab.call(Diff.method.apply, {
    mounts,
    diff: { mediaType: 'application/x-unknown', digest: `sha256:${'00'.repeat(32)}`, size: 1n },
  });

async function openWithBase(lab: SnapshotLab): Promise<void> {
  await lab.layer('base', '', (path) => writeFileSync(join(path, 'base'), 'x'));
}

test('before our differ was ever asked, they are mounted', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await openWithBase(lab);
  const mounts = await lab.prepare('default/1/extract-1 sha256:x', 'base');
  assert.deepEqual(readdirSync(optionOf(mounts, 'lowerdir')), ['base']);
});

test('afterwards they are not, until another differ needs it', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await openWithBase(lab);
  const first = await lab.prepare('default/1/extract-1 sha256:x', '');
  await assert.rejects(askDiffer(lab, first), withStatus(status.UNIMPLEMENTED));
  const mounts = await lab.prepare('default/2/extract-2 sha256:y', 'base');
  const lower = optionOf(mounts, 'lowerdir');
  assert.equal(existsSync(lower), false);
  assert.ok(existsSync(join(dirname(optionOf(mounts, 'upperdir')), 'work')));

  await assert.rejects(askDiffer(lab, mounts), withStatus(status.UNIMPLEMENTED));
  assert.deepEqual(readdirSync(lower), ['base'], 'mounted before the next differ is asked');
  await lab.within(mounts, (path) => writeFileSync(join(path, 'more'), 'x'));
  await lab.commit('more', 'default/2/extract-2 sha256:y');
  await lab.within(await lab.view('view', 'more'), (path) => {
    assert.deepEqual(readdirSync(path).sort(), ['base', 'more']);
  });
});

test('what another differ put into one without seeing its parent is refused once, and then nothing is put off', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await openWithBase(lab);
  await assert.rejects(askDiffer(lab, await lab.prepare('default/1/extract-1 sha256:x', '')));
  const blind = await lab.prepare('default/2/extract-2 sha256:y', 'base');
  writeFileSync(join(optionOf(blind, 'upperdir'), 'blind'), 'x');
  await assert.rejects(
    lab.commit('y', 'default/2/extract-2 sha256:y'),
    withStatus(status.FAILED_PRECONDITION, /another differ/),
  );
  await lab.remove('default/2/extract-2 sha256:y');
  const mounts = await lab.prepare('default/3/extract-3 sha256:y', 'base');
  await lab.within(mounts, (path) => writeFileSync(join(path, 'seen'), 'x'));
  await lab.commit('y', 'default/3/extract-3 sha256:y');
});

test('whoever asks for the mounts of one gets true ones', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await openWithBase(lab);
  await assert.rejects(askDiffer(lab, await lab.prepare('default/1/extract-1 sha256:x', '')));
  const key = 'default/2/extract-2 sha256:y';
  await lab.prepare(key, 'base');
  assert.deepEqual(readdirSync(optionOf(await lab.mounts(key), 'lowerdir')), ['base']);
});

test('a chain that only an active snapshot showed is unmounted with it', async (t) => {
  const image = await openImage(t);
  if (image === null) return;
  const { snapshots, layers, chains } = image;
  const show = async (key: string): Promise<string> => {
    const mounts = await snapshots.prepare(key, '', {});
    for (const layer of layers) await snapshots.addLayer(snapshots.findByMounts(mounts)!, layer);
    const [overlay] = await snapshots.mounts(key);
    assert.equal(readdirSync(chains).length, 1, 'it is mounted');
    return overlay!.options.find((option) => option.startsWith('upperdir='))!.slice(9);
  };
  await show('removed');
  await snapshots.remove('removed');
  assert.deepEqual(readdirSync(chains), []);

  const upper = await show('written');
  writeFileSync(join(upper, 'more'), 'x');
  await snapshots.commit('committed', 'written', '', {});
  assert.deepEqual(readdirSync(chains), []);

  await show('same');
  await snapshots.commit('kept', 'same', '', {});
  assert.equal(readdirSync(chains).length, 1, 'the committed one shows it');
  await snapshots.remove('kept');
  assert.deepEqual(readdirSync(chains), []);
});

/** Snapshots without a daemon around them, over a store with an image's layers. */
async function openImage(t: TestContext) {
  if (!mayMount()) {
    missing(t, 'mounting needs root');
    return null;
  }
  const directory = temporaryDirectory(t);
  const store = Store.open(join(directory, 'store'), { fsync: false });
  const image = await pullImage(store, memorySource(buildImage(sampleTars()), { name: 'image' }));
  const config = readServeConfig(null, {});
  const merger = new MergeThread(store);
  const pool = new IngestPool(1);
  const database = new SnapshotDatabase(join(directory, 'snapshots.db'), { fsync: false });
  const chains = new ChainMounts(store, merger, directory, config);
  const snapshots = new Snapshots({
    store,
    database,
    directory: join(directory, 'snapshots'),
    chains,
    pool,
    onCommit: () => {},
    onRemove: () => {},
    onProblem: (what, error) => assert.fail(`cannot ${what}: ${error}`),
  });
  await snapshots.open();
  t.after(async () => {
    chains.sweep(new Set());
    database.close();
    await merger.close();
    await pool.close();
    store.close();
  });
  return { snapshots, layers: image.layers.map(({ diffId }) => diffId), chains: join(directory, 'chains') };
}
