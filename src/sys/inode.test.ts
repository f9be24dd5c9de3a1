import assert from 'node:assert/strict';
import {
  closeSync,
  lstatSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { cloneFile, exchangeNames, makeDevice, makeNode, renameNew, setTimes } from './inode.ts';

function makeDir(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'veneer-inode-'));
  t.after(() => rmSync(dir, { recursive: true }));
  return dir;
}

test('device numbers are packed as makedev(3) does', () => {
  assert.equal(makeDevice(0, 0), 0);
  assert.equal(makeDevice(8, 1), 0x801);
  assert.equal(makeDevice(0xfff, 0xfffff), 0xffffffff);
  assert.equal(makeDevice(0x1000, 0x12345), 0x1000_12300045);
});

test('times keep their nanoseconds, before and after 1970, on a link itself', (t) => {
  const dir = makeDir(t);
  const link = join(dir, 'link');
  symlinkSync('nowhere', link);
  for (const seconds of [1_700_000_000, -5]) {
    setTimes(link, { seconds: 1, nanoseconds: 0 }, { seconds, nanoseconds: 123_456_789 });
    const { mtimeNs } = lstatSync(link, { bigint: true });
    assert.equal(mtimeNs, BigInt(seconds) * 1_000_000_000n + 123_456_789n);
  }
});

test('a FIFO is made with its mode', (t) => {
  const dir = makeDir(t);
  makeNode(join(dir, 'fifo'), 0o010600, 0, 0);
  assert.equal(lstatSync(join(dir, 'fifo')).mode, 0o010600);
  assert.throws(() => makeNode(join(dir, 'fifo'), 0o010600, 0, 0), { code: 'sys/EEXIST' });
});

test('a device node has its numbers', { skip: process.getuid?.() !== 0 && 'needs root' }, (t) => {
  const dir = makeDir(t);
  makeNode(join(dir, 'null'), 0o020666, 1, 3);
  makeNode(join(dir, 'whiteout'), 0o020000, 0, 0);
  assert.equal(lstatSync(join(dir, 'null')).rdev, makeDevice(1, 3));
  assert.equal(lstatSync(join(dir, 'whiteout')).rdev, 0);
});

test('names are exchanged, and a rename can refuse to replace', (t) => {
  const dir = makeDir(t);
  writeFileSync(join(dir, 'a'), 'A');
  writeFileSync(join(dir, 'b'), 'B');
  exchangeNames(join(dir, 'a'), join(dir, 'b'));
  assert.equal(readFileSync(join(dir, 'a'), 'utf8'), 'B');
  assert.throws(() => renameNew(join(dir, 'a'), join(dir, 'b')), { code: 'sys/EEXIST' });
  renameNew(join(dir, 'a'), join(dir, 'c'));
  assert.equal(readFileSync(join(dir, 'c'), 'utf8'), 'B');
});

test('a reflink either shares the data or says that it cannot', (t) => {
  const dir = makeDir(t);
  writeFileSync(join(dir, 'a'), 'data');
  const source = openSync(join(dir, 'a'), 'r');
  const target = openSync(join(dir, 'b'), 'w');
  try {
    cloneFile(source, target);
    assert.equal(readFileSync(join(dir, 'b'), 'utf8'), 'data');
  } catch (error) {
    assert.match((error as { code: string }).code, /^sys\/(ENOTSUP|ENOTTY|EINVAL)$/);
  } finally {
    closeSync(source);
    closeSync(target);
  }
});
