import assert from 'node:assert/strict';
import { closeSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { readBootId, readNamespace } from './alive.ts';
import { type Entry, listEntries, makeEntry, readRecord, writeRecord } from './entry.ts';
import { readMountInfo } from './mountinfo.ts';
import { sweepStale } from './sweep.ts';
import type { MountRecord } from './types.ts';

function makeRunDir(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'veneer-sweep-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return join(dir, 'run');
}

function makeRecord(entry: Entry, more: Partial<MountRecord>): MountRecord {
  return {
    id: entry.id,
    label: null,
    target: '/nowhere',
    mode: 'merged',
    backing: 'file',
    flags: [],
    images: [],
    upper: null,
    ephemeral: false,
    type: 'erofs',
    mountId: -1,
    device: '0:0',
    namespace: readNamespace(),
    boot: readBootId(),
    ...more,
  };
}

test('nothing to sweep, not even a directory', (t) => {
  const runDir = makeRunDir(t);
  assert.deepEqual(sweepStale(runDir), { stale: [], unfinished: [], detached: [] });
  assert.equal(existsSync(runDir), false);
});

test('an entry that somebody works on stays, one that nobody holds goes with its content', (t) => {
  const runDir = makeRunDir(t);
  const entry = makeEntry(runDir);
  mkdirSync(join(entry.path, 'upper', 'a', 'b'), { recursive: true });
  assert.deepEqual(sweepStale(runDir).unfinished, []);
  assert.deepEqual(listEntries(runDir), [entry.id]);
  closeSync(entry.fd);
  assert.deepEqual(sweepStale(runDir).unfinished, [entry.id]);
  assert.equal(existsSync(entry.path), false);
});

test('records of other boots and of mounts that are gone are stale, a living one is not', (t) => {
  const runDir = makeRunDir(t);
  const root = readMountInfo().find((mount) => mount.target === '/proc')!;
  const alive = { target: '/proc', type: root.type as 'erofs', mountId: root.mountId, device: root.device };
  const cases: [Partial<MountRecord>, boolean][] = [
    [alive, true],
    [{ ...alive, boot: 'another' }, false],
    [{ ...alive, device: '0:99999' }, false],
    [{ ...alive, type: 'overlay' }, false],
  ];
  for (const [more, lives] of cases) {
    const entry = makeEntry(runDir);
    writeRecord(entry, makeRecord(entry, more));
    closeSync(entry.fd);
    sweepStale(runDir);
    assert.equal(readRecord(runDir, entry.id) !== null, lives, JSON.stringify(more));
    rmSync(entry.path, { recursive: true, force: true });
  }
});

test('records that cannot be understood count as none', (t) => {
  const runDir = makeRunDir(t);
  for (const text of ['', '{', 'null', '[]', '{"id":"x"}']) {
    const entry = makeEntry(runDir);
    writeFileSync(join(entry.path, 'record.json'), text);
    assert.equal(readRecord(runDir, entry.id), null);
    closeSync(entry.fd);
    assert.deepEqual(sweepStale(runDir).unfinished, [entry.id]);
  }
});

test('a removal that was cut short is finished', (t) => {
  const runDir = makeRunDir(t);
  mkdirSync(join(runDir, 'dead-mount-abcdef', 'upper'), { recursive: true });
  sweepStale(runDir);
  assert.equal(existsSync(join(runDir, 'dead-mount-abcdef')), false);
});
