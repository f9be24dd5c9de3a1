/** Daemons that are killed and machines that lose power in the middle of pulls; many pulls at once. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { chainIds } from '../../src/oci/digest.ts';
import { busyboxImage, busyboxLayer } from '../support/busybox-image.ts';
import { type ContainerdLab, openContainerdLab } from '../support/containerd-lab.ts';
import { CutDisk } from '../support/cut-disk.ts';
import { noise } from '../support/image-builder.ts';
import type { TestImage } from '../support/images.ts';
import { Oracle } from '../support/oracle.ts';
import { pushImage, type Registry, startRegistry } from '../support/registry.ts';
import { archive, dir, file } from '../support/tar-builder.ts';
import { type Snapshot, snapshotDirectory } from '../support/tree-snapshot.ts';
import { assertSameSnapshot } from '../support/tree-snapshot-diff.ts';

const VENEER = ['--snapshotter', 'veneer'] as const;

/** An image of some size: layers of noise over the base. */
function largeImage(base: Buffer, seed: number, megabytes = 6, layers = 4): TestImage {
  const more = Array.from({ length: layers }, (_, i) =>
    archive(
      dir('data'),
      ...Array.from({ length: 100 }, (_, n) => file(`data/${i}-${n}`, `${seed} ${i} ${n}\n`)),
      file(`data/noise-${i}`, noise(megabytes << 20, seed * 10 + i + 1)),
    ),
  );
  return busyboxImage(base, `${seed}`, more);
}

async function look(lab: ContainerdLab, image: TestImage): Promise<Snapshot> {
  const oracle = new Oracle();
  try {
    return await lab.viewed('veneer', chainIds(image.diffIds).at(-1)!, (at) => snapshotDirectory(oracle, at));
  } finally {
    await oracle.close();
  }
}

const pull = (lab: ContainerdLab, registry: Registry, name: string) =>
  lab.tryCtr('images', 'pull', '--plain-http', ...VENEER, `${registry.host}/${name}`);

/** containerd waits some seconds before it tries a socket again that was dead. */
async function pullAgain(lab: ContainerdLab, registry: Registry, name: string): Promise<void> {
  for (let tries = 0; ; tries++) {
    const { code, stderr } = await pull(lab, registry, name);
    if (code === 0) return;
    if (tries === 10 || !stderr.includes('connection error')) throw new Error(stderr);
    await delay(1000);
  }
}

const removeAll = async (lab: ContainerdLab): Promise<void> => {
  const names = (await lab.ctr('images', 'ls', '-q')).split('\n').filter((name) => name !== '');
  // A pull that was killed leaves its lease, which containerd keeps for a day.
  const leases = (await lab.ctr('leases', 'ls', '-q')).split('\n').filter((name) => name !== '');
  for (const lease of leases) await lab.ctr('leases', 'rm', lease);
  if (names.length > 0) await lab.ctr('images', 'rm', '--sync', ...names);
};

/** The image as it is when nothing goes wrong. */
async function expected(
  t: TestContext,
  registry: Registry,
  image: TestImage,
  name: string,
): Promise<Snapshot | null> {
  const lab = await openContainerdLab(t, '2');
  if (lab === null) return null;
  assert.equal((await pull(lab, registry, name)).code, 0);
  const tree = await look(lab, image);
  await lab.close();
  return tree;
}

test('our daemon is killed in the middle of pulls: the next pull goes on, and nothing is left of it', async (t) => {
  const registry = await startRegistry(t);
  const base = busyboxLayer(t);
  if (registry === null || base === null) return;
  const image = largeImage(base, 1);
  await pushImage(registry, 'large', image, '1');
  const tree = await expected(t, registry, image, 'large:1');
  if (tree === null) return;
  const lab = await openContainerdLab(t, '2');
  if (lab === null) return;
  for (const wait of [150, 400, 700, 1000]) {
    const pulling = pull(lab, registry, 'large:1');
    await delay(wait);
    await lab.stopVeneer('SIGKILL');
    await pulling;
    await lab.startVeneer();
    await pullAgain(lab, registry, 'large:1');
    assertSameSnapshot(tree, await look(lab, image), 'a pull without and with a crash');
    await removeAll(lab);
    await lab.untilEmpty();
  }
});

test('containerd is killed in the middle of a pull: afterwards all is there or gone', async (t) => {
  const registry = await startRegistry(t);
  const base = busyboxLayer(t);
  if (registry === null || base === null) return;
  const image = largeImage(base, 2);
  await pushImage(registry, 'large', image, '2');
  const lab = await openContainerdLab(t, '2');
  if (lab === null) return;
  for (const wait of [200, 600]) {
    const pulling = pull(lab, registry, 'large:2');
    await delay(wait);
    await lab.stopContainerd('SIGKILL');
    await pulling;
    await lab.startContainerd();
    await pullAgain(lab, registry, 'large:2');
    const ran = await lab.ctr(
      'run',
      '--rm',
      ...VENEER,
      `${registry.host}/large:2`,
      `c${wait}`,
      'cat',
      '/data/3-99',
    );
    assert.equal(ran, '2 3 99\n');
    await removeAll(lab);
    await lab.untilEmpty();
  }
});

test('ctr is killed in the middle of a pull: the collector leaves nothing', async (t) => {
  const registry = await startRegistry(t);
  const base = busyboxLayer(t);
  if (registry === null || base === null) return;
  const image = largeImage(base, 4);
  await pushImage(registry, 'large', image, '4');
  const lab = await openContainerdLab(t, '2');
  if (lab === null) return;
  const words = ['images', 'pull', '--plain-http', ...VENEER, `${registry.host}/large:4`];
  for (const wait of [250, 500, 900]) {
    const [program, ...rest] = lab.ctrCommand(...words);
    const client = spawn(program!, rest, { stdio: 'ignore', detached: true });
    const ended = once(client, 'exit');
    await delay(wait);
    // It may be done by then.
    if (client.exitCode === null) process.kill(-client.pid!, 'SIGKILL');
    const [code] = await ended;
    assert.ok(code === null || code === 0, `ctr ended with ${code}`);
    await removeAll(lab);
    // An image that nobody has: its removal runs the collector.
    await lab.importImage(busyboxImage(base, 'other'), 'example.org/other:1', '--no-unpack');
    await lab.ctr('images', 'rm', '--sync', 'example.org/other:1');
    assert.deepEqual(await lab.snapshots(), []);
    await lab.untilEmpty();
  }
  await pullAgain(lab, registry, 'large:4');
});

/**
 * The power of our disk only: containerd's own records are whole, and know of every snapshot that we said was made. (Its
 * content store would lose blobs in a power cut, whose names it does not make durable.)
 */
test('the power goes in the middle of pulls and after them: no snapshot is there that is not whole', async (t) => {
  const registry = await startRegistry(t);
  const base = busyboxLayer(t);
  if (registry === null || base === null) return;
  const image = largeImage(base, 3);
  await pushImage(registry, 'large', image, '3');
  const tree = await expected(t, registry, image, 'large:3');
  if (tree === null) return;
  const disk = CutDisk.make(t);
  if (disk === null) return;
  t.after(() => disk.close());
  const lab = await openContainerdLab(t, '2', { root: join(disk.path, 'veneer') });
  if (lab === null) return;
  const chain = chainIds(image.diffIds).at(-1)!;
  /** Null: once the pull is done. */
  for (const wait of [300, 700, 1100, null]) {
    const pulling = pull(lab, registry, 'large:3');
    if (wait === null) assert.equal((await pulling).code, 0);
    else await delay(wait);
    await disk.cut(() => lab.lose());
    await pulling;
    await lab.start();
    const kept = (await lab.snapshots()).filter(({ kind }) => kind === 'Committed');
    for (const { name } of kept) {
      const oracle = new Oracle();
      await lab.viewed('veneer', name, (at) => snapshotDirectory(oracle, at));
      await oracle.close();
    }
    // What was told to be there is there: containerd's own records are made durable before it answers.
    if (wait === null)
      assert.ok(
        kept.some(({ name }) => name === chain),
        'the pulled image is there',
      );
    await pullAgain(lab, registry, 'large:3');
    assertSameSnapshot(tree, await look(lab, image), 'before and after the cut');
    if (wait !== null) {
      await removeAll(lab);
      await lab.untilEmpty();
    }
  }
});

test('fifty pulls at once: all arrive, in bounded memory and with bounded descriptors', async (t) => {
  const registry = await startRegistry(t);
  const base = busyboxLayer(t);
  if (registry === null || base === null) return;
  const lab = await openContainerdLab(t, '2');
  if (lab === null) return;
  const count = 50;
  for (let i = 0; i < count; i++)
    await pushImage(registry, `many-${i}`, largeImage(base, 100 + i, 1, 1), '1');
  let descriptors = 0;
  const watch = setInterval(() => {
    descriptors = Math.max(descriptors, readdirSync(`/proc/${lab.veneerPid}/fd`).length);
  }, 50);
  const pulls = await Promise.all(
    Array.from({ length: count }, (_, i) => pull(lab, registry, `many-${i}:1`)),
  );
  clearInterval(watch);
  for (const { code, stderr } of pulls) assert.equal(code, 0, stderr);
  const memory =
    Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${lab.veneerPid}/status`, 'utf8'))![1]) / 1024;
  t.diagnostic(`at most ${Math.round(memory)} MiB and ${descriptors} descriptors`);
  assert.ok(memory < 700, `${memory} MiB`);
  assert.ok(descriptors < 300, `${descriptors} descriptors`);
  assert.equal((await lab.snapshots()).length, count * 3 + 1);
  const ran = await lab.ctr('run', '--rm', ...VENEER, `${registry.host}/many-49:1`, 'c', 'cat', '/data/0-7');
  assert.equal(ran, '149 0 7\n');
  await removeAll(lab);
  await lab.untilEmpty();
});
