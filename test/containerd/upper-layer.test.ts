/** What a container wrote, seen through an overlayfs of the kernel, becomes a layer that says just that. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { readUpperLayer, type UpperLayerOptions } from '../../src/containerd/upper-layer.ts';
import { TarScanner } from '../../src/tar/index.ts';
import { skipReason } from '../e2e/mount-lab.ts';
import { sampleTars } from '../support/image-builder.ts';
import { MountLab } from '../support/kernel-mount.ts';
import { Oracle } from '../support/oracle.ts';
import { archive, dir, file, hardLink, symlink } from '../support/tar-builder.ts';
import { snapshotDirectory } from '../support/tree-snapshot.ts';
import { assertSameSnapshot } from '../support/tree-snapshot-diff.ts';

const BASE = archive(
  dir('etc', { mtime: 1_600_000_000 }),
  file('etc/kept', 'as it was\n'),
  file('etc/opened', 'opened for writing\n'),
  file('etc/same', 'written again\n'),
  file('etc/changed', 'before\n'),
  file('etc/removed', 'gone\n'),
  dir('opt'),
  dir('opt/replaced'),
  file('opt/replaced/old', 'old\n'),
  dir('opt/moved'),
  file('opt/moved/inside', 'inside\n'),
  dir('deep'),
  dir('deep/er'),
  file('deep/er/file', 'deep\n'),
  file('one', 'two names\n'),
  hardLink('two', 'one'),
  symlink('link', 'etc/kept'),
);

/** What happens in the container. */
const SCRIPT = `
set -e
echo after > etc/changed
touch -d @1700000001.123456789 etc/changed
rm etc/removed
rm -r opt/replaced && mkdir opt/replaced && echo new > opt/replaced/new
mkdir made && chmod 1777 made && echo x > made/x && ln made/x made/y
mknod made/device c 5 1 && mkfifo made/pipe
ln -sfn etc/changed link
setfattr -n user.note -v value made/x
chown 12:34 deep/er/file
: >> etc/opened
rm one
`;

interface Bench {
  readonly oracle: Oracle;
  readonly lab: MountLab;
  readonly lower: string;
  readonly upper: string;
  readonly merged: string;
}

async function mountOverlay(t: TestContext): Promise<Bench> {
  const oracle = new Oracle();
  const lab = new MountLab(oracle);
  let mounted = '';
  t.after(async () => {
    if (mounted !== '') execFileSync('umount', [mounted]);
    await lab.close();
    await oracle.close();
  });
  const lower = lab.folder('lower');
  writeFileSync(join(lab.directory, 'base.tar'), BASE);
  await unpack(oracle, [join(lab.directory, 'base.tar')], lower);
  const upper = lab.folder('upper');
  const work = lab.folder('work');
  const merged = lab.folder('merged');
  execFileSync('mount', [
    ...['-t', 'overlay', 'overlay', '-o'],
    `lowerdir=${lower},upperdir=${upper},workdir=${work},redirect_dir=off,metacopy=off`,
    merged,
  ]);
  mounted = merged;
  return { oracle, lab, lower, upper, merged };
}

const unpack = (oracle: Oracle, layers: string[], into: string): Promise<unknown> =>
  oracle.ask({ do: 'unpack', layers, into, implied: { mode: 0o755, uid: 0, gid: 0, mtime: 0 } });

async function layerOf(bench: Bench, options: UpperLayerOptions = {}): Promise<Buffer> {
  const layer = await readUpperLayer(bench.upper, { kind: 'mounted', path: bench.lower }, options);
  try {
    return Buffer.concat([...layer.pieces]);
  } finally {
    layer.close();
  }
}

function entriesOf(tar: Buffer): Map<string, number> {
  const entries = new Map<string, number>();
  const scanner = new TarScanner({
    onEntry: (entry) => void entries.set(entry.path.replace(/\/$/, ''), entry.mtime),
  });
  scanner.write(tar);
  scanner.end();
  return entries;
}

test('base and layer together are what the container saw', { skip: skipReason }, async (t) => {
  const bench = await mountOverlay(t);
  const { oracle, lab, merged } = bench;
  execFileSync('sh', ['-c', SCRIPT], { cwd: merged });
  const before = await snapshotDirectory(oracle, merged);
  const tar = await layerOf(bench);
  const path = join(lab.directory, 'layer.tar');
  writeFileSync(path, tar);
  const both = lab.folder('both');
  await unpack(oracle, [join(lab.directory, 'base.tar'), path], both);
  const after = await snapshotDirectory(oracle, both);
  assertSameSnapshot(before, after, 'the container (expected) and its layers unpacked', {
    // The time of the root is that of its upper directory, the lost name of a file still counts there.
    ignore: (path, field) => (path === '' && /^mtime/.test(field)) || (path === 'two' && field === 'nlink'),
  });
  assert.ok((await layerOf(bench)).equals(tar), 'the same bytes again');

  const names = [...entriesOf(tar).keys()];
  assert.ok(names.includes('etc/.wh.removed') && names.includes('.wh.one'));
  assert.ok(names.includes('opt/replaced/.wh..wh..opq'));
  for (const unchanged of ['etc/opened', 'etc/kept', 'opt/moved'])
    assert.ok(!names.includes(unchanged), unchanged);
});

test('nothing was changed: the layer is empty', { skip: skipReason }, async (t) => {
  const bench = await mountOverlay(t);
  closeSync(openSync(join(bench.merged, 'etc/opened'), 'r+'));
  closeSync(openSync(join(bench.merged, 'deep/er/file'), 'r+'));
  assert.ok(readFileSync(join(bench.upper, 'deep/er/file')).length > 0, 'it was copied up');
  assert.deepEqual([...entriesOf(await layerOf(bench))], []);
});

test('bytes that differ under the same facts are in the layer', { skip: skipReason }, async (t) => {
  const bench = await mountOverlay(t);
  const script =
    'touch -r etc/same stamp; printf "%s\\n" "written AGAIN" > etc/same; touch -r stamp etc/same; rm stamp';
  execFileSync('sh', ['-c', script], { cwd: bench.merged });
  assert.ok(entriesOf(await layerOf(bench)).has('etc/same'));
});

test('no time is later than SOURCE_DATE_EPOCH', { skip: skipReason }, async (t) => {
  const bench = await mountOverlay(t);
  execFileSync('sh', ['-c', SCRIPT], { cwd: bench.merged });
  const epoch = 1_650_000_000;
  const entries = entriesOf(await layerOf(bench, { epoch }));
  assert.ok(entries.size > 10);
  for (const [path, mtime] of entries) assert.ok(mtime <= epoch, `${path} ${mtime}`);
  assert.equal(entries.get('etc/.wh.removed'), epoch);
});

test('without anything below, all of the upper directory is the layer', { skip: skipReason }, async (t) => {
  const oracle = new Oracle();
  const lab = new MountLab(oracle);
  t.after(async () => {
    await lab.close();
    await oracle.close();
  });
  const upper = lab.folder('upper');
  mkdirSync(join(upper, 'a'));
  writeFileSync(join(upper, 'a/b'), sampleTars()[0]!);
  const layer = await readUpperLayer(upper, { kind: 'nothing' });
  const tar = Buffer.concat([...layer.pieces]);
  layer.close();
  assert.deepEqual([...entriesOf(tar).keys()], ['.', 'a', 'a/b']);
});
