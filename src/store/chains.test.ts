import assert from 'node:assert/strict';
import { readFileSync, rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  buildImage,
  memorySource,
  noise,
  sampleTars,
  temporaryDirectory,
} from '../../test/support/image-builder.ts';
import {
  archive,
  dir,
  file,
  hardLink,
  opaque,
  sparseFile,
  whiteout,
} from '../../test/support/tar-builder.ts';
import { bufferSource } from '../bytes/io.ts';
import { ErofsReader } from '../erofs/reader.ts';
import { walkTree } from '../tree/walk.ts';
import { ensureChain } from './chains.ts';
import { TreesAhead } from './layer-trees.ts';
import { type MountableImage, mountable } from './mountable.ts';
import { openTree } from './open-tree.ts';
import { pullImage } from './pull.ts';
import type { ImageRecord } from './records.ts';
import { Store } from './store.ts';

async function pulled(
  t: TestContext,
  tars: readonly Buffer[],
): Promise<{ store: Store; record: ImageRecord }> {
  const store = Store.open(join(temporaryDirectory(t), 'store'), { fsync: false });
  t.after(() => store.close());
  return { store, record: await pullImage(store, memorySource(buildImage(tars))) };
}

/** A base, and layers with everything that a merge has to settle; sparse runs that no block of a tar can map among it. */
function hardTars(): Buffer[] {
  return [
    ...sampleTars(),
    archive(
      sparseFile(
        'var/sparse',
        100_000,
        [
          { offset: 700, data: noise(900) },
          { offset: 51_200, data: noise(2048) },
        ],
        '1.0',
      ),
      file('var/plain', noise(3000)),
    ),
    archive(
      opaque('srv'),
      file('srv/only', 'x'),
      whiteout('usr/bin/tool'),
      hardLink('var/again', 'var/plain'),
    ),
  ];
}

test('a merged image has the same bytes from memory and from stored layers', async (t) => {
  const { store, record } = await pulled(t, hardTars());
  const [before] = await mountable(store, record, 'merged');
  const bytes = readFileSync(before!.primary);
  rmSync(store.layout.chain(record.chainId), { recursive: true });
  const [after] = await mountable(store, record, 'merged');
  assert.deepEqual(after, before);
  assert.ok(readFileSync(after!.primary).equals(bytes));
});

test('a merge takes the trees that were read ahead, whatever they are', async (t) => {
  const tars = hardTars();
  const { store, record } = await pulled(t, [...tars, tars[0]!]);
  const diffIds = record.layers.map(({ diffId }) => diffId);
  const ahead = new TreesAhead(store);
  const merge = async (...early: string[]): Promise<string> => {
    rmSync(store.layout.chain(record.chainId), { recursive: true });
    for (const diffId of early) ahead.read(diffId);
    return (await ensureChain(store, diffIds, { ahead })).image.digest;
  };
  const digest = await merge();
  const missing = `sha256:${'0'.repeat(64)}`;
  for (const early of [diffIds, diffIds.slice(1).reverse(), [...diffIds, ...diffIds, missing]]) {
    assert.equal(await merge(...early), digest);
    for (const diffId of diffIds) assert.equal(ahead.take(diffId), null, 'it is taken');
  }
  ahead.read(diffIds[1]!);
  assert.notEqual(ahead.take(diffIds[1]!), null);
  ahead.read(diffIds[1]!);
  ahead.clear();
  assert.equal(ahead.take(diffIds[1]!), null);
});

test('a layer that comes twice is merged twice', async (t) => {
  const [base, change] = sampleTars();
  const { store, record } = await pulled(t, [base!, change!, base!]);
  const open = await openTree(store, record);
  t.after(() => open.close());
  const etc = open.tree.root.children!.get('etc')!;
  assert.ok(etc.children!.has('removed'), 'back again');
  const bin = open.tree.root.children!.get('usr')!.children!.get('bin')!;
  assert.notEqual(
    bin.children!.get('tool'),
    bin.children!.get('tool-link'),
    'the old file lives on under its link',
  );
  const [before] = await mountable(store, record, 'merged');
  rmSync(store.layout.chain(record.chainId), { recursive: true });
  assert.deepEqual(await mountable(store, record, 'merged'), [before]);
});

test('the device table of every image names the files that are handed out', async (t) => {
  const { store, record } = await pulled(t, [...hardTars(), archive(dir('no-data'), file('no-data/empty'))]);
  for (const mode of ['merged', 'layers'] as const) {
    const mounts = await mountable(store, record, mode);
    assert.equal(mounts.length, mode === 'merged' ? 1 : record.layers.length);
    for (const mount of mounts) assertDevices(mount);
  }
});

function assertDevices(mount: MountableImage): void {
  const image = readFileSync(mount.primary);
  assert.equal(image.length, mount.size);
  const { devices, blockSize } = new ErofsReader(bufferSource(image)).superblock;
  assert.deepEqual(
    devices.map((device) => device.tag),
    mount.devices.map((device) => device.tag),
  );
  for (const [i, device] of devices.entries()) {
    assert.equal(device.blocks, Math.ceil(mount.devices[i]!.size / blockSize));
  }
}

test('layers that lean on lower ones are resolved for their chain, once', async (t) => {
  const { store, record } = await pulled(t, hardTars());
  const first = await mountable(store, record, 'layers');
  assert.ok(first[1]!.primary.startsWith(store.layout.linked), 'a hard link into the base');
  const names: string[] = [];
  walkTree(new ErofsReader(bufferSource(readFileSync(first[1]!.primary))).readTree(), (path, node) => {
    names.push(path);
    assert.equal(node.lowerLink, null);
    assert.equal(node.implied, false);
  });
  assert.ok(names.includes('usr/bin/tool') && names.includes('usr/bin/tool-link'));
  assert.deepEqual(await mountable(store, record, 'layers'), first);
});

test('a sparse file reads back whole, in any range', async (t) => {
  const { store, record } = await pulled(t, hardTars());
  const open = await openTree(store, record);
  t.after(() => open.close());
  const node = open.tree.root.children!.get('var')!.children!.get('sparse')!;
  const expected = Buffer.alloc(100_000);
  noise(900).copy(expected, 700);
  noise(2048).copy(expected, 51_200);
  for (const [start, end] of [
    [0, 100_000],
    [699, 702],
    [1599, 51_201],
    [60_000, 200_000],
    [100_000, 100_001],
    [5, 5],
  ] as const) {
    const chunks: Buffer[] = [];
    for await (const chunk of open.readFile(node, { start, end })) chunks.push(chunk);
    assert.ok(Buffer.concat(chunks).equals(expected.subarray(start, end)), `${start} to ${end}`);
  }
  await assert.rejects(open.readFile(open.tree.root).next(), { code: 'tree/invalid' });
});

test('open images stay readable when everything is swept away', async (t) => {
  const { store, record } = await pulled(t, sampleTars());
  const open = await openTree(store, record);
  t.after(() => open.close());
  rmSync(store.layout.root, { recursive: true });
  const node = open.tree.root.children!.get('srv')!.children!.get('data')!;
  let bytes = 0;
  for await (const chunk of open.readFile(node)) bytes += chunk.length;
  assert.equal(bytes, 150_000);
});

test('files that are missing or of another size are named before anything is mounted', async (t) => {
  const { store, record } = await pulled(t, sampleTars());
  const tar = join(store.layout.layer(record.layers[2]!.diffId), 'layer.tar');
  truncateSync(tar, 512);
  for (const mode of ['merged', 'layers'] as const) {
    await assert.rejects(mountable(store, record, mode), {
      code: 'store/mismatch',
      message: new RegExp(tar),
    });
  }
  rmSync(tar);
  await assert.rejects(mountable(store, record, 'merged'), {
    code: 'store/missing',
    message: new RegExp(tar),
  });
  rmSync(store.layout.layer(record.layers[2]!.diffId), { recursive: true });
  rmSync(store.layout.chain(record.chainId), { recursive: true });
  await assert.rejects(mountable(store, record, 'merged'), { code: 'store/missing' });
});
