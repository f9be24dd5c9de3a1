import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatTime, paxRecord } from '../../test/support/tar-builder.ts';
import { DEFAULT_LIMITS } from './limits.ts';
import { PaxFields, PaxParser } from './pax.ts';

function parse(records: readonly (readonly [string, string])[], global: PaxFields | null = null): PaxFields {
  const body = Buffer.from(records.map(([key, value]) => paxRecord(key, value)).join(''), 'latin1');
  const fields = new PaxFields();
  fields.resetTo(global);
  new PaxParser(DEFAULT_LIMITS).parse(body, 0, body.length, fields, 0, 'test');
  return fields;
}

const byteString = (options: fc.StringConstraints = {}): fc.Arbitrary<string> =>
  fc.uint8Array(options).map((bytes) => Buffer.from(bytes).toString('latin1'));

test('records are kept byte for byte, whatever their values hold', () => {
  fc.assert(
    fc.property(byteString({ minLength: 1 }), byteString(), byteString(), (path, value, comment) => {
      fc.pre(!path.includes('\0'));
      const fields = parse([
        ['comment', comment],
        ['path', path],
        ['SCHILY.xattr.user.v', value],
        ['linkpath', path],
      ]);
      assert.equal(fields.path, path);
      assert.equal(fields.linkPath, path);
      assert.equal(fields.xattrs?.get('user.v'), value);
      assert.equal(fields.oddities, null);
    }),
  );
});

test('a record states its own length right where the number gets a digit more', () => {
  for (let n = 1; n < 1100; n++) assert.equal(parse([['path', 'x'.repeat(n)]]).path?.length, n);
});

test('times: every second and nanosecond comes back', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
      fc.integer({ min: 0, max: 999_999_999 }),
      (seconds, nanos) => {
        const fields = parse([['mtime', formatTime(seconds, nanos)]]);
        assert.deepEqual([fields.mtime, fields.mtimeNsec], [seconds, nanos]);
      },
    ),
  );
});

test('times: digits beyond nanoseconds are cut towards the past', () => {
  const time = (text: string): [number, number] => {
    const { mtime, mtimeNsec } = parse([['mtime', text]]);
    return [mtime, mtimeNsec];
  };
  assert.deepEqual(time('1.9999999999'), [1, 999_999_999]);
  assert.deepEqual(time('-1.9999999999'), [-2, 0]);
  assert.deepEqual(time('-1.0000000001'), [-2, 999_999_999]);
  assert.deepEqual(time('-0.5'), [-1, 500_000_000]);
  assert.deepEqual(time('-0'), [0, 0]);
  assert.ok(Object.is(time('-0.000')[0], 0));
  assert.deepEqual(time('5.'), [5, 0]);
});

test('the last value wins, an empty one deletes, also what a global header says', () => {
  const global = parse([
    ['uid', '7'],
    ['path', 'everywhere'],
    ['SCHILY.xattr.user.a', 'global'],
  ]);
  assert.equal(parse([], global).uid, 7);
  assert.equal(parse([['uid', '']], global).uid, -1);
  assert.equal(
    parse(
      [
        ['uid', '8'],
        ['uid', '9'],
      ],
      global,
    ).uid,
    9,
  );
  assert.equal(parse([['path', '']], global).path, null);
  const own = parse([['SCHILY.xattr.user.b', 'local']], global);
  assert.deepEqual([...own.xattrs!.keys()], ['user.a', 'user.b']);
  assert.deepEqual([...global.xattrs!.keys()], ['user.a'], 'the global map is not written to');
});

test('an attribute with an empty value is one', () => {
  assert.equal(parse([['SCHILY.xattr.user.empty', '']]).xattrs?.get('user.empty'), '');
});

test('encoded attributes count where the raw one is missing', () => {
  const fields = parse([
    ['LIBARCHIVE.xattr.user.a%3db', Buffer.from('\0\xff', 'latin1').toString('base64').replace(/=+$/, '')],
    ['SCHILY.xattr.user.both', 'raw'],
    ['LIBARCHIVE.xattr.user.both', 'ZW5jb2RlZA=='],
  ]);
  assert.deepEqual([...fields.allXattrs()!].sort(), [
    ['user.a=b', '\0\xff'],
    ['user.both', 'raw'],
  ]);
});

test('keywords that the tree cannot hold are listed, those without meaning for it are not', () => {
  const fields = parse([
    ['atime', '1'],
    ['SCHILY.ino', '5'],
    ['SCHILY.acl.access', 'user::rw-'],
    ['SCHILY.fflags', ''],
    ['GNU.sparse.wrong', '1'],
    ['RHT.security.selinux', 'x'],
  ]);
  assert.deepEqual(fields.oddities, ['SCHILY.acl.access', 'GNU.sparse.wrong', 'RHT.security.selinux']);
});
