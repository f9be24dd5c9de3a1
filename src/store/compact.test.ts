import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { buildImage, memorySource, noise, temporaryDirectory } from '../../test/support/image-builder.ts';
import { withCode } from '../../test/support/pull-source.ts';
import { archive, END, file } from '../../test/support/tar-builder.ts';
import { versionPair } from '../../test/support/version-pair.ts';
import { compact } from './compact.ts';
import { treeBytes } from './debris.ts';
import { fsck } from './fsck.ts';
import { gc } from './gc.ts';
import { openLayerTar } from './layer-tar.ts';
import { readLayer } from './layers.ts';
import { NO_NEEDS, takeLease } from './leases.ts';
import { mountable } from './mountable.ts';
import { openTree } from './open-tree.ts';
import { pullImage } from './pull.ts';
import { type ImageRecord, readRemnantRecord, recordText } from './records.ts';
import { removeImage } from './rm.ts';
import { Store } from './store.ts';
import { verify } from './verify.ts';

function openStore(t: TestContext): Store {
  const store = Store.open(join(temporaryDirectory(t), 'store'), { fsync: false });
  t.after(() => store.close());
  return store;
}

const pull = (store: Store, name: string, tar: Buffer): Promise<ImageRecord> =>
  pullImage(store, memorySource(buildImage([{ tar, compression: 'none' }]), { name }), { dedupe: true });

function tarOf(store: Store, record: ImageRecord): string {
  const { source, close } = openLayerTar(store, record.layers[0]!.diffId);
  try {
    return `sha256:${createHash('sha256').update(source.read(0, source.size)).digest('hex')}`;
  } finally {
    close();
  }
}

async function assertSound(store: Store, record: ImageRecord): Promise<void> {
  const { problems } = await fsck(store);
  assert.deepEqual(
    problems.filter(({ severity }) => severity === 'error'),
    [],
  );
  assert.deepEqual((await verify(store)).problems, []);
  assert.equal(tarOf(store, record), record.layers[0]!.diffId);
  for (const mode of ['merged', 'layers'] as const) await mountable(store, record, mode);
}

test('gc keeps what others share, compaction only the blocks that they need', async (t) => {
  const store = openStore(t);
  const { before, after } = versionPair();
  const old = await pull(store, 'old', before);
  const fresh = await pull(store, 'new', after);
  const [oldLayer, freshLayer] = [old, fresh].map((record) => record.layers[0]!.diffId);
  assert.ok(readLayer(store, freshLayer!).deduped!.sources.length > 0);
  removeImage(store, 'old');
  const swept = await gc(store);
  assert.deepEqual(swept.layers, []);
  assert.deepEqual(swept.shared, [oldLayer]);
  assert.ok(swept.chains.length > 0, 'its merged image goes');
  await assertSound(store, fresh);

  const whole = treeBytes(store.layout.layer(oldLayer!));
  const plan = await compact(store, { dryRun: true });
  assert.equal(plan.files.length, 1);
  assert.ok(existsSync(store.layout.layer(oldLayer!)));
  const done = await compact(store);
  assert.deepEqual(done, plan);
  assert.ok(!existsSync(store.layout.layer(oldLayer!)));
  const left = treeBytes(store.layout.remnants);
  assert.ok(left < whole - done.bytes + 16_384, `${left} bytes are left of ${whole}`);
  await assertSound(store, fresh);
  assert.deepEqual((await compact(store)).files, [], 'there is no more to give back');
  assert.deepEqual((await gc(store)).remnants, []);

  // the old image comes again, and shares with what is left of itself
  const again = await pull(store, 'old', before);
  await assertSound(store, again);
  await assertSound(store, fresh);
  removeImage(store, 'new');
  removeImage(store, 'old');
  await gc(store);
  for (const dir of ['layers', 'remnants', 'chains', 'linked'] as const) {
    assert.deepEqual(readdirSync(store.layout[dir]), [], dir);
  }
});

test('what was made of a layer goes with it, swept before or not', async (t) => {
  const store = openStore(t);
  const { before, after } = versionPair();
  const old = await pull(store, 'old', before);
  const fresh = await pull(store, 'new', after);
  await mountable(store, old, 'layers');
  removeImage(store, 'old');
  assert.equal((await compact(store)).files.length, 1);
  assert.ok(!existsSync(store.layout.chain(old.chainId)));
  await assertSound(store, fresh);
  await assertSound(store, await pull(store, 'old', before));
});

test('a remnant shrinks when less of it is needed, and readers of the larger one read on', async (t) => {
  const store = openStore(t);
  const parts = [1, 2, 3, 4].map((seed) => noise(300_000, seed));
  await pull(store, 'base', archive(...parts.map((data, i) => file(`f${i}`, data)), END));
  const both = await pull(store, 'both', archive(file('a', parts[0]!), file('b', parts[2]!), END));
  const one = await pull(store, 'one', archive(file('c', parts[2]!), END));
  removeImage(store, 'base');
  await gc(store);
  assert.equal((await compact(store)).files.length, 1);
  const first = treeBytes(store.layout.remnants);
  await assertSound(store, both);
  await assertSound(store, one);
  const open = await openTree(store, both);
  removeImage(store, 'both');
  await gc(store);
  assert.equal((await compact(store)).files.length, 1);
  assert.ok(treeBytes(store.layout.remnants) < first - 250_000);
  await assertSound(store, one);
  const chunks: Buffer[] = [];
  for await (const chunk of open.readFile(open.tree.root.children!.get('a')!)) chunks.push(chunk);
  open.close();
  assert.ok(Buffer.concat(chunks).equals(parts[0]!));
  removeImage(store, 'one');
  await gc(store);
  assert.deepEqual(readdirSync(store.layout.remnants), []);
});

test('a layer that nobody asks for but that stays is whole when it is asked for again', async (t) => {
  const store = openStore(t);
  const [kept, gone, added] = [1, 2, 3].map((seed) => noise(400_000, seed));
  const base = archive(file('kept', kept!), file('gone', gone!), END);
  const middle = archive(file('kept', kept!), file('gone', gone!), file('added', added!), END);
  const last = archive(file('added', added!), file('kept', kept!), END);
  await pull(store, 'base', base);
  const { diffId } = (await pull(store, 'middle', middle)).layers[0]!;
  const fresh = await pull(store, 'last', last);
  assert.deepEqual(readLayer(store, fresh.layers[0]!.diffId).deduped!.sources.length, 2);
  removeImage(store, 'base');
  removeImage(store, 'middle');
  await gc(store);
  const { digest } = readLayer(store, diffId).deduped!.data;
  writeFileSync(store.layout.fsVerity(digest), '');
  await compact(store);
  assert.ok(existsSync(store.layout.layer(diffId)), 'it is sealed');
  rmSync(store.layout.fsVerity(digest));
  await assertSound(store, fresh);
  await assertSound(store, await pull(store, 'middle', middle));
});

test('a layer that is needed whole, but that nobody asks for, lets go of what only it needs of others', async (t) => {
  const store = openStore(t);
  const [kept, gone, added] = [1, 2, 3].map((seed) => noise(400_000, seed));
  await pull(store, 'base', archive(file('kept', kept!), file('gone', gone!), END));
  await pull(store, 'middle', archive(file('kept', kept!), file('gone', gone!), file('added', added!), END));
  const fresh = await pull(store, 'last', archive(file('added', added!), file('kept', kept!), END));
  removeImage(store, 'base');
  removeImage(store, 'middle');
  await gc(store);
  assert.equal(new Set((await compact(store)).files).size, 2);
  assert.equal(readdirSync(store.layout.layers).length, 1);
  const left = treeBytes(store.layout.remnants);
  assert.ok(left < 830_000, `${left} bytes are left`);
  await assertSound(store, fresh);
});

test('fsck: a remnant that has less than its layers need', async (t) => {
  const store = openStore(t);
  const parts = [1, 2].map((seed) => noise(300_000, seed));
  await pull(store, 'base', archive(...parts.map((data, i) => file(`f${i}`, data)), END));
  await pull(store, 'one', archive(file('a', parts[1]!), END));
  removeImage(store, 'base');
  await gc(store);
  const [digest] = (await compact(store)).files;
  const path = join(store.layout.remnant(digest!), 'remnant.json');
  const record = readRemnantRecord(path);
  const [[begin, end]] = record.ranges as [readonly [number, number]];
  chmodSync(path, 0o600);
  writeFileSync(path, recordText({ ...record, ranges: [[begin + 4096, end]] }));
  const { problems, droppedImages } = await fsck(store, { repair: true });
  assert.ok(problems.some(({ message }) => message.includes('less was kept than it needs')));
  assert.deepEqual(droppedImages, ['one']);
  assert.equal((await fsck(store)).ok, true);
});

test('what is leased, mounted or sealed is not compacted', async (t) => {
  const store = openStore(t);
  const { before, after } = versionPair();
  const old = await pull(store, 'old', before);
  await pull(store, 'new', after);
  removeImage(store, 'old');
  const { diffId } = old.layers[0]!;
  const lease = takeLease(store, 'test', { ...NO_NEEDS, layers: [diffId] });
  assert.deepEqual((await compact(store)).files, []);
  lease.release();
  const path = join(store.layout.layer(diffId), 'layer.tar');
  const mountedFiles = (): string[] => [
    existsSync(path) ? path : join(store.layout.layer(diffId), 'layer.data'),
  ];
  assert.deepEqual((await compact(store, { mountedFiles })).files, []);
  const { digest } = readLayer(store, diffId).deduped?.data ?? { digest: diffId };
  writeFileSync(store.layout.fsVerity(digest), '');
  assert.deepEqual((await compact(store)).files, []);
});

test('a layer that comes to need more meanwhile keeps its source whole', async (t) => {
  const store = openStore(t);
  const parts = [1, 2, 3].map((seed) => noise(400_000, seed));
  await pull(store, 'base', archive(...parts.map((data, i) => file(`f${i}`, data)), END));
  const some = await pull(store, 'some', archive(file('a', parts[0]!), END));
  removeImage(store, 'base');
  let other: ImageRecord | undefined;
  const exclusive = store.exclusive.bind(store);
  store.exclusive = async (signal) => {
    store.exclusive = exclusive;
    other = await pull(store, 'other', archive(file('b', parts[1]!), END));
    return exclusive(signal);
  };
  assert.deepEqual((await compact(store)).files, []);
  await assertSound(store, some);
  await assertSound(store, other!);
});

test('damage is found: in new data, in what others keep, in recipes', async (t) => {
  const store = openStore(t);
  const { before, after } = versionPair();
  const old = await pull(store, 'old', before);
  const fresh = await pull(store, 'new', after);
  const dir = store.layout.layer(fresh.layers[0]!.diffId);
  const flip = (path: string): (() => void) => {
    const bytes = readFileSync(path);
    chmodSync(path, 0o600);
    const changed = Buffer.from(bytes);
    changed[changed.length >> 1]! ^= 1;
    writeFileSync(path, changed);
    return () => writeFileSync(path, bytes);
  };
  const oldFile = readLayer(store, old.layers[0]!.diffId).deduped === undefined ? 'layer.tar' : 'layer.data';
  for (const path of [
    join(dir, 'layer.data'),
    join(dir, 'layer.recipe'),
    join(store.layout.layer(old.layers[0]!.diffId), oldFile),
  ]) {
    const mend = flip(path);
    const { problems } = await verify(store, { image: fresh });
    assert.ok(problems.length > 0, path);
    mend();
    assert.deepEqual((await verify(store)).problems, []);
  }
  const recipe = join(dir, 'layer.recipe');
  chmodSync(recipe, 0o600);
  truncateSync(recipe, statSync(recipe).size - 1);
  assert.throws(
    () => openLayerTar(store, fresh.layers[0]!.diffId),
    withCode('store/corrupt', /layer\.recipe/),
  );
  // a source that is gone takes the layer with it, and its image
  const repaired = await fsck(store, { repair: true });
  assert.deepEqual(repaired.droppedImages, ['new']);
  assert.equal((await fsck(store)).ok, true);
});

test('fsck: a source that is gone breaks all layers that share with it', async (t) => {
  const store = openStore(t);
  const { before, after } = versionPair();
  const old = await pull(store, 'old', before);
  await pull(store, 'new', after);
  const image = join(store.layout.layer(old.layers[0]!.diffId), 'layer.erofs');
  chmodSync(image, 0o600);
  truncateSync(image, 100);
  const { droppedImages, problems } = await fsck(store, { repair: true });
  assert.deepEqual(droppedImages.toSorted(), ['new', 'old']);
  assert.ok(problems.some(({ message }) => message.includes('shares data')));
  assert.deepEqual(
    (await fsck(store)).problems.filter(({ severity }) => severity === 'error'),
    [],
  );
});
