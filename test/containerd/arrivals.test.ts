/** Blobs are made into layers as they come into real containerd, and let go when nobody wants them. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { chainOf } from '../../src/store/chain-ids.ts';
import { hasChain } from '../../src/store/chain-records.ts';
import { hasLayer } from '../../src/store/layers.ts';
import { Store } from '../../src/store/store.ts';
import { type ContainerdLab, openContainerdLab } from '../support/containerd-lab.ts';
import { buildImage, sampleTars } from '../support/image-builder.ts';
import { missing } from '../support/require-tool.ts';
import { archive, file } from '../support/tar-builder.ts';

const NAME = 'example.org/arrives:1';
const VENEER = ['--snapshotter', 'veneer'] as const;

async function until(done: () => boolean): Promise<void> {
  const limit = Date.now() + 20_000;
  while (!done()) {
    assert.ok(Date.now() < limit, 'it does not come');
    await delay(50);
  }
}

test('an image is converted and merged while it is stored, gone when nobody asks, and none is then until one does', async (t) => {
  const lab = await openContainerdLab(t, '2');
  if (lab === null) return;
  const store = Store.open(lab.root);
  t.after(() => store.close());
  const image = buildImage(sampleTars());
  await lab.importImage(image, NAME, '--no-unpack');
  await until(() => image.diffIds.every((diffId) => hasLayer(store, diffId)));
  await until(() => hasChain(store, chainOf(image.diffIds)));
  assert.deepEqual(await lab.snapshots(), [], 'nobody has asked');
  await lab.ctr('images', 'rm', '--sync', NAME);
  await lab.untilEmpty();

  // It was in vain, so nothing is begun any more until somebody asks.
  await lab.importImage(image, NAME, '--no-unpack');
  await assertNothingComes(lab);
  await lab.importImage(image, NAME, ...VENEER);
  assert.equal((await lab.snapshots()).length, image.diffIds.length);
  const next = buildImage([archive(file('another', 'file'))]);
  await lab.importImage(next, 'example.org/next:1', '--no-unpack');
  await until(() => hasLayer(store, next.diffIds[0]!));
});

/** Longer than it takes to convert them, where somebody does. */
async function assertNothingComes(lab: ContainerdLab): Promise<void> {
  for (let i = 0; i < 20; i++) {
    await delay(100);
    assert.deepEqual(readdirSync(join(lab.root, 'layers')), []);
  }
}

test('--no-convert-on-arrival: layers are converted when they are asked for', async (t) => {
  const lab = await openContainerdLab(t, '2', { serve: ['--no-convert-on-arrival'] });
  if (lab === null) return;
  const image = buildImage(sampleTars());
  await lab.importImage(image, NAME, '--no-unpack');
  await assertNothingComes(lab);
  await lab.importImage(image, NAME, ...VENEER);
  assert.equal((await lab.snapshots()).length, image.diffIds.length);
});

test('what nobody asked for does not fill a disk: a full one gets nothing, a large layer is let go of on its way', async (t) => {
  if (process.getuid?.() !== 0) return missing(t, 'mounting needs root');
  const root = mkdtempSync(join(tmpdir(), 'veneer-small-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256m', 'tmpfs', root]);
  t.after(() => {
    execFileSync('umount', ['--lazy', root]);
    rmSync(root, { recursive: true });
  });
  const lab = await openContainerdLab(t, '2', { root });
  if (lab === null) return;
  writeFileSync(join(root, 'filler'), Buffer.alloc(236 << 20));
  const image = buildImage(sampleTars());
  await lab.importImage(image, NAME, '--no-unpack');
  await assertNothingComes(lab);
  rmSync(join(root, 'filler'));

  const large = buildImage([archive(file('zeros', Buffer.alloc(400 << 20)))]);
  await lab.importImage(large, 'example.org/large:1', '--no-unpack');
  await until(() => readdirSync(join(root, 'tmp')).length > 0);
  await lab.untilEmpty();
});
