import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { missing } from '../../test/support/require-tool.ts';
import { isImmutable, setImmutable } from './file-flags.ts';
import { measureVerity, supportsVerity } from './verity.ts';

test('an immutable file stays as it is until the flag is taken off', (t) => {
  if (process.getuid?.() !== 0) return missing(t, 'the immutable flag needs root');
  const dir = mkdtempSync(join(tmpdir(), 'veneer-flags-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const path = join(dir, 'file');
  writeFileSync(path, 'kept');
  const fd = openSync(path, 'r');
  try {
    assert.equal(isImmutable(fd), false);
    if (!setImmutable(fd, true)) return missing(t, 'this file system has no immutable flag');
    assert.equal(isImmutable(fd), true);
    assert.throws(() => writeFileSync(path, 'changed'), { code: 'EPERM' });
    assert.throws(() => rmSync(path), /EPERM|ENOTDIR/);
    assert.equal(setImmutable(fd, true), true);
  } finally {
    setImmutable(fd, false);
    closeSync(fd);
  }
  assert.doesNotThrow(() => writeFileSync(path, 'changed'));
});

test('a file without fs-verity has no digest', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'veneer-flags-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const path = join(dir, 'file');
  writeFileSync(path, 'plain');
  const fd = openSync(path, 'r');
  assert.equal(typeof supportsVerity(fd), 'boolean');
  assert.equal(measureVerity(fd), null);
  closeSync(fd);
});
