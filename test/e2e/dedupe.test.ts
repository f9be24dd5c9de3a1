/** Layers that share their data, mounted by the kernel and given back as tars. */
import assert from 'node:assert/strict';
import { mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { pullImage, Store, verify } from '../../src/store/index.ts';
import { openLayerTar } from '../../src/store/layer-tar.ts';
import { readLayer } from '../../src/store/layers.ts';
import {
  buildImage,
  memorySource,
  noise,
  temporaryDirectory,
  writeLayout,
} from '../support/image-builder.ts';
import { MountLab, whyNoKernel } from '../support/kernel-mount.ts';
import { Oracle } from '../support/oracle.ts';
import { missing } from '../support/require-tool.ts';
import { StoredImage } from '../support/stored-image.ts';
import { archive, END, file, whiteout } from '../support/tar-builder.ts';
import { snapshotDirectory } from '../support/tree-snapshot.ts';
import { assertSameSnapshot } from '../support/tree-snapshot-diff.ts';
import { versionPair } from '../support/version-pair.ts';

test('the kernel shows a deduped image as it shows the full one', async (t) => {
  const noKernel = whyNoKernel();
  if (noKernel !== null) return missing(t, noKernel);
  const { before, after } = versionPair();
  const top = archive(
    whiteout('log'),
    file('lib/large', noise(700_000, 1100)),
    file('top', noise(9000, 7)),
    END,
  );
  const oracle = new Oracle();
  const lab = new MountLab(oracle);
  try {
    const layouts = [before, after].map((tar) => ({ tar, path: lab.folder('layout') }));
    for (const { tar, path } of layouts) await writeLayout(path, buildImage([tar, top]));
    const [old, fresh] = layouts.map(({ path }) => path);
    const target = lab.folder('target');
    const full = await StoredImage.pull(lab.folder('full'), fresh!);
    const shared = await StoredImage.pull(lab.folder('shared'), fresh!, old!);
    for (const mode of ['merged', 'layers'] as const) {
      const expected = await full.mounted(target, mode, () => snapshotDirectory(oracle, target));
      const shown = await shared.mounted(target, mode, () => snapshotDirectory(oracle, target));
      assertSameSnapshot(expected, shown, `the full image (expected) and the deduped one, ${mode}`);
    }
    const devices = (await shared.images('merged')).flatMap((image) => image.devices);
    assert.ok(
      devices.some((path) => path.endsWith('layer.data')),
      'something was shared',
    );
    full.close();
    shared.close();
  } finally {
    await lab.close();
    await oracle.close();
  }
});

test('one byte in a large file costs little more than one unit', async (t) => {
  const store = Store.open(join(temporaryDirectory(t), 'store'), { fsync: false });
  t.after(() => store.close());
  const data = noise(24 << 20, 3);
  const changed = Buffer.from(data);
  changed[11 << 20]! ^= 1;
  await pullImage(
    store,
    memorySource(buildImage([{ tar: archive(file('big', data), END), compression: 'none' }]), { name: 'a' }),
    {
      dedupe: true,
    },
  );
  const tar = archive(file('big', changed), END);
  const record = await pullImage(
    store,
    memorySource(buildImage([{ tar, compression: 'none' }]), { name: 'b' }),
    {
      dedupe: true,
    },
  );
  const layer = readLayer(store, record.layers[0]!.diffId);
  assert.ok(layer.deduped !== undefined);
  const stored = layer.deduped.data.size + layer.deduped.recipe.size + layer.image.size;
  assert.ok(stored < 64 << 10, `${stored} bytes are stored`);
  const opened = openLayerTar(store, layer.diffId);
  try {
    assert.ok(opened.source.read(0, opened.source.size).equals(tar));
  } finally {
    opened.close();
  }
  assert.deepEqual((await verify(store)).problems, []);
});

test('what shares little is kept as its tar', async (t) => {
  const root = join(temporaryDirectory(t), 'store');
  mkdirSync(root, { mode: 0o700 });
  const store = Store.open(root, { fsync: false });
  t.after(() => store.close());
  const common = noise(40_000, 1);
  const tars = [1, 2].map((seed) =>
    archive(file('common', common), file('own', noise(8 << 20, seed + 10)), END),
  );
  for (const [i, tar] of tars.entries()) {
    const record = await pullImage(store, memorySource(buildImage([tar]), { name: `n${i}` }), {
      dedupe: true,
    });
    const { diffId } = record.layers[0]!;
    assert.equal(readLayer(store, diffId).deduped, undefined);
    assert.equal(statSync(join(store.layout.layer(diffId), 'layer.tar')).size, tar.length);
  }
  assert.deepEqual((await verify(store)).problems, []);
});
