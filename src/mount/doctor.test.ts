import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { diagnose } from './doctor.ts';

const NAMES = [
  'kernel',
  'privilege',
  'erofs',
  'erofs-512',
  'erofs-file',
  'loop',
  'overlay',
  'reflink',
  'fs-verity',
  'udf',
  'erofsfuse',
  'isal',
  'dm-verity',
  'user-namespaces',
];

test('every check says what it found, and what to do when something is missing; nothing is left', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'veneer-doctor-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const report = diagnose(join(dir, 'store', 'not', 'made', 'yet'));
  assert.deepEqual(
    report.checks.map(({ name }) => name),
    NAMES,
  );
  for (const { name, ok, detail, advice } of report.checks) {
    assert.notEqual(detail, '', name);
    assert.equal(advice === null, ok === true, name);
  }
  assert.equal(
    report.ready,
    report.checks.every(({ ok, needed }) => ok === true || !needed),
  );
  assert.deepEqual(readdirSync(dir), []);
});

test('as root on a kernel that mounts EROFS, it is ready', (t) => {
  if (process.getuid?.() !== 0) return t.skip('needs root');
  const report = diagnose(tmpdir());
  const byName = new Map(report.checks.map((check) => [check.name, check]));
  assert.equal(byName.get('erofs')?.ok, true, byName.get('erofs')?.detail);
  assert.equal(report.ready, true);
});

test('where no file can be written it still answers', () => {
  const report = diagnose('/proc/nothing');
  assert.equal(report.checks.find(({ name }) => name === 'reflink')?.ok, null);
});
