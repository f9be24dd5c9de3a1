/** The tests' own eyes: a snapshot sees every attribute, a diff names every difference. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { S_IFDIR, S_IFREG, TreeNode } from '../../src/tree/node.ts';
import { Oracle } from './oracle.ts';
import { type Snapshot, type SnapshotEntry, snapshotDirectory, snapshotTree } from './tree-snapshot.ts';
import { diffSnapshots } from './tree-snapshot-diff.ts';

const sha256 = (text: string | Buffer): string => createHash('sha256').update(text).digest('hex');

async function look(make: (directory: string) => void, content?: 'all' | 'sparse'): Promise<Snapshot> {
  const directory = mkdtempSync(join(tmpdir(), 'veneer-look-'));
  const oracle = new Oracle();
  try {
    make(directory);
    return await snapshotDirectory(oracle, directory, content);
  } finally {
    await oracle.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

test('a directory on disk, with bytes for names, links and times', async () => {
  const seen = await look((directory) => {
    chmodSync(directory, 0o711);
    mkdirSync(join(directory, 'd'));
    writeFileSync(Buffer.from(`${directory}/d/\xff`, 'latin1'), 'hello', { mode: 0o640 });
    linkSync(Buffer.from(`${directory}/d/\xff`, 'latin1'), join(directory, 'z'));
    symlinkSync('to/nowhere', join(directory, 's'));
    lutimesSync(join(directory, 's'), 1000.25, 1000.25);
  });
  assert.deepEqual([...seen.keys()].sort(), ['', 'd', 'd/\xff', 's', 'z']);
  assert.equal(seen.get('')!.mode, 0o711);
  const file = seen.get('d/\xff')!;
  assert.deepEqual(
    { type: file.type, mode: file.mode, size: file.size, nlink: file.nlink, sha256: file.sha256 },
    { type: 'file', mode: 0o640, size: 5, nlink: 2, sha256: sha256('hello') },
  );
  assert.equal(file.hardLink, 'd/\xff');
  assert.equal(seen.get('z')!.hardLink, 'd/\xff');
  const link = seen.get('s')!;
  assert.deepEqual([link.target, link.mtime, link.mtimeNsec], ['to/nowhere', 1000, 250_000_000]);
});

test('disk and tree agree on files with holes, read whole and read sparsely', async () => {
  const bytes = Buffer.alloc(3000);
  bytes.write('run', 1500);
  const node = new TreeNode(S_IFREG | 0o644);
  node.size = bytes.length;
  node.extents = [{ offset: 1500, length: 3, source: 0, at: 7 }];
  const root = new TreeNode(S_IFDIR | 0o755);
  root.children!.set('f', node);
  for (const content of ['all', 'sparse'] as const) {
    const onDisk = await look((directory) => writeFileSync(join(directory, 'f'), bytes), content);
    const inTree = await snapshotTree({ root, sources: [], findings: [] }, () => Buffer.from('run'), content);
    assert.equal(inTree.get('f')!.sha256, onDisk.get('f')!.sha256, content);
  }
});

test('a diff names what is missing, what is too much, and every field', () => {
  const entry: SnapshotEntry = {
    type: 'file',
    mode: 0o644,
    uid: 1,
    gid: 2,
    size: 3,
    mtime: 4,
    mtimeNsec: 5,
    devMajor: 0,
    devMinor: 0,
    target: '',
    hardLink: '',
    nlink: 1,
    xattrs: '',
    sha256: 'x',
  };
  const expected: Snapshot = new Map([
    ['a', entry],
    ['b', entry],
  ]);
  const actual: Snapshot = new Map([
    ['b', { ...entry, mode: 0o600, mtimeNsec: 6 }],
    ['c', entry],
  ]);
  assert.deepEqual(diffSnapshots(expected, expected), []);
  assert.deepEqual(diffSnapshots(expected, actual), [
    '"a" is missing (file)',
    '"b" mode: expected 0644, is 0600',
    '"b" mtimeNsec: expected 5, is 6',
    '"c" should not be there (file)',
  ]);
  const ignored = diffSnapshots(expected, actual, {
    ignore: (path, field) => path === 'b' && field === 'mode',
  });
  assert.equal(ignored.length, 3);
  for (const field of Object.keys(entry) as (keyof SnapshotEntry)[]) {
    const other = { ...entry, [field]: typeof entry[field] === 'number' ? 99 : 'other' };
    assert.equal(diffSnapshots(new Map([['a', entry]]), new Map([['a', other]])).length, 1, field);
  }
});
