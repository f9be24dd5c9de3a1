import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { flock } from './flock.ts';

test('locks exclude each other between open files', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'veneer-flock-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const path = join(dir, 'lock');
  const a = openSync(path, 'w');
  const b = openSync(path, 'r');
  assert.equal(flock(a, 'shared', { block: true }), true);
  assert.equal(flock(b, 'shared', { block: false }), true);
  assert.equal(flock(a, 'exclusive', { block: false }), false);
  flock(b, 'unlock', { block: true });
  assert.equal(flock(a, 'exclusive', { block: false }), true);
  assert.equal(flock(b, 'shared', { block: false }), false);
  closeSync(a);
  assert.equal(flock(b, 'exclusive', { block: false }), true);
  closeSync(b);
});

test('a closed descriptor is an error with its name', () => {
  assert.throws(() => flock(-1, 'shared', { block: false }), {
    code: 'sys/EBADF',
    message: /file descriptor -1.*EBADF/,
  });
});
