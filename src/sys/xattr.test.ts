import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { getXattr, listXattrs, removeXattr, setXattr } from './xattr.ts';

test('binary values, empty values and non-UTF-8 paths survive', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'veneer-xattr-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const path = Buffer.concat([Buffer.from(`${dir}/`), Buffer.from([0xff, 0xfe, 0x41])]);
  writeFileSync(path, '');
  const value = String.fromCharCode(...Array.from({ length: 256 }, (_, i) => i));
  setXattr(path, 'user.binary', value);
  setXattr(path, 'user.empty', '');
  setXattr(path, 'user.n\u00e9', 'x');
  assert.deepEqual(listXattrs(path).sort(), ['user.binary', 'user.empty', 'user.n\u00e9']);
  assert.equal(getXattr(path, 'user.binary'), value);
  assert.equal(getXattr(path, 'user.empty'), '');
  assert.equal(getXattr(path, 'user.none'), null);
  removeXattr(path, 'user.empty');
  assert.equal(getXattr(path, 'user.empty'), null);
  assert.throws(() => removeXattr(path, 'user.empty'), { code: 'sys/ENODATA' });
});

test('a symlink is not followed, a missing file is named', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'veneer-xattr-'));
  t.after(() => rmSync(dir, { recursive: true }));
  writeFileSync(join(dir, 'file'), '');
  setXattr(join(dir, 'file'), 'user.a', '1');
  symlinkSync('file', join(dir, 'link'));
  assert.equal(getXattr(join(dir, 'link'), 'user.a'), null);
  assert.deepEqual(listXattrs(join(dir, 'link')), []);
  assert.throws(() => listXattrs(join(dir, 'gone')), { code: 'sys/ENOENT', message: /gone: .*ENOENT/ });
  assert.throws(() => listXattrs('a\0b'), { code: 'sys/EINVAL' });
});
