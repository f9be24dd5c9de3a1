import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
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
import { listImages } from './images.ts';
import { listLayers } from './layers.ts';
import { NO_NEEDS, readLeases, takeLease } from './leases.ts';
import { mountable } from './mountable.ts';
import { pullImage } from './pull.ts';
import { removeImage } from './rm.ts';
import { Store } from './store.ts';

function openStore(t: TestContext): Store {
  const store = Store.open(join(temporaryDirectory(t), 'store'), { fsync: false });
  t.after(() => store.close());
  return store;
}

test('what no image needs goes, what is shared stays', async (t) => {
  const store = openStore(t);
  const [base, change, addition] = sampleTars();
  const small = buildImage([base!, addition!]);
  const large = buildImage([base!, change!, addition!]);
  await pullImage(store, memorySource(small, { name: 'small' }));
  const record = await pullImage(store, memorySource(large, { name: 'large' }));
  await mountable(store, record, 'layers');
  assert.deepEqual(await gc(store), {
    layers: [],
    chains: [],
    blobs: [],
    remnants: [],
    shared: [],
    debris: [],
    bytes: 0,
  });

  removeImage(store, 'large');
  const plan = await gc(store, { dryRun: true });
  assert.deepEqual(plan.layers, [large.diffIds[1]]);
  assert.ok(plan.bytes > 0);
  assert.equal(listLayers(store).length, 3, 'a dry run removes nothing');
  const done = await gc(store);
  assert.deepEqual(done, plan);
  assert.deepEqual(
    listLayers(store)
      .map((layer) => layer.diffId)
      .sort(),
    [...small.diffIds].sort(),
  );
  assert.deepEqual(
    new Set(readdirSync(store.layout.blobs)),
    new Set([small.manifest, small.config].map((blob) => blob.digest.slice(7))),
  );
  assert.equal((await fsck(store)).problems.length, 0);

  removeImage(store, 'small');
  await gc(store);
  for (const dir of [store.layout.layers, store.layout.chains, store.layout.linked, store.layout.blobs]) {
    assert.deepEqual(readdirSync(dir), []);
  }
});

test('a lease keeps what it names, until it is released', async (t) => {
  const store = openStore(t);
  const image = buildImage(sampleTars());
  const record = await pullImage(store, memorySource(image, { name: 'app' }));
  removeImage(store, 'app');
  const lease = takeLease(store, 'test', {
    layers: [image.diffIds[0]!],
    chains: [record.chainId],
    blobs: [record.config.digest],
    downloads: [],
  });
  const first = await gc(store);
  assert.deepEqual(new Set(first.layers), new Set(image.diffIds.slice(1)));
  assert.deepEqual(first.chains, []);
  assert.deepEqual(first.blobs, [record.manifest.digest]);
  lease.release();
  const second = await gc(store);
  assert.deepEqual(second.layers, [image.diffIds[0]]);
  assert.deepEqual(second.chains, [record.chainId]);
});

test('a damaged lease of a live process stops the sweep', async (t) => {
  const store = openStore(t);
  await pullImage(store, memorySource(buildImage(sampleTars()), { name: 'app' }));
  removeImage(store, 'app');
  const lease = takeLease(store, 'test', NO_NEEDS);
  const [name] = readdirSync(store.layout.leases);
  writeFileSync(join(store.layout.leases, name!), '{"layers":["../../x"]}');
  await assert.rejects(gc(store), { code: 'store/corrupt' });
  assert.equal(readdirSync(store.layout.layers).length, 3);
  lease.release();
  await gc(store);
  assert.equal(readdirSync(store.layout.layers).length, 0);
});

test('a damaged image record stops the sweep', async (t) => {
  const store = openStore(t);
  const record = await pullImage(store, memorySource(buildImage(sampleTars()), { name: 'app' }));
  writeFileSync(store.layout.image(record.name), 'not json');
  await assert.rejects(gc(store), { code: 'store/corrupt' });
  assert.equal(readdirSync(store.layout.layers).length, 3);
});

test('what is mounted is kept, whatever was removed', async (t) => {
  const store = openStore(t);
  const record = await pullImage(store, memorySource(buildImage(sampleTars()), { name: 'app' }));
  const [mount] = await mountable(store, record, 'merged');
  const mountedFiles = [mount!.primary, ...mount!.devices.map((device) => device.path)];
  assert.throws(() => removeImage(store, 'app', { mountedFiles }), { code: 'store/in-use' });
  removeImage(store, 'app', { mountedFiles, force: true });
  const report = await gc(store, { mountedFiles: () => mountedFiles });
  assert.equal(report.chains.length, 0);
  for (const path of mountedFiles) assert.ok(existsSync(path), path);
  const after = await gc(store);
  assert.equal(after.chains.length, 1);
});

test('a mounted image may lose one of two names, and layered mounts count too', async (t) => {
  const store = openStore(t);
  const image = buildImage(sampleTars());
  await pullImage(store, memorySource(image, { name: 'one' }));
  const record = await pullImage(store, memorySource(image, { name: 'two' }));
  const mounts = await mountable(store, record, 'layers');
  const mountedFiles = mounts.flatMap((mount) => [
    mount.primary,
    ...mount.devices.map((device) => device.path),
  ]);
  assert.throws(() => removeImage(store, record.manifest.digest, { mountedFiles }), {
    code: 'store/ambiguous',
  });
  removeImage(store, 'one', { mountedFiles });
  assert.throws(() => removeImage(store, 'two', { mountedFiles }), { code: 'store/in-use' });
  removeImage(store, record.manifest.digest, { mountedFiles, force: true });
  assert.deepEqual(listImages(store), []);
});

test('debris of the dead goes, that of the living stays', async (t) => {
  const store = openStore(t);
  const alive = Store.open(store.layout.root, { fsync: false });
  t.after(() => alive.close());
  const living = alive.work();
  writeFileSync(join(living, 'half'), 'x');
  const { layout } = store;
  const dead = join(layout.tmp, 'work-00ff');
  mkdirSync(join(dead, 'layer-1'), { recursive: true });
  writeFileSync(join(dead, 'layer-1', 'layer.tar'), 'x'.repeat(10_000));
  writeFileSync(`${dead}.lock`, '');
  writeFileSync(join(layout.tmp, 'work-0011.lock'), '');
  writeFileSync(join(layout.locks, 'layer-dead'), '');
  writeFileSync(join(layout.leases, 'dead.json'), 'half a lea');
  writeFileSync(join(layout.downloads, `${'1'.repeat(64)}.part`), 'x');
  const planned = await gc(store, { dryRun: true });
  const report = await gc(store);
  assert.equal(report.debris.length, 3);
  assert.deepEqual(planned.debris, report.debris);
  assert.ok(report.bytes >= 10_000);
  assert.equal(existsSync(dead), false);
  assert.equal(existsSync(join(living, 'half')), true);
  assert.deepEqual(readdirSync(layout.locks), []);
  assert.deepEqual(readdirSync(layout.leases), []);
  assert.deepEqual(readdirSync(layout.downloads), []);
});

test('every pull sweeps the debris of the dead but keeps downloads', async (t) => {
  const store = openStore(t);
  store.prepare();
  const { layout } = store;
  mkdirSync(join(layout.tmp, 'work-00ff'));
  const part = join(layout.downloads, `${'1'.repeat(64)}.part`);
  writeFileSync(part, 'x');
  await pullImage(store, memorySource(buildImage(sampleTars())));
  assert.equal(existsSync(join(layout.tmp, 'work-00ff')), false);
  assert.equal(existsSync(part), true);
});

test('sweeps and pulls of the same images, all at once, lose nothing', async (t) => {
  const root = join(temporaryDirectory(t), 'store');
  const images = ['', ' b', ' c'].map((salt) => buildImage(sampleTars(salt)));
  const rounds = async (i: number): Promise<void> => {
    const store = Store.open(root, { fsync: false });
    for (let round = 0; round < 8; round++) {
      const name = `app-${i}`;
      const record = await pullImage(
        store,
        memorySource(images[(i + round) % 3]!, { name, chunkSize: 5000 }),
      );
      const shared = store.share();
      await mountable(store, record, 'merged');
      shared.release();
      if (round % 3 === 0) removeImage(store, name);
    }
    store.close();
  };
  const sweeping = { on: true };
  const sweeps = async (): Promise<void> => {
    const store = Store.open(root, { fsync: false });
    while (sweeping.on) {
      await gc(store);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    store.close();
  };
  const sweeper = sweeps();
  try {
    await Promise.all([rounds(0), rounds(1), rounds(2)]);
  } finally {
    sweeping.on = false;
    await sweeper;
  }
  const store = Store.open(root, { fsync: false });
  t.after(() => store.close());
  await gc(store);
  assert.deepEqual((await fsck(store)).problems, []);
  assert.equal(listImages(store).length, 3);
  assert.deepEqual(readLeases(store), { live: [], dead: [] });
});
