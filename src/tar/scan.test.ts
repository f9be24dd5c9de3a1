import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  archive,
  DEFAULT_MTIME,
  dir,
  END,
  file,
  gnuLong,
  hardLink,
  makeHeader,
  member,
  padded,
  paxHeader,
  sparseFile,
  symlink,
} from '../../test/support/tar-builder.ts';
import { scan, scanOk } from '../../test/support/tar-scanned.ts';
import { type TarLimits, TarScanner } from './index.ts';

test('a PAX size is about the member, not about extensions in between', () => {
  const hidden = archive(file('smuggled', 'x'));
  const smuggler = Buffer.concat([
    paxHeader([['size', String(hidden.length)]]),
    gnuLong('L', 'n'.repeat(120)),
    makeHeader({ name: 'n', dialect: 'gnu' }),
    padded(hidden),
  ]);
  const { entries } = scanOk(archive(smuggler, file('after', 'y')));
  assert.deepEqual(
    entries.map(({ path, size }) => [path, size]),
    [
      ['n'.repeat(120), hidden.length],
      ['after', 1],
    ],
  );
});

test('global records hold until replaced; a member has its own', () => {
  const { entries, findings } = scanOk(
    archive(
      paxHeader(
        [
          ['uid', '5'],
          ['SCHILY.xattr.user.g', '1'],
        ],
        'g',
      ),
      file('a'),
      file('b', '', {
        pax: [
          ['uid', '6'],
          ['SCHILY.xattr.user.l', '2'],
        ],
      }),
      paxHeader([['gid', '7']], 'g'),
      file('c'),
    ),
  );
  assert.deepEqual(
    entries.map(({ uid, gid, xattrs }) => [uid, gid, [...xattrs!.keys()].join()]),
    [
      [5, 0, 'user.g'],
      [6, 0, 'user.g,user.l'],
      [5, 7, 'user.g'],
    ],
  );
  assert.deepEqual(new Set(findings.map(({ code }) => code)), new Set(['tar/global-header']));
});

test('hard links with a size: the next block tells whether data follows', () => {
  const { entries, findings, payloads } = scanOk(
    archive(
      file('a', 'data'),
      hardLink('with', 'a', {}, 'data'),
      hardLink('without', 'a', { size: 4 }),
      hardLink('last', 'a', { size: 9999 }),
    ),
  );
  assert.deepEqual(
    entries.map(({ path, size, payloadSize }) => [path, size, payloadSize]),
    [
      ['a', 4, 4],
      ['with', 4, 4],
      ['without', 0, 0],
      ['last', 0, 0],
    ],
  );
  assert.deepEqual(payloads, ['data', 'data', '', '']);
  assert.deepEqual(
    findings.map(({ code, path }) => [code, path]),
    [
      ['tar/unexpected-size', 'with'],
      ['tar/unexpected-size', 'without'],
      ['tar/unexpected-size', 'last'],
    ],
  );
});

test('a link with a size right before the end of the input has no data', () => {
  const { entries } = scanOk(Buffer.concat([file('a', 'x'), hardLink('l', 'a', { size: 1 })]));
  assert.deepEqual(
    entries.map(({ path, payloadSize }) => [path, payloadSize]),
    [
      ['a', 1],
      ['l', 0],
    ],
  );
});

const codes = (bytes: Buffer): string[] => scanOk(bytes).findings.map(({ code }) => code);

test('every oddity has its finding', () => {
  const f = file('f', 'x');
  assert.deepEqual(codes(archive(f)), []);
  assert.deepEqual(codes(f), ['tar/no-end']);
  assert.deepEqual(codes(Buffer.alloc(0)), ['tar/no-end']);
  assert.deepEqual(codes(Buffer.concat([f, END.subarray(0, 512)])), ['tar/lone-zero-block']);
  assert.deepEqual(codes(Buffer.concat([f, END.subarray(0, 512), f])), ['tar/lone-zero-block']);
  assert.deepEqual(codes(archive(f, paxHeader([['path', 'x']]))), ['tar/dangling-extension']);
  assert.deepEqual(codes(archive(paxHeader([['uid', '1']]), paxHeader([['gid', '1']]), f)), [
    'tar/repeated-extension',
  ]);
  assert.deepEqual(
    codes(archive(member('V', 'label'), member('M', 'm', 'rest'), member('\x01', 'x', 'y'), f)),
    ['tar/unknown-type', 'tar/unknown-type', 'tar/unknown-type'],
  );
  assert.deepEqual(codes(archive(dir('d', { size: 4096 }), symlink('s', 't', { size: 1 }), f)), []);
  assert.deepEqual(codes(archive(member('2', 's', 'data', { pax: [['linkpath', 't']] }), f)), [
    'tar/unexpected-size',
  ]);
  const nameless = scanOk(archive(file('', 'x'), member('5', ''), f));
  assert.deepEqual(
    nameless.entries.map(({ path }) => path),
    ['.', 'f'],
  );
  assert.deepEqual(
    nameless.findings.map(({ code }) => code),
    ['tar/empty-name', 'tar/empty-name'],
  );
  assert.deepEqual(codes(archive(file('leaf', '', { dialect: 'gnu', prefix: 'usr/share' }))), [
    'tar/misplaced-prefix',
  ]);
  const runs = [
    { offset: 0, data: 'abc' },
    { offset: 10, data: 'def' },
  ];
  assert.deepEqual(codes(archive(sparseFile('s', 20, runs, 'old-gnu'))), ['tar/sparse-unaligned']);
  const short = file('s', 'abcdef', {
    pax: [
      ['GNU.sparse.size', '9'],
      ['GNU.sparse.map', '0,2'],
    ],
  });
  assert.deepEqual(codes(archive(short)), ['tar/sparse-rest']);
  assert.deepEqual(scanOk(archive(short, f)).payloads, ['ab', 'x']);
});

test('findings name the path and the offset', () => {
  const odd = file('odd', 'x', { pax: [['SCHILY.fflags', 'nodump']] });
  const { findings } = scanOk(archive(file('f', 'x'), odd));
  assert.deepEqual(findings, [
    {
      code: 'tar/pax-keyword',
      message: "the PAX keyword 'SCHILY.fflags' is not kept",
      path: 'odd',
      offset: 2048,
    },
  ]);
});

test('limits', () => {
  const refused = (bytes: Buffer, limits: Partial<TarLimits>): string => scan(bytes, [], limits).error;
  const sparse = (name: string): Buffer => sparseFile(name, 9000, [{ offset: 1, data: 'x' }], 'old-gnu');
  assert.match(
    refused(archive(file('a'), file('b')), { entries: 1 }),
    /^tar\/limit: .*'b'.*more than 1 entries/,
  );
  assert.match(refused(archive(sparse('a'), sparse('b')), { sparseSegments: 2 }), /^tar\/limit: .*'b'/);
  assert.equal(refused(archive(sparse('a')), { sparseSegments: 2 }), '');
  assert.match(refused(archive(file('x'.repeat(120))), { pathBytes: 119 }), /^tar\/limit/);
  assert.match(
    refused(archive(file('x', '', { xattrs: { 'user.a': '12345' } })), { xattrBytes: 10 }),
    /^tar\/limit/,
  );

  const { findings } = scan(archive(...Array.from({ length: 9 }, (_, i) => member('Q', `q${i}`))), [], {
    findings: 3,
  });
  assert.deepEqual(
    findings.map(({ code, path }) => `${code} ${path}`),
    ['tar/unknown-type q0', 'tar/unknown-type q1', 'tar/unknown-type q2', 'tar/more-findings undefined'],
  );
  assert.match(findings[3]!.message, /^6 more/);
});

test('skippable: nothing of what somebody wants, all of the rest', () => {
  const bytes = archive(file('a', 'x'.repeat(1000)), file('b'));
  const scanner = new TarScanner({ onEntry() {} });
  scanner.write(bytes.subarray(0, 512));
  assert.equal(scanner.skippable, 1024);
  assert.throws(() => scanner.skip(1025), RangeError);
  scanner.skip(1000);
  assert.equal(scanner.skippable, 24);
  scanner.skip(24);
  assert.equal(scanner.skippable, 0);
  assert.equal(scanner.offset, 1536);
  scanner.write(bytes.subarray(1536));
  assert.ok(scanner.ended && scanner.skippable > 2 ** 50);
  scanner.skip(100);
  scanner.end();
  assert.equal(scanner.offset, bytes.length + 100);

  const wanting = new TarScanner({ onEntry() {}, onPayload() {} });
  wanting.write(bytes.subarray(0, 600));
  assert.equal(wanting.skippable, 0);
  wanting.write(bytes.subarray(600, 1512));
  assert.equal(wanting.skippable, 24);
});

test('the header offset is that of the first extension', () => {
  const { entries } = scanOk(
    archive(
      file('a'),
      Buffer.concat([
        paxHeader([['uid', '1']]),
        gnuLong('L', 'b'),
        makeHeader({ name: 'x', dialect: 'gnu' }),
      ]),
      file('c'),
    ),
  );
  assert.deepEqual(
    entries.map(({ path, headerOffset, payloadOffset }) => [path, headerOffset, payloadOffset]),
    [
      ['a', 0, 512],
      ['b', 512, 3072],
      ['c', 3072, 3584],
    ],
  );
});

test('dialects: star has a shorter prefix, v7 no device numbers; only twelve bits of a mode count', () => {
  const prefix = 'p'.repeat(131);
  const star = file('f', '', {
    dialect: 'star',
    patch: (block) => void block.write(`${prefix}14524740000 14524740000 `, 345, 'latin1'),
  });
  const v7 = member('3', 'dev', '', { dialect: 'v7', devMajor: 5, devMinor: 6, mode: 0o020666 });
  const { entries } = scanOk(archive(star, v7));
  assert.deepEqual(
    entries.map(({ path, mode, devMajor, devMinor }) => [path, mode, devMajor, devMinor]),
    [
      [`${prefix}/f`, 0o644, 0, 0],
      ['dev', 0o666, 0, 0],
    ],
  );
});

test('the mtime of a header block may be negative, and defaults are plain', () => {
  const { entries } = scanOk(archive(file('f', 'x', { mtime: -5 }), file('g')));
  assert.deepEqual(
    entries.map(({ mtime, mtimeNsec, xattrs, sparse }) => [mtime, mtimeNsec, xattrs, sparse]),
    [
      [-5, 0, null, null],
      [DEFAULT_MTIME, 0, null, null],
    ],
  );
});
