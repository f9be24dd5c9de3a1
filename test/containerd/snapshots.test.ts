/** The cases of containerd's own snapshotter test suite (core/snapshots/testsuite), over our socket and with real mounts. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  linkSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { Kind } from '../../src/containerd/gen/snapshots_pb.ts';
import { readClock } from '../../src/sys/clock.ts';
import { Oracle } from '../support/oracle.ts';
import { openSnapshotLab, type SnapshotLab, withStatus } from '../support/snapshot-lab.ts';
import { snapshotDirectory } from '../support/tree-snapshot.ts';
import { assertSameSnapshot } from '../support/tree-snapshot-diff.ts';

const LABELS = { 'containerd.io/gc.root': '2026-11-28T16:00:00Z' };

type Change = (root: string) => void;

const changes =
  (...all: Change[]): Change =>
  (root) => {
    for (const change of all) change(root);
  };
const createFile =
  (path: string, content: string, mode: number): Change =>
  (root) => {
    writeFileSync(join(root, path), content);
    chmodSync(join(root, path), mode);
  };
const createDir =
  (path: string, mode: number): Change =>
  (root) => {
    mkdirSync(join(root, path));
    chmodSync(join(root, path), mode);
  };
const removeAll =
  (path: string): Change =>
  (root) =>
    rmSync(join(root, path), { recursive: true });
const chown =
  (path: string, uid: number, gid: number): Change =>
  (root) =>
    chownSync(join(root, path), uid, gid);
const link =
  (from: string, to: string): Change =>
  (root) =>
    linkSync(join(root, from), join(root, to));
const rename =
  (from: string, to: string): Change =>
  (root) =>
    renameSync(join(root, from), join(root, to));

/** Equal but for times: both sides were written one after the other. The root is the test's own on one side. */
async function assertSameTree(oracle: Oracle, expected: string, actual: string, what: string): Promise<void> {
  assertSameSnapshot(
    await snapshotDirectory(oracle, expected),
    await snapshotDirectory(oracle, actual),
    what,
    {
      ignore: (path, field) => field === 'mtime' || field === 'mtimeNsec' || path === '',
    },
  );
}

/** Each change becomes a committed snapshot over the one before; a view of each must show what one directory shows. */
async function checkChain(
  t: TestContext,
  lab: SnapshotLab,
  all: readonly Change[],
  name = 'chain',
): Promise<void> {
  const oracle = new Oracle();
  t.after(() => oracle.close());
  const flat = lab.folder('flat');
  let parent = '';
  for (const [i, change] of all.entries()) {
    parent = await lab.layer(`${name}-${i}`, parent, change);
    change(flat);
    await lab.within(await lab.view(`${parent}-view`, parent), (path) =>
      assertSameTree(oracle, flat, path, `snapshot ${i} and one directory`),
    );
    await lab.remove(`${parent}-view`);
  }
}

test('Basic', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  const oracle = new Oracle();
  t.after(() => oracle.close());
  const first = changes(
    createFile('foo', 'foo\n', 0o777),
    createDir('a', 0o755),
    createDir('a/b', 0o755),
    createDir('a/b/c', 0o755),
  );
  const second = changes(
    createFile('bar', 'bar\n', 0o777),
    createFile('foo', 'bar\n', 0o777),
    removeAll('a/b'),
  );
  const flat = lab.folder('flat');
  const preparing = await lab.prepare('preparing', '', LABELS);
  assert.ok(preparing.length > 0);
  await lab.within(preparing, first);
  first(flat);
  await lab.commit('committed', 'preparing', LABELS);
  const committed = await lab.stat('committed');
  assert.deepEqual([committed.parent, committed.kind], ['', Kind.COMMITTED]);
  await assert.rejects(lab.stat('preparing'), withStatus(status.NOT_FOUND));

  await lab.within(await lab.prepare('next', 'committed', LABELS), async (path) => {
    await assertSameTree(oracle, flat, path, 'the first layer');
    second(path);
  });
  second(flat);
  const next = await lab.stat('next');
  assert.deepEqual([next.parent, next.kind], ['committed', Kind.ACTIVE]);
  await lab.commit('committed-next', 'next', LABELS);
  const committedNext = await lab.stat('committed-next');
  assert.deepEqual([committedNext.parent, committedNext.kind], ['committed', Kind.COMMITTED]);
  await assert.rejects(lab.stat('next'), withStatus(status.NOT_FOUND));

  const walked = new Map((await lab.infos()).map((info) => [info.name, info]));
  assert.deepEqual(walked.get('committed'), committed);
  assert.deepEqual(walked.get('committed-next'), committedNext);

  await lab.within(await lab.view('nextnext', 'committed-next', LABELS), (path) =>
    assertSameTree(oracle, flat, path, 'both layers'),
  );
  await lab.remove('nextnext');
  await assert.rejects(lab.remove('committed'), withStatus(status.FAILED_PRECONDITION, /remove/));
  await lab.remove('committed-next');
  await lab.remove('committed');
});

test('StatActive, StatCommitted', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await lab.within(await lab.prepare('preparing', '', LABELS), createFile('foo', 'foo\n', 0o777));
  const active = await lab.stat('preparing');
  assert.deepEqual([active.name, active.kind, active.parent], ['preparing', Kind.ACTIVE, '']);
  await lab.commit('committed', 'preparing', LABELS);
  const committed = await lab.stat('committed');
  assert.deepEqual([committed.name, committed.kind, committed.parent], ['committed', Kind.COMMITTED, '']);
});

test('Transitivity', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await lab.layer('a', '', createFile('foo', 'foo\n', 0o777));
  await lab.layer('b', 'a', createFile('foo', 'foo bar\n', 0o777));
  assert.equal((await lab.stat('a')).parent, '');
  const { parent } = await lab.stat('b');
  assert.equal(parent, 'a');
  assert.equal((await lab.stat(parent)).parent, '');
});

test('PrepareViewFailing: each key once, parents that are there and committed', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await lab.layer('a', '', () => {});
  await lab.prepare('new', 'a', LABELS);
  await assert.rejects(lab.view('new', 'a'), withStatus(status.ALREADY_EXISTS));
  await lab.prepare('prepared', 'a', LABELS);
  await assert.rejects(lab.prepare('prepared', 'a'), withStatus(status.ALREADY_EXISTS));
  await lab.view('viewed', 'a', LABELS);
  await assert.rejects(lab.view('viewed', 'a'), withStatus(status.ALREADY_EXISTS));
  await assert.rejects(lab.prepare('x', 'nobody'), withStatus(status.NOT_FOUND, /nobody/));
  await assert.rejects(lab.prepare('x', 'prepared'), withStatus(status.INVALID_ARGUMENT, /not committed/));
  await assert.rejects(lab.mounts('a'), withStatus(status.FAILED_PRECONDITION));
  await assert.rejects(lab.mounts('nobody'), withStatus(status.NOT_FOUND));
  await assert.rejects(lab.usage('nobody'), withStatus(status.NOT_FOUND));
  await assert.rejects(lab.remove('nobody'), withStatus(status.NOT_FOUND));
  await assert.rejects(lab.prepare(''), withStatus(status.INVALID_ARGUMENT));
});

test('Commit: its errors, labels and rebase', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await lab.layer('base', '', createFile('base', '1', 0o644));
  await lab.layer('other', '', createFile('other', '1', 0o644));
  await lab.prepare('active', 'base', { ...LABELS, mine: 'x' });
  await lab.view('view', 'base');
  await assert.rejects(lab.commit('base', 'active'), withStatus(status.ALREADY_EXISTS));
  await assert.rejects(lab.commit('new', 'nobody'), withStatus(status.NOT_FOUND));
  await assert.rejects(lab.commit('new', 'view'), withStatus(status.FAILED_PRECONDITION));
  await assert.rejects(lab.commit('new', 'base'), withStatus(status.FAILED_PRECONDITION));
  await assert.rejects(lab.commit('new', 'active', {}, 'other'), withStatus(status.INVALID_ARGUMENT));
  assert.deepEqual((await lab.stat('active')).labels, { ...LABELS, mine: 'x' });
  await lab.commit('new', 'active', { fresh: 'y', empty: '' }, 'base');
  assert.deepEqual((await lab.stat('new')).labels, { fresh: 'y' }, 'replaced, and none without a value');

  await lab.within(await lab.prepare('loose', ''), createFile('loose', '1', 0o644));
  await assert.rejects(lab.commit('rebased', 'loose', {}, 'nobody'), withStatus(status.NOT_FOUND));
  await assert.rejects(lab.commit('rebased', 'loose', {}, 'view'), withStatus(status.FAILED_PRECONDITION));
  await lab.commit('rebased', 'loose', {}, 'base');
  assert.equal((await lab.stat('rebased')).parent, 'base');
  await lab.within(await lab.view('rebased-view', 'rebased'), (path) => {
    assert.ok(statSync(join(path, 'loose')).isFile());
    assert.ok(statSync(join(path, 'base')).isFile());
  });
  await assert.rejects(lab.remove('base'), withStatus(status.FAILED_PRECONDITION, /remove/));
});

test('rebase of what another differ unpacked: its whiteouts are whiteouts, the root stays that of the parent', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await lab.layer('base', '', (path) => {
    chmodSync(path, 0o711);
    createFile('gone', '1', 0o644)(path);
    createFile('kept', '1', 0o644)(path);
  });
  await lab.within(await lab.prepare('loose', ''), (path) => {
    createFile('new', '1', 0o644)(path);
    execFileSync('mknod', [join(path, 'gone'), 'c', '0', '0']);
  });
  await lab.commit('rebased', 'loose', {}, 'base');
  await lab.within(await lab.view('rebased-view', 'rebased'), (path) => {
    assert.deepEqual(readdirSync(path).sort(), ['kept', 'new']);
    assert.equal(statSync(path).mode & 0o777, 0o711);
  });
  await lab.prepare('empty', '');
  await lab.commit('nothing', 'empty', {}, 'rebased');
  await lab.within(await lab.view('nothing-view', 'nothing'), (path) => {
    assert.deepEqual(readdirSync(path).sort(), ['kept', 'new']);
    assert.equal(statSync(path).mode & 0o777, 0o711);
  });
});

/** Nanoseconds since 1970. */
const timeOf = (time: { seconds: bigint; nanos: number } | undefined): bigint =>
  time!.seconds * 1_000_000_000n + BigInt(time!.nanos);

test('Update', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  const before = readClock();
  await lab.prepare('c1-a', '', LABELS);
  await lab.commit('c1', 'c1-a', LABELS);
  await lab.prepare('c2-a', 'c1', LABELS);
  await lab.commit('c2', 'c2-a', LABELS);
  await lab.prepare('a1', 'c2', LABELS);
  await lab.prepare('a2', '', LABELS);
  await lab.view('v1', 'c2', LABELS);
  await lab.view('v2', '', LABELS);
  const after = readClock();
  const cases: [name: string, kind: Kind, parent: string][] = [
    ['c1', Kind.COMMITTED, ''],
    ['c2', Kind.COMMITTED, 'c1'],
    ['a1', Kind.ACTIVE, 'c2'],
    ['a2', Kind.ACTIVE, ''],
    ['v1', Kind.VIEW, 'c2'],
    ['v2', Kind.VIEW, ''],
  ];
  for (const [name, kind, parent] of cases) {
    const info = await lab.stat(name);
    const created = timeOf(info.createdAt);
    assert.ok(created >= before && created <= after, `${name} was created between both looks at the clock`);
    assert.equal(timeOf(info.updatedAt), created);
    assert.deepEqual([info.name, info.kind, info.parent], [name, kind, parent]);

    const labels = { l1: 'v1', l2: 'v2', l3: 'v3', ...LABELS };
    const u1 = readClock();
    let updated = await lab.update({ name, parent: 'doesnotexist', labels });
    const u2 = readClock();
    assert.equal(timeOf(updated.createdAt), created);
    assert.ok(timeOf(updated.updatedAt) >= u1 && timeOf(updated.updatedAt) <= u2);
    assert.deepEqual([updated.name, updated.kind, updated.parent], [name, kind, parent]);
    assert.deepEqual(updated.labels, labels);

    updated = await lab.update({ name, labels: { l1: 'updated', l4: 'v4' } }, 'labels.l1', 'labels.l2');
    assert.deepEqual(updated.labels, { l1: 'updated', l3: 'v3', ...LABELS });
    updated = await lab.update({ name, labels: { l4: 'v4', ...LABELS } }, 'labels');
    assert.deepEqual(updated.labels, { l4: 'v4', ...LABELS });
    assert.deepEqual((await lab.stat(name)).labels, updated.labels);
    await assert.rejects(
      lab.update({ name, parent: 'doesnotexist', labels: {} }, 'parent'),
      withStatus(status.INVALID_ARGUMENT),
    );
  }
  await assert.rejects(lab.update({ name: 'nobody', labels: {} }), withStatus(status.NOT_FOUND));
});

test('Remove: keys and names can be used again', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await lab.prepare('committed-a', '', LABELS);
  await lab.commit('committed-1', 'committed-a', LABELS);
  await lab.prepare('reuse-1', 'committed-1', LABELS);
  await lab.remove('reuse-1');
  await lab.view('reuse-1', 'committed-1', LABELS);
  await lab.remove('reuse-1');
  await lab.prepare('reuse-1', '', LABELS);
  await lab.remove('committed-1');
  await lab.commit('committed-1', 'reuse-1', LABELS);
});

test('Walk: filters', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  const root = { 'containerd.io/gc.root': 'check-walk' };
  await lab.prepare('a-np', '', root);
  await lab.prepare('p-tmp', '', root);
  await lab.commit('p', 'p-tmp', root);
  await lab.prepare('a', 'p', root);
  await lab.view('v', 'p', root);
  await lab.prepare('p-wl-tmp', '', root);
  await lab.commit('p-wl', 'p-wl-tmp', { l: '1', ...root });
  await lab.prepare('a-wl', 'p-wl', { l: '2', ...root });
  await lab.view('v-wl', 'p-wl', { l: '3', ...root });
  await lab.prepare('a-np-wl', '', { l: '2', ...root });
  const all = ['a', 'a-np', 'a-np-wl', 'a-wl', 'p', 'p-wl', 'v', 'v-wl'];
  const rooted = 'labels."containerd.io/gc.root"==check-walk';
  const cases: [filters: string[], expected: string[]][] = [
    [[], all],
    [[rooted], all],
    [[`kind==active,${rooted}`], ['a', 'a-np', 'a-np-wl', 'a-wl']],
    [[`kind==view,${rooted}`], ['v', 'v-wl']],
    [[`kind==committed,${rooted}`], ['p', 'p-wl']],
    [
      ['name==p', 'name==a-np-wl'],
      ['a-np-wl', 'p'],
    ],
    [['name==a-wl,labels.l'], ['a-wl']],
    [['parent==p'], ['a', 'v']],
    [[`parent!="",${rooted}`], ['a', 'a-wl', 'v', 'v-wl']],
    [['parent=="",kind==committed'], ['p', 'p-wl']],
    [['labels.l'], ['a-np-wl', 'a-wl', 'p-wl', 'v-wl']],
    [['labels.l==2'], ['a-np-wl', 'a-wl']],
    [['name~=/^a-.*wl$/'], ['a-np-wl', 'a-wl']],
  ];
  for (const [filters, expected] of cases)
    assert.deepEqual(await lab.names(...filters), expected, filters.join());
  await assert.rejects(lab.names('name=p'), withStatus(status.INVALID_ARGUMENT, /operator/));
});

test('LayerFileupdate', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  const first = changes(
    createDir('etc', 0o700),
    createFile('etc/hosts', 'mydomain 10.0.0.1', 0o644),
    createFile('etc/profile', 'PATH=/usr/bin', 0o644),
  );
  const second = changes(
    createFile('etc/hosts', 'mydomain 10.0.0.2', 0o644),
    createFile('etc/profile', 'PATH=/usr/bin', 0o666),
    createDir('root', 0o700),
    createFile('root/.bashrc', 'PATH=/usr/sbin:/usr/bin', 0o644),
  );
  // Once at any moment of a second, and at its very beginning.
  for (let i = 0; i < 3; i++) {
    await checkChain(t, lab, [first, second], `run${i}`);
    await delay(1000 - (Date.now() % 1000));
  }
});

test('RemoveDirectoryInLowerLayer', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await checkChain(t, lab, [
    changes(createDir('lib', 0o700), createFile('lib/hidden', '', 0o644)),
    changes(removeAll('lib'), createDir('lib', 0o700), createFile('lib/not-hidden', '', 0o644)),
    createFile('lib/newfile', '', 0o644),
  ]);
});

test('Chown', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  const paths = ['opt', 'opt/a', 'opt/a/b', 'opt/a/b/file.txt'];
  await checkChain(t, lab, [
    changes(
      ...paths.slice(0, 3).map((path) => createDir(path, 0o700)),
      createFile(paths[3]!, 'hello', 0o644),
    ),
    changes(...paths.map((path) => chown(path, 1, 1))),
  ]);
});

test('DirectoryPermissionOnCommit', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await checkChain(t, lab, [
    changes(
      ...['dir1', 'dir2', 'dir3', 'dir4', 'dir5'].map((path) => createDir(path, 0o700)),
      createFile('dir4/f1', '...', 0o644),
      createFile('dir5/f1', '...', 0o644),
      ...['dir1', 'dir2', 'dir3', 'dir5', 'dir5/f1'].map((path) => chown(path, 1, 1)),
    ),
    changes(chown('dir2', 0, 0), removeAll('dir3'), chown('dir4', 1, 1), chown('dir4/f1', 1, 1)),
    changes(
      createDir('dir3', 0o700),
      chown('dir3', 1, 1),
      removeAll('dir5'),
      createDir('dir5', 0o700),
      chown('dir5', 1, 1),
    ),
  ]);
});

test('RemoveIntermediateSnapshot', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await lab.prepare('base', '', LABELS);
  await lab.commit('committed-base', 'base', LABELS);
  await lab.prepare('intermediate', 'committed-base', LABELS);
  await lab.commit('committed-inter', 'intermediate', LABELS);
  await lab.prepare('top', 'committed-inter', LABELS);
  await assert.rejects(lab.remove('committed-inter'), withStatus(status.FAILED_PRECONDITION, /remove/));
  await lab.remove('top');
  await lab.remove('committed-inter');
  await lab.remove('committed-base');
});

test('DeletedFilesInChildSnapshot', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await checkChain(t, lab, [
    changes(createFile('foo', 'foo\n', 0o777), createFile('foobar', 'foobar\n', 0o777)),
    removeAll('foobar'),
    () => {},
  ]);
});

test('MoveFileFromLowerLayer', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await checkChain(t, lab, [
    changes(
      createDir('dir1', 0o700),
      createFile('dir1/f1', 'Hello', 0o644),
      createDir('dir2', 0o700),
      createFile('dir2/f2', '...', 0o644),
    ),
    changes(
      createDir('dir3', 0o700),
      createFile('dir3/f1', 'Hello', 0o644),
      removeAll('dir1'),
      link('dir2/f2', 'dir3/f2'),
      removeAll('dir2/f2'),
    ),
  ]);
});

test('ViewReadonly', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await lab.layer('committed', '', () => {});
  for (const parent of ['committed', '']) {
    await lab.within(await lab.view('view', parent, LABELS), (path) => {
      assert.throws(() => writeFileSync(join(path, 'file'), 'x'), { code: 'EROFS' });
    });
    await lab.remove('view');
  }
  await lab.remove('committed');
});

test('StatInWalk', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await lab.layer('c1', '', () => {});
  await lab.layer('c2', 'c1', () => {});
  await lab.prepare('a1', 'c2', LABELS);
  await lab.view('v1', 'c2', LABELS);
  let seen = 0;
  for await (const info of lab.walk()) {
    assert.deepEqual(await lab.stat(info.name), info);
    seen++;
  }
  assert.equal(seen, 4);
});

test('CloseTwice', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await lab.layer('one', '', () => {});
  await lab.remove('one');
  await lab.stop();
  await lab.stop();
});

test('RootPermission', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  const mask = process.umask(0o077);
  try {
    await lab.within(await lab.prepare('preparing', '', LABELS), (path) => {
      assert.equal(statSync(path).mode & 0o777, 0o755);
    });
  } finally {
    process.umask(mask);
  }
});

test('Rename', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  // Not of directories, as for every snapshotter on overlayfs: there it says EXDEV.
  await checkChain(t, lab, [
    changes(
      createDir('dir1', 0o700),
      createDir('somefiles', 0o700),
      createFile('somefiles/f1', 'was here first!', 0o644),
      createFile('somefiles/f2', 'nothing interesting', 0o644),
    ),
    changes(
      createFile('somefiles/f1-overwrite', 'new content 1', 0o644),
      rename('somefiles/f1-overwrite', 'somefiles/f1'),
      rename('somefiles/f2', 'somefiles/f3'),
    ),
  ]);
});

test('128LayersMount', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  const oracle = new Oracle();
  t.after(() => oracle.close());
  const flat = lab.folder('flat');
  let parent = '';
  for (let i = 0; i < 128; i++) {
    const change =
      i === 0
        ? changes(
            createFile('bottom', 'way at the bottom\n', 0o777),
            createFile('overwriteme', 'FIRST!\n', 0o777),
            createDir('addhere', 0o755),
            createDir('onlyme', 0o755),
            createFile('onlyme/bottom', 'bye!\n', 0o777),
          )
        : changes(
            createFile('overwriteme', `${i} WAS HERE!\n`, 0o777),
            createFile(`addhere/file-${i}`, 'same\n', 0o755),
            removeAll('onlyme'),
            createDir('onlyme', 0o755),
            createFile(`onlyme/file-${i}`, 'only me!\n', 0o777),
          );
    const isCompared = i % 16 === 0;
    await lab.within(await lab.prepare(`preparing-${i}`, parent, LABELS), async (path) => {
      if (isCompared) await assertSameTree(oracle, flat, path, `layer ${i} before its change`);
      change(flat);
      change(path);
      if (isCompared) await assertSameTree(oracle, flat, path, `layer ${i} after its change`);
    });
    parent = `committed-${i}`;
    await lab.commit(parent, `preparing-${i}`, LABELS);
  }
  await lab.within(await lab.view('full', parent, LABELS), (path) =>
    assertSameTree(oracle, flat, path, 'all layers'),
  );
});
