import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import {
  buildImage,
  memorySource,
  sampleTars,
  temporaryDirectory,
} from '../../test/support/image-builder.ts';
import { chainOf } from '../store/chain-ids.ts';
import { hasChain } from '../store/chain-records.ts';
import { fsck } from '../store/fsck.ts';
import { gc } from '../store/gc.ts';
import { hasLayer } from '../store/layers.ts';
import { takeLease } from '../store/leases.ts';
import type { Lock } from '../store/locks.ts';
import { MergeThread } from '../store/merge-thread.ts';
import { pullImage } from '../store/pull.ts';
import { removeImage } from '../store/rm.ts';
import { Store } from '../store/store.ts';
import { IdleMerges } from './idle-merges.ts';

/** A store with layers and no chain. */
async function openLayers(
  t: TestContext,
): Promise<{ store: Store; layers: string[]; lease: Lock; merger: MergeThread }> {
  const store = Store.open(join(temporaryDirectory(t), 'store'), { fsync: false });
  const image = await pullImage(store, memorySource(buildImage(sampleTars()), { name: 'image' }));
  const layers = image.layers.map(({ diffId }) => diffId);
  const lease = takeLease(store, 'test', { layers, chains: [], blobs: [], downloads: [] });
  removeImage(store, 'image');
  await gc(store);
  const merger = new MergeThread(store);
  t.after(async () => {
    await merger.close();
    lease.release();
    store.close();
  });
  return { store, layers, lease, merger };
}

async function until(done: () => boolean): Promise<void> {
  const limit = Date.now() + 30_000;
  while (!done()) {
    assert.ok(Date.now() < limit, 'it does not come');
    await delay(10);
  }
}

test('of chains that are put on each other only the last is merged, once it is quiet', async (t) => {
  const { store, layers, merger } = await openLayers(t);
  let busy = true;
  const problems: string[] = [];
  const merges = new IdleMerges(
    merger,
    () => busy,
    (what) => problems.push(what),
  );
  t.after(() => merges.close());
  for (let i = 1; i <= layers.length; i++) merges.add(layers.slice(0, i));
  await delay(400);
  assert.deepEqual(readdirSync(store.layout.chains), [], 'layers are still being converted');
  busy = false;
  await until(() => hasChain(store, chainOf(layers)));
  await delay(400);
  assert.equal(readdirSync(store.layout.chains).length, 1);
  assert.deepEqual(problems, []);
});

test('chains that stand side by side are all merged, and one that cannot be stops none', async (t) => {
  const { store, layers, merger } = await openLayers(t);
  const problems: string[] = [];
  const merges = new IdleMerges(
    merger,
    () => false,
    (what) => problems.push(what),
  );
  t.after(() => merges.close());
  merges.add([`sha256:${'00'.repeat(32)}`]);
  merges.add(layers.slice(0, 1));
  merges.add([layers[0]!, layers[2]!]);
  merges.add(layers.slice(0, 2));
  await until(() => hasChain(store, chainOf(layers.slice(0, 2))));
  assert.ok(hasChain(store, chainOf([layers[0]!, layers[2]!])));
  assert.equal(problems.length, 1);
});

test('a chain that came and went before it was committed is merged again; one that could not be made as well', async (t) => {
  const { store, layers, merger } = await openLayers(t);
  const problems: string[] = [];
  const merges = new IdleMerges(
    merger,
    () => false,
    (what) => problems.push(what),
  );
  t.after(() => merges.close());
  const made = (): boolean => hasChain(store, chainOf(layers));
  merges.begin(layers);
  await until(made);
  await gc(store);
  assert.ok(!made(), 'nobody holds it');
  merges.add(layers.slice(0, 1));
  merges.add(layers);
  await until(made);
  await delay(400);
  assert.equal(readdirSync(store.layout.chains).length, 1, 'what the image stands on is not merged');

  const gone = [...layers, `sha256:${'00'.repeat(32)}`];
  merges.begin(gone);
  await until(() => problems.length === 1);
  merges.add(layers.slice(0, 2));
  await until(() => hasChain(store, chainOf(layers.slice(0, 2))));
});

test('what an image stands on is not merged when it was committed before the image was known', async (t) => {
  const { store, layers, merger } = await openLayers(t);
  let busy = true;
  const merges = new IdleMerges(
    merger,
    () => busy,
    () => {},
  );
  t.after(() => merges.close());
  merges.add(layers.slice(0, 1));
  merges.begin(layers);
  await until(() => hasChain(store, chainOf(layers)));
  busy = false;
  await delay(400);
  assert.equal(readdirSync(store.layout.chains).length, 1);
});

test('layers that are being merged stay, whoever sweeps', async (t) => {
  const { store, layers, lease, merger } = await openLayers(t);
  lease.release();
  const merged = merger.merge(layers);
  await gc(store);
  assert.deepEqual(
    layers.map((diffId) => hasLayer(store, diffId)),
    layers.map(() => true),
  );
  await merged;
  assert.ok(hasChain(store, chainOf(layers)));
  const { problems } = await fsck(store);
  assert.deepEqual(
    problems.filter(({ severity }) => severity === 'error'),
    [],
  );
  await gc(store);
  assert.deepEqual(readdirSync(store.layout.layers), []);
});

test('a thread that ends fails nobody who waits for the next one', async (t) => {
  const { store, layers, merger } = await openLayers(t);
  await merger.merge(layers.slice(0, 1));
  const ended = merger.close();
  await merger.merge(layers);
  await ended;
  assert.ok(hasChain(store, chainOf(layers)));
});
