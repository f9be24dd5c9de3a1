import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { requireTool } from '../../test/support/require-tool.ts';
import { VeneerError } from '../errors.ts';
import {
  END_OF_ARCHIVE_SIZE,
  encodeHeader,
  paddingOf,
  type TarEntry,
  type TarMember,
  TarScanner,
} from './index.ts';

function member(path: string, rest: Partial<TarMember> = {}): TarMember {
  return {
    path,
    type: 'file',
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: 0,
    mtime: 0,
    mtimeNsec: 0,
    linkPath: '',
    devMajor: 0,
    devMinor: 0,
    xattrs: null,
    ...rest,
  };
}

function archive(members: readonly TarMember[]): Buffer {
  const pieces: Buffer[] = [];
  for (const one of members) {
    const size = one.type === 'file' ? one.size : 0;
    pieces.push(encodeHeader(one), Buffer.alloc(size, 0x61), Buffer.alloc(paddingOf(size)));
  }
  return Buffer.concat([...pieces, Buffer.alloc(END_OF_ARCHIVE_SIZE)]);
}

function scan(bytes: Buffer): TarEntry[] {
  const entries: TarEntry[] = [];
  const scanner = new TarScanner({ onEntry: (entry) => void entries.push(entry) });
  scanner.write(bytes);
  scanner.end();
  assert.deepEqual(scanner.findings, []);
  return entries;
}

/** The header alone, of a member whose payload is too large to make. */
function scanHeader(one: TarMember): TarEntry {
  let found: TarEntry | null = null;
  const scanner = new TarScanner({ onEntry: (entry) => void (found = entry) });
  scanner.write(encodeHeader(one));
  return found ?? assert.fail('no entry');
}

const pick = ({
  path,
  type,
  mode,
  uid,
  gid,
  size,
  mtime,
  mtimeNsec,
  linkPath,
  devMajor,
  devMinor,
  xattrs,
}: TarMember) => ({
  path,
  type,
  mode,
  uid,
  gid,
  size,
  mtime,
  mtimeNsec,
  linkPath,
  devMajor,
  devMinor,
  xattrs: xattrs === null || xattrs.size === 0 ? null : Object.fromEntries(xattrs),
});

const byte = fc.integer({ min: 1, max: 255 }).map((code) => String.fromCharCode(code));
const nameByte = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom('a', 'b', '.', '-', ' ') },
  { weight: 1, arbitrary: byte.filter((char) => char !== '/') },
);
const name = fc
  .tuple(fc.array(nameByte, { minLength: 1, maxLength: 6 }), fc.constantFrom(1, 1, 1, 12, 40))
  .map(([chars, times]) => chars.join('').repeat(times));
const path = fc.array(name, { minLength: 1, maxLength: 5 }).map((parts) => parts.join('/'));
const id = fc.constantFrom(0, 1000, 0o7777777, 0o10000000, 0xfffffffe);
const xattrs = fc.option(
  fc
    .array(
      fc.tuple(
        fc.constantFrom('user.a', 'user.b=c', 'user.100%', 'security.capability', 'user.%3D'),
        fc.array(fc.integer({ min: 0, max: 255 }), { maxLength: 12 }),
      ),
      { minLength: 1, maxLength: 3 },
    )
    .map((pairs) => new Map(pairs.map(([key, value]) => [key, String.fromCharCode(...value)]))),
  { nil: null },
);
const anyMember: fc.Arbitrary<TarMember> = fc
  .record({
    path,
    type: fc.constantFrom('file', 'link', 'symlink', 'char', 'block', 'dir', 'fifo'),
    mode: fc.integer({ min: 0, max: 0o7777 }),
    uid: id,
    gid: id,
    size: fc.constantFrom(0, 1, 511, 512, 513),
    mtime: fc.constantFrom(0, -1, -2, 1_600_000_000, 8 ** 11 - 1, 8 ** 11, -62_135_596_800),
    mtimeNsec: fc.constantFrom(0, 0, 1, 500_000_000, 999_999_999, 120),
    linkPath: path,
    devMajor: fc.constantFrom(0, 5, 0xfff),
    devMinor: fc.constantFrom(0, 1, 0xfffff),
    xattrs,
  })
  .map((one) => ({
    ...one,
    path: one.type === 'dir' ? `${one.path}/` : one.path,
    size: one.type === 'file' ? one.size : 0,
    linkPath: one.type === 'link' || one.type === 'symlink' ? one.linkPath : '',
    devMajor: one.type === 'char' || one.type === 'block' ? one.devMajor : 0,
    devMinor: one.type === 'char' || one.type === 'block' ? one.devMinor : 0,
  }));

test('what is written is read back as it was, and twice the same', () => {
  fc.assert(
    fc.property(fc.array(anyMember, { maxLength: 5 }), (members) => {
      const bytes = archive(members);
      assert.deepEqual(scan(bytes).map(pick), members.map(pick));
      assert.ok(bytes.equals(archive(members)));
    }),
    { numRuns: Number(process.env.VENEER_PROPERTY_RUNS ?? 2000) },
  );
});

test('an ordinary member is one block', () => {
  const long = `${'d'.repeat(80)}/${'e'.repeat(70)}/${'f'.repeat(99)}`;
  for (const one of [
    member('etc/passwd', { uid: 0o7777777, mtime: 1_600_000_000, size: 8 ** 11 - 1 }),
    member('caf\xc3\xa9'),
    member(long),
    member('dir', { type: 'dir' }),
    member('x'.repeat(100), { type: 'symlink', linkPath: 'y'.repeat(100) }),
  ]) {
    assert.equal(encodeHeader(one).length, 512, one.path);
  }
  assert.equal(encodeHeader(member(`${'x'.repeat(101)}`)).length, 3 * 512);
});

test('sizes beyond eight gigabytes', () => {
  for (const size of [8 ** 11 - 1, 8 ** 11, 1_234_567_890_123]) {
    assert.equal(scanHeader(member('large', { size })).size, size);
  }
});

test('a record whose length gets one digit more by its own digits', () => {
  for (let length = 80; length < 110; length++) {
    const value = 'v'.repeat(length);
    assert.equal(
      scanHeader(member('f', { xattrs: new Map([['user.n', value]]) })).xattrs?.get('user.n'),
      value,
    );
  }
});

test('what no tar can say is refused', () => {
  const refused = (one: TarMember): void =>
    assert.throws(
      () => encodeHeader(one),
      (error) =>
        error instanceof VeneerError &&
        error.code === 'tar/limit' &&
        error.message.startsWith("Cannot write 'a"),
    );
  refused(member('a\0b'));
  refused(member('a', { type: 'symlink', linkPath: '\0' }));
  refused(member('a', { size: -1 }));
  refused(member('a', { size: 2 ** 60 }));
  refused(member('a', { uid: 1.5 }));
});

const SAMPLES: TarMember[] = [
  member('dir', { type: 'dir', mode: 0o1755, mtime: 1_600_000_000 }),
  member('dir/file', {
    size: 700,
    mode: 0o4711,
    uid: 1000,
    gid: 0o10000000,
    mtime: 1_600_000_000,
    mtimeNsec: 123_456_789,
  }),
  member('dir/hard', { type: 'link', linkPath: 'dir/file' }),
  member(`dir/${'n'.repeat(180)}`, { size: 3, mtime: 8 ** 11 }),
  member('dir/soft', { type: 'symlink', linkPath: `../${'t'.repeat(120)}`, mode: 0o777 }),
  member('dir/caf\xc3\xa9', { mtime: 1 }),
  member('null', { type: 'char', devMajor: 1, devMinor: 3 }),
  member('disk', { type: 'block', devMajor: 259, devMinor: 70_000 }),
  member('pipe', { type: 'fifo' }),
  member('attributes', {
    xattrs: new Map([
      ['user.a=b', 'v\0\n='],
      ['user.plain', 'text'],
    ]),
  }),
];

test('GNU tar lists what was written', (t) => {
  const tar = requireTool(t, 'tar');
  if (tar === null) return;
  const env = { ...process.env, LC_ALL: 'C', TZ: 'UTC' };
  const listed = execFileSync(
    tar,
    [
      'tf',
      '-',
      '-v',
      '--numeric-owner',
      '--full-time',
      '--quoting-style=literal',
      '--xattrs',
      '--xattrs-include=*',
      '-vv',
    ],
    { input: archive(SAMPLES), env, encoding: 'latin1' },
  );
  assert.deepEqual(
    listed
      .trimEnd()
      .split('\n')
      .map((line) => line.replace(/\s+/g, ' ')),
    [
      'drwxr-xr-t 0/0 0 2020-09-13 12:26:40 dir/',
      '-rws--x--x 1000/2097152 700 2020-09-13 12:26:40.123456789 dir/file',
      'hrw-r--r-- 0/0 0 1970-01-01 00:00:00 dir/hard link to dir/file',
      `-rw-r--r-- 0/0 3 2242-03-16 12:56:32 dir/${'n'.repeat(180)}`,
      `lrwxrwxrwx 0/0 0 1970-01-01 00:00:00 dir/soft -> ../${'t'.repeat(120)}`,
      '-rw-r--r-- 0/0 0 1970-01-01 00:00:01 dir/caf\xc3\xa9',
      'crw-r--r-- 0/0 1,3 1970-01-01 00:00:00 null',
      'brw-r--r-- 0/0 259,70000 1970-01-01 00:00:00 disk',
      'prw-r--r-- 0/0 0 1970-01-01 00:00:00 pipe',
      '-rw-r--r--* 0/0 0 1970-01-01 00:00:00 attributes',
      ' x: 4 user.a=b',
      ' x: 4 user.plain',
    ],
  );
});

test("Python's tarfile reads what was written", (t) => {
  const python = requireTool(t, 'python3');
  if (python === null) return;
  const script = `
import sys, tarfile
for m in tarfile.open(fileobj=sys.stdin.buffer, mode='r|', encoding='latin1', errors='strict'):
    print(repr((m.name, m.type.decode(), m.mode, m.uid, m.gid, m.size, m.linkname, m.devmajor, m.devminor)))
`;
  const printed = execFileSync(python, ['-c', script], { input: archive(SAMPLES), encoding: 'utf8' });
  const flags = { file: '0', link: '1', symlink: '2', char: '3', block: '4', dir: '5', fifo: '6' };
  const expected = SAMPLES.map(
    (one) =>
      `('${one.path}', '${flags[one.type]}', ${one.mode}, ${one.uid}, ${one.gid}, ${one.size}, '${one.linkPath}', ${one.devMajor}, ${one.devMinor})`,
  );
  assert.deepEqual(printed.trimEnd().split('\n'), expected);
});

test('bytes are pinned', () => {
  const digest = createHash('sha256').update(archive(SAMPLES)).digest('hex');
  assert.equal(digest, '339c096aa5f9507bad1e7cf00eb607c26dc4027ad6a5f04d5aabe82c54c41229');
});
