import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { findTopMount, isBelow, parseMountInfo, readMountInfo } from './mountinfo.ts';

test('a line with optional fields and escapes', () => {
  const [mount] = parseMountInfo(
    '36 35 98:0 /root /mnt/a\\040b\\134c rw,noatime shared:1 master:2 - erofs /dev/x\\011y ro,acl\n',
  );
  assert.deepEqual(mount, {
    mountId: 36,
    parentId: 35,
    device: '98:0',
    target: '/mnt/a b\\c',
    options: 'rw,noatime',
    type: 'erofs',
    source: '/dev/x\ty',
    superOptions: 'ro,acl',
  });
});

test('names in UTF-8 are decoded, unknown lines are left out', () => {
  const bytes = Buffer.from('1 0 0:1 / /ä rw - tmpfs t rw\n').toString('latin1');
  assert.equal(parseMountInfo(bytes)[0]?.target, '/ä');
  assert.deepEqual(parseMountInfo('garbage\n1 2 - x\n\n'), []);
});

test('any text is survived', () => {
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => Array.isArray(parseMountInfo(text))));
});

test('the top mount is the one that no other stands on, wherever it is listed', () => {
  const mounts = parseMountInfo(
    '1 0 0:1 / /a rw - x x rw\n2 3 0:2 / /a rw - y y rw\n3 1 0:3 / /a rw - z z rw\n4 2 0:4 / /a/b rw - z z rw\n',
  );
  assert.equal(findTopMount(mounts, '/a')?.mountId, 2);
  assert.equal(findTopMount(mounts, '/c'), undefined);
  assert.ok(findTopMount(readMountInfo(), '/proc') !== undefined);
});

test('below means whole path components', () => {
  assert.ok(isBelow('/a', '/a') && isBelow('/a/b', '/a') && isBelow('/a', '/'));
  assert.ok(!isBelow('/ab', '/a') && !isBelow('/', '/a'));
});
