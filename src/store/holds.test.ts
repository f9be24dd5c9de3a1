import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  buildImage,
  memorySource,
  sampleTars,
  temporaryDirectory,
} from '../../test/support/image-builder.ts';
import { fsck } from './fsck.ts';
import { gc } from './gc.ts';
import { listHolds, readHolds, removeHold, writeHold } from './holds.ts';
import { hasLayer } from './layers.ts';
import { pullImage } from './pull.ts';
import type { ImageRecord } from './records.ts';
import { removeImage } from './rm.ts';
import { Store } from './store.ts';

async function openImage(t: TestContext): Promise<{ store: Store; image: ImageRecord }> {
  const store = Store.open(join(temporaryDirectory(t), 'store'), { fsync: false });
  t.after(() => store.close());
  return { store, image: await pullImage(store, memorySource(buildImage(sampleTars()), { name: 'image' })) };
}

test('what is held stays when its image goes, and goes when the hold does', async (t) => {
  const { store, image } = await openImage(t);
  const [first, ...others] = image.layers.map(({ diffId }) => diffId);
  await writeHold(store, 'snapshot-1', { layers: [first!], chains: [image.chainId] });
  removeImage(store, 'image');
  const swept = await gc(store);
  assert.deepEqual(swept.layers.sort(), [...others].sort());
  assert.ok(hasLayer(store, first!));
  assert.ok(existsSync(store.layout.chain(image.chainId)));
  const { problems } = await fsck(store);
  assert.deepEqual(
    problems.filter(({ path }) => path.startsWith(store.layout.layers)),
    [],
    'it is not called unused',
  );
  removeHold(store, 'snapshot-1');
  removeHold(store, 'snapshot-1');
  assert.deepEqual((await gc(store)).layers, [first]);
});

test('a hold is replaced as a whole', async (t) => {
  const { store, image } = await openImage(t);
  const layers = image.layers.map(({ diffId }) => diffId);
  await writeHold(store, 'snapshot-7', { layers, chains: [] });
  await writeHold(store, 'snapshot-7', { layers: layers.slice(0, 1), chains: [image.chainId] });
  assert.deepEqual(listHolds(store), ['snapshot-7']);
  assert.deepEqual(readHolds(store), [{ version: 1, layers: layers.slice(0, 1), chains: [image.chainId] }]);
});

test('a hold that was not durable when the machine went down holds nothing and stops no sweep', async (t) => {
  const { store, image } = await openImage(t);
  writeFileSync(store.layout.hold('snapshot-1'), '');
  removeImage(store, 'image');
  assert.equal((await gc(store)).layers.length, new Set(image.layers.map(({ diffId }) => diffId)).size);
  assert.deepEqual(listHolds(store), ['snapshot-1'], 'whose it is decides');
});

test('a hold that cannot be read stops every sweep', async (t) => {
  const { store } = await openImage(t);
  writeFileSync(store.layout.hold('snapshot-1'), '{"version":1,"layers":["x"],"chains":[]}');
  await assert.rejects(gc(store), /snapshot-1\.json: "layers" holds no digest/);
});
