/** Images and containers with real containerd, old and new: imported, pulled, run, written to, committed, removed. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { type TestContext, test } from 'node:test';
import { chainIds } from '../../src/oci/digest.ts';
import { busyboxImage, busyboxLayer } from '../support/busybox-image.ts';
import {
  CONTAINERD_VERSIONS,
  type ContainerdLab,
  type ContainerdVersion,
  openContainerdLab,
} from '../support/containerd-lab.ts';
import type { TestImage } from '../support/images.ts';
import { Oracle } from '../support/oracle.ts';
import { pushImage, startRegistry } from '../support/registry.ts';
import { type Snapshot, snapshotDirectory } from '../support/tree-snapshot.ts';
import { assertSameSnapshot } from '../support/tree-snapshot-diff.ts';

const NAME = 'example.org/busybox:1';
const VENEER = ['--snapshotter', 'veneer'] as const;

interface Bench {
  readonly lab: ContainerdLab;
  readonly base: Buffer;
  readonly image: TestImage;
}

async function open(t: TestContext, version: ContainerdVersion): Promise<Bench | null> {
  const base = busyboxLayer(t);
  if (base === null) return null;
  const lab = await openContainerdLab(t, version);
  return lab && { lab, base, image: busyboxImage(base) };
}

const sh = (lab: ContainerdLab, id: string, script: string, ...flags: string[]): Promise<string> =>
  lab.ctr('run', ...VENEER, ...flags, NAME, id, 'sh', '-ec', script);

async function look(directory: string): Promise<Snapshot> {
  const oracle = new Oracle();
  try {
    return await snapshotDirectory(oracle, directory);
  } finally {
    await oracle.close();
  }
}

for (const version of CONTAINERD_VERSIONS) {
  test(`containerd ${version}: import, run, write, commit, run again, remove: nothing is left`, async (t) => {
    const bench = await open(t, version);
    if (bench === null) return;
    const { lab, image } = bench;
    await lab.importImage(image, NAME, ...VENEER);
    const chains = chainIds(image.diffIds);
    assert.deepEqual(
      (await lab.snapshots()).map(({ name, parent, kind }) => [name, parent, kind]).sort(),
      chains.map((name, i) => [name, chains[i - 1] ?? '', 'Committed']).sort(),
    );
    assert.match(
      await sh(lab, 'once', 'cat /etc/salt /srv/replaced/new; ls /srv; id -u', '--rm'),
      /new\nattributes\nkept\nlink\nlinked\nlinked-too\nnull\nreplaced\nsetuid\n0\n/,
    );

    await sh(
      lab,
      'writer',
      'echo more > /srv/added; rm /srv/kept; mkdir /srv/d; chmod 700 /srv/d; : >> /etc/passwd',
    );
    const active = (await lab.snapshots()).find(({ kind }) => kind === 'Active');
    assert.equal(active?.name, 'writer');
    const usage = await lab.ctr('snapshots', ...VENEER, 'usage', 'writer');
    assert.match(usage, /writer\s+\S+ \S+\s+\d+/);
    const diff = execFileSync('tar', ['-tz'], {
      input: execFileSync(
        'sh',
        ['-c', '"$@"', 'sh', ...lab.ctrCommand('snapshots', ...VENEER, 'diff', 'writer')],
        {
          maxBuffer: 1 << 26,
        },
      ),
      encoding: 'utf8',
    });
    assert.deepEqual(diff.trim().split('\n').sort(), ['srv/', 'srv/.wh.kept', 'srv/added', 'srv/d/']);

    // Without it containerd's collector may take the snapshot as soon as no container needs it.
    await lab.ctr('snapshots', ...VENEER, 'label', 'writer', 'containerd.io/gc.root=now');
    await lab.ctr('containers', 'rm', '--keep-snapshot', 'writer');
    await lab.ctr('snapshots', ...VENEER, 'commit', 'committed', 'writer');
    const tree = await lab.ctr('snapshots', ...VENEER, 'tree');
    assert.match(tree, /committed/);
    const seen = await lab.viewed('veneer', 'committed', look);
    assert.equal(seen.get('srv/added')?.size, 5);
    assert.equal(seen.has('srv/kept'), false);
    assert.equal(seen.get('srv/d')?.mode, 0o700);
    assert.equal(seen.get('srv/linked-too')?.nlink, 2);

    await lab.ctr('snapshots', ...VENEER, 'rm', 'committed');
    await lab.ctr('images', 'rm', '--sync', NAME);
    assert.deepEqual(await lab.snapshots(), []);
    await lab.untilEmpty();
  });

  test(`containerd ${version}: pulled from a registry, all files as through overlayfs`, async (t) => {
    const registry = await startRegistry(t);
    if (registry === null) return;
    const bench = await open(t, version);
    if (bench === null) return;
    const { lab, image } = bench;
    await pushImage(registry, 'busybox', image, '1');
    const reference = `${registry.host}/busybox:1`;
    await lab.ctr('images', 'pull', '--plain-http', ...VENEER, reference);
    assert.match(await lab.ctr('run', '--rm', ...VENEER, reference, 'c', 'cat', '/srv/replaced/new'), /new/);
    const top = chainIds(image.diffIds).at(-1)!;
    const ours = await lab.viewed('veneer', top, look);
    await lab.ctr('images', 'rm', '--sync', reference);
    await lab.importImage(image, NAME, '--local', '--snapshotter', 'overlayfs');
    const theirs = await lab.viewed('overlayfs', top, look);
    assertSameSnapshot(theirs, ours, 'overlayfs (expected) and veneer', { ignore: (path) => path === '' });
    assert.ok(ours.size > 25);
    await lab.untilEmpty();
  });

  test(`containerd ${version}: a container outlives our daemon and containerd`, async (t) => {
    const bench = await open(t, version);
    if (bench === null) return;
    const { lab, image } = bench;
    await lab.importImage(image, NAME, ...VENEER);
    await lab.ctr('run', '-d', ...VENEER, NAME, 'long', 'sleep', '1000');
    const ask = (id: string): Promise<string> =>
      lab.ctr(
        'tasks',
        'exec',
        '--exec-id',
        id,
        'long',
        'sh',
        '-ec',
        `echo ${id} >> /srv/log; cat /srv/log /srv/kept`,
      );
    assert.equal(await ask('one'), 'one\nkept\n');
    await lab.stopVeneer('SIGKILL');
    assert.equal(await ask('two'), 'one\ntwo\nkept\n');
    await lab.startVeneer();
    assert.equal(await ask('three'), 'one\ntwo\nthree\nkept\n');
    await lab.stopContainerd('SIGKILL');
    await lab.startContainerd();
    assert.equal(await ask('four'), 'one\ntwo\nthree\nfour\nkept\n');
    await lab.stopVeneer('SIGTERM');
    await lab.startVeneer();
    assert.match(await sh(lab, 'another', 'cat /srv/kept', '--rm'), /kept/);
    await lab.ctr('tasks', 'kill', '--signal', 'SIGKILL', 'long');
    await lab.ctr('tasks', 'rm', '--force', 'long');
    await lab.ctr('containers', 'rm', 'long');
    await lab.ctr('images', 'rm', '--sync', NAME);
    await lab.untilEmpty();
  });
}
