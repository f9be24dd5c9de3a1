/** The daemon stopped, killed and without power: what was answered holds, and nothing is left behind. */
import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Kind } from '../../src/containerd/gen/snapshots_pb.ts';
import { fsck, Store } from '../../src/store/index.ts';
import { lockStanding } from '../../src/store/locks.ts';
import { makeSmallDisk } from '../support/disk-lab.ts';
import { openSnapshotLab, type SnapshotLab } from '../support/snapshot-lab.ts';

const APART = { apart: true };

/** All that stands below the daemon's folder belongs to a snapshot, and the store is sound. */
async function assertNothingLeft(lab: SnapshotLab): Promise<void> {
  const infos = await lab.infos();
  const committed = infos.filter(({ kind }) => kind === Kind.COMMITTED).length;
  const directories = readdirSync(join(lab.root, 'containerd', 'snapshots'));
  assert.equal(
    directories.length,
    infos.length - committed,
    'a directory for each that can be written or viewed',
  );
  const holds = readdirSync(join(lab.root, 'holds'));
  assert.equal(holds.length, committed, 'a hold for each that is committed');
  const store = Store.open(lab.root);
  try {
    const { problems } = await fsck(store);
    assert.deepEqual(
      problems.filter(({ severity }) => severity === 'error'),
      [],
    );
  } finally {
    store.close();
  }
}

/** The file that each snapshot of {@link grow} adds. */
const nameOf = (snapshot: string): string => `from-${snapshot}`;

/** Commits one snapshot on the other until something fails; returns those that were answered, bottom first. */
async function grow(
  lab: SnapshotLab,
  names: readonly string[],
  parent: string,
  done: string[],
): Promise<void> {
  for (const name of names) {
    const mounts = await lab.prepare(`${name}-active`, parent);
    await lab.within(mounts, (path) => writeFileSync(join(path, nameOf(name)), name.repeat(1000)));
    await lab.commit(name, `${name}-active`);
    done.push(name);
    parent = name;
  }
}

async function assertShows(lab: SnapshotLab, snapshot: string, names: readonly string[]): Promise<void> {
  await lab.within(await lab.view(`${snapshot}-check`, snapshot), (path) => {
    assert.deepEqual(readdirSync(path).sort(), names.map(nameOf).sort());
    for (const name of names) assert.equal(readFileSync(join(path, nameOf(name)), 'utf8'), name.repeat(1000));
  });
  await lab.remove(`${snapshot}-check`);
}

const NAMES = Array.from({ length: 8 }, (_, i) => `s${i}`);

test('stopped and started: mounts and snapshots stay, and open files with them', async (t) => {
  const lab = await openSnapshotLab(t, {}, APART);
  if (lab === null) return;
  await grow(lab, NAMES.slice(0, 2), '', []);
  const mounts = await lab.prepare('running', 's1');
  const root = lab.mount(mounts, lab.folder('rootfs'));
  writeFileSync(join(root, 'before'), '1');
  const points = lab.mountPoints();
  assert.equal(await lab.kill('SIGTERM'), 0);
  assert.deepEqual(lab.mountPoints(), points);
  assert.equal(existsSync(lab.address), false, 'its socket is gone');
  writeFileSync(join(root, 'meanwhile'), '2');
  assert.equal(readFileSync(join(root, nameOf('s0')), 'utf8'), 's0'.repeat(1000));

  await lab.start();
  assert.deepEqual(await lab.mounts('running'), mounts);
  assert.deepEqual(lab.mountPoints(), points, 'nothing was mounted anew');
  lab.unmount(root);
  await lab.commit('after', 'running');
  await lab.within(await lab.view('view', 'after'), (path) => {
    assert.deepEqual(readdirSync(path).sort(), ['before', nameOf('s0'), nameOf('s1'), 'meanwhile'].sort());
  });
  await lab.remove('view');
  await assertNothingLeft(lab);
});

test('after a reboot, which takes all mounts, they are made again when somebody asks', async (t) => {
  const lab = await openSnapshotLab(t, {}, APART);
  if (lab === null) return;
  await grow(lab, NAMES.slice(0, 2), '', []);
  const mounts = await lab.prepare('running', 's1');
  await lab.kill();
  lab.unmountAll();
  await lab.start();
  assert.deepEqual(await lab.mounts('running'), mounts);
  await lab.within(mounts, (path) => assert.ok(statSync(join(path, nameOf('s1'))).isFile()));
});

test('an upper directory that the power cut took is made again as it was, with the root that it covers', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await lab.layer('base', '', (path) => {
    writeFileSync(join(path, 'base'), 'x');
    chmodSync(path, 0o750);
  });
  for (const key of ['asked', 'committed']) {
    const mounts = await lab.prepare(key, 'base');
    const upper = mounts[0]!.options.find((option) => option.startsWith('upperdir='))!.slice(9);
    rmSync(dirname(upper), { recursive: true });
  }
  await lab.within(await lab.mounts('asked'), (path) => assert.equal(statSync(path).mode & 0o777, 0o750));
  await lab.commit('after', 'committed');
  await lab.within(await lab.view('view', 'after'), (path) =>
    assert.equal(statSync(path).mode & 0o777, 0o750),
  );
});

test('killed at any moment: what was answered is there, the next daemon cleans up', async (t) => {
  const lab = await openSnapshotLab(t, {}, APART);
  if (lab === null) return;
  let parent = '';
  const all: string[] = [];
  for (let round = 0; round < 5; round++) {
    const done: string[] = [];
    const work = grow(
      lab,
      NAMES.map((name) => `${name}-${round}`),
      parent,
      done,
    ).catch(() => {});
    await delay(150 + round * 170);
    await lab.kill();
    await work;
    lab.unmountAll();
    await lab.start();
    for (const name of await lab.names('kind==active')) await lab.remove(name);
    // The last one may have been committed without anybody hearing of it.
    for (const name of await lab.names(`kind==committed,name~=/-${round}$/`))
      if (!done.includes(name)) done.push(name);
    all.push(...done);
    parent = all.at(-1) ?? '';
    assert.deepEqual(await lab.names(), [...all].sort());
    if (parent !== '') await assertShows(lab, parent, all);
    await assertNothingLeft(lab);
  }
  for (const name of all.reverse()) await lab.remove(name);
  // A merge in the background keeps its layers until it is done.
  const layers = join(lab.root, 'layers');
  for (let tries = 0; tries < 60; tries++) {
    await lab.cleanup();
    if (readdirSync(layers).length === 0) break;
    await delay(500);
  }
  assert.deepEqual(readdirSync(layers), []);
  assert.deepEqual(readdirSync(join(lab.root, 'chains')), []);
  assert.deepEqual(readdirSync(join(lab.root, 'holds')), []);
  // Made by the first mount, which a slow machine may not get to.
  const run = join(lab.root, 'run');
  assert.deepEqual(existsSync(run) ? readdirSync(run) : [], []);
  assert.deepEqual(lab.mountPoints(), []);
});

test('the power goes: what was answered is on the disk', async (t) => {
  const disk = makeSmallDisk(t, 256 << 20);
  if (disk === null) return;
  const directory = join(disk.directory, 'lab');
  mkdirSync(directory);
  const lab = await openSnapshotLab(t, {}, { ...APART, directory });
  if (lab === null) return;
  const done: string[] = [];
  await grow(lab, NAMES.slice(0, 3), '', done);
  await lab.prepare('gone', 's2');
  await lab.remove('gone');
  await lab.prepare('kept', 's2', { label: 'kept' });
  disk.cutPower();
  await lab.kill();
  lab.unmountAll();
  disk.restorePower();
  await lab.start();
  assert.deepEqual(await lab.names(), ['kept', ...done].sort());
  assert.deepEqual((await lab.stat('kept')).labels, { label: 'kept' });
  await assertShows(lab, 's2', done);
  await lab.within(await lab.mounts('kept'), (path) => writeFileSync(join(path, 'x'), 'x'));
  await assertNothingLeft(lab);
  await lab.stop();
  lab.unmountAll();
});

test('a sweep that fails while the daemon stops does not keep it from ending whole', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await lab.stop();
  const lock = lockStanding(join(lab.root, 'lock'), 'shared', true)!;
  writeFileSync(join(lab.root, 'images', `${'0'.repeat(64)}.json`), 'no record');
  await lab.start();
  // The first sweep waits for the lock by now.
  await delay(100);
  const stopped = lab.stop();
  await delay(100);
  lock.release();
  await stopped;
  await lab.start();
});
