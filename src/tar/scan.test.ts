import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
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
import { brokenTars } from '../../test/support/tar-cases/broken.ts';
import { layersOf, tarCases } from '../../test/support/tar-cases.ts';
import { bufferSource } from '../bytes/io.ts';
import { type Finding, VeneerError } from '../errors.ts';
import { type TarEntry, type TarLimits, TarScanner } from './index.ts';
import { scanSource } from './scan-source.ts';

interface Scanned {
  readonly entries: TarEntry[];
  /** Payload bytes an entry. */
  readonly payloads: string[];
  readonly findings: Finding[];
  readonly offset: number;
  /** `code: message`, or '' */
  readonly error: string;
}

/** Scans `bytes` in pieces of the given sizes (the last one repeats); what was seen before an error is kept. */
function scan(bytes: Buffer, sizes: readonly number[] = [], limits: Partial<TarLimits> = {}): Scanned {
  const entries: TarEntry[] = [];
  const payloads: string[] = [];
  const scanner = new TarScanner({
    onEntry(entry) {
      entries.push(entry);
      payloads.push('');
    },
    onPayload(buffer, start, end) {
      assert.ok(start < end);
      payloads[payloads.length - 1] += buffer.toString('latin1', start, end);
    },
    limits,
  });
  let error = '';
  try {
    for (let at = 0, i = 0; at < bytes.length; i++) {
      const size = sizes.length === 0 ? bytes.length : sizes[Math.min(i, sizes.length - 1)]!;
      // A copy, so that a scanner that keeps a chunk, or looks beyond it, is found out.
      const chunk = Buffer.from(bytes.subarray(at, at + size));
      scanner.write(chunk);
      chunk.fill(0xa5);
      at += size;
      assert.equal(scanner.offset, Math.min(at, bytes.length));
    }
    scanner.end();
  } catch (thrown) {
    if (!(thrown instanceof VeneerError)) throw thrown;
    error = `${thrown.code}: ${thrown.message}`;
  }
  return { entries, payloads, findings: scanner.findings, offset: scanner.offset, error };
}

const scanOk = (bytes: Buffer): Scanned => {
  const scanned = scan(bytes);
  assert.equal(scanned.error, '');
  return scanned;
};

/** What cuts cannot change. */
const comparable = ({ entries, payloads, findings, error }: Scanned): unknown => ({
  entries,
  payloads,
  findings,
  error,
});

const everyTar: readonly (readonly [string, Buffer])[] = [
  ...tarCases.flatMap((tarCase) =>
    layersOf(tarCase).map((layer, i) => [`${tarCase.name}, layer ${i}`, layer] as const),
  ),
  ...brokenTars.map(({ name, bytes }) => [`broken: ${name}`, bytes] as const),
];

test('every case of the table is read without an error', () => {
  for (const tarCase of tarCases) {
    for (const layer of layersOf(tarCase)) assert.equal(scan(layer).error, '', tarCase.name);
  }
});

test('names in the table are unique', () => {
  const names = tarCases.map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
});

test('fed one byte at a time, or in odd pieces, all is seen as in one piece', () => {
  for (const [name, bytes] of everyTar) {
    const whole = comparable(scan(bytes));
    for (const sizes of [[1], [511], [513], [3, 700, 1024]]) {
      if (sizes[0] === 1 && bytes.length > 300_000) continue;
      assert.deepEqual(comparable(scan(bytes, sizes)), whole, `${name} in pieces of ${sizes}`);
    }
  }
});

test('payloads are where the entries say', () => {
  for (const [name, bytes] of everyTar) {
    const { entries, payloads } = scan(bytes);
    for (const [i, entry] of entries.entries()) {
      assert.equal(entry.payloadOffset % 512, 0, name);
      const want =
        entry.sparse === null
          ? bytes.toString('latin1', entry.payloadOffset, entry.payloadOffset + entry.payloadSize)
          : entry.sparse.map((run) => bytes.toString('latin1', run.source, run.source + run.length)).join('');
      // An archive that breaks off gives what it has.
      if (i === entries.length - 1) assert.ok(want.startsWith(payloads[i]!), name);
      else assert.equal(payloads[i], want, `${name}: ${entry.path}`);
      assert.ok(entry.headerOffset < entry.payloadOffset);
    }
  }
});

test('skipping and windows see the same entries as writing everything', () => {
  for (const [name, bytes] of everyTar) {
    const whole = scan(bytes);
    for (const window of [512, 1000, 1 << 18]) {
      const entries: TarEntry[] = [];
      let findings: Finding[] = [];
      let error = '';
      try {
        const scanner = scanSource(bufferSource(bytes), {
          onEntry: (entry) => void entries.push(entry),
          window,
        });
        findings = scanner.findings;
        assert.equal(scanner.entries, entries.length);
      } catch (thrown) {
        if (!(thrown instanceof VeneerError)) throw thrown;
        error = `${thrown.code}: ${thrown.message}`;
      }
      assert.deepEqual(entries, whole.entries, name);
      assert.equal(error, whole.error, name);
      if (error === '') assert.deepEqual(findings, whole.findings, name);
    }
  }
});

for (const { name, bytes, code, message } of brokenTars) {
  test(`refused: ${name}`, () => {
    const { error } = scan(bytes);
    assert.ok(error.startsWith(`${code}: Cannot read the `), error);
    assert.match(error, message);
    assert.match(error, /at offset \d+$/);
  });
}

test('what the builder says is what the scan says', () => {
  const bytesOf = (max: number): fc.Arbitrary<string> =>
    fc.uint8Array({ maxLength: max }).map((bytes) => Buffer.from(bytes).toString('latin1'));
  const name = bytesOf(300).filter((text) => text !== '' && !text.includes('\0') && !text.endsWith('/'));
  const spec = fc.record({
    path: name,
    data: bytesOf(1500),
    dialect: fc.constantFrom('ustar', 'gnu'),
    mode: fc.nat(0o7777),
    uid: fc.nat(2 ** 32 - 1),
    gid: fc.nat(2 ** 32 - 1),
    mtime: fc.integer({ min: -(2 ** 35), max: 2 ** 35 }),
    mtimeNsec: fc.option(fc.nat(999_999_999), { nil: undefined }),
    xattrs: fc.dictionary(
      fc.string({ minLength: 1, maxLength: 20, unit: fc.constantFrom('a', 'b', '.', '-') }),
      bytesOf(60),
      { maxKeys: 3 },
    ),
    kind: fc.constantFrom('file', 'dir', 'symlink', 'sparse'),
    target: name,
  });
  fc.assert(
    fc.property(fc.array(spec, { maxLength: 8 }), (specs) => {
      const members = specs.map(({ kind, path, data, target, dialect, mtimeNsec, ...rest }) => {
        // A GNU long name beside a PAX header keeps the header's name: PAX only for PAX.
        const usesPax = mtimeNsec !== undefined || Object.keys(rest.xattrs).length > 0;
        const options = {
          ...rest,
          dialect: usesPax ? ('ustar' as const) : dialect,
          ...(mtimeNsec === undefined ? {} : { mtimeNsec }),
        } as const;
        if (kind === 'dir') return dir(path, options);
        if (kind === 'symlink') return symlink(path, target, options);
        if (kind === 'sparse') {
          return sparseFile(
            path,
            data.length + 70,
            [{ offset: 33, data }],
            usesPax ? '1.0' : 'old-gnu',
            options,
          );
        }
        return file(path, data, options);
      });
      const { entries, payloads } = scanOk(archive(...members));
      assert.equal(entries.length, specs.length);
      let offset = 0;
      for (const [i, want] of specs.entries()) {
        const entry = entries[i]!;
        const hasData = want.kind === 'file' || want.kind === 'sparse';
        assert.equal(entry.path, want.kind === 'dir' ? `${want.path}/` : want.path);
        assert.equal(entry.type, want.kind === 'sparse' ? 'file' : want.kind);
        assert.equal(entry.linkPath, want.kind === 'symlink' ? want.target : '');
        assert.deepEqual(
          [entry.mode, entry.uid, entry.gid, entry.mtime, entry.mtimeNsec],
          [want.mode, want.uid, want.gid, want.mtime, want.mtimeNsec ?? 0],
        );
        assert.deepEqual(Object.fromEntries(entry.xattrs ?? []), { ...want.xattrs });
        assert.equal(payloads[i], hasData ? want.data : '');
        assert.equal(
          entry.size,
          want.kind === 'sparse' ? want.data.length + 70 : hasData ? want.data.length : 0,
        );
        assert.equal(entry.headerOffset, offset);
        offset += members[i]!.length;
      }
    }),
    { numRuns: 200 },
  );
});

test('mutated archives: the same in any cut, and nothing but a VeneerError', () => {
  const small = everyTar.filter(([, bytes]) => bytes.length < 12_000);
  fc.assert(
    fc.property(
      fc.nat(small.length - 1),
      fc.array(fc.tuple(fc.nat(12_000), fc.nat(255)), { minLength: 1, maxLength: 4 }),
      fc.boolean(),
      fc.array(fc.integer({ min: 1, max: 1500 }), { minLength: 1, maxLength: 5 }),
      (which, changes, repair, sizes) => {
        const bytes = Buffer.from(small[which]![1]);
        for (const [at, value] of changes) {
          const place = at % bytes.length;
          const header = place - (place % 512);
          bytes[place] = value;
          // Most changes only break a checksum; with that put right they get further.
          if (repair && header + 512 <= bytes.length) {
            bytes.fill(' ', header + 148, header + 156);
            let sum = 0;
            for (let i = header; i < header + 512; i++) sum += bytes[i]!;
            bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, header + 148, 'latin1');
          }
        }
        assert.deepEqual(comparable(scan(bytes, sizes)), comparable(scan(bytes)));
      },
    ),
    { numRuns: 1500 },
  );
});

test('truncated archives: the entries before the cut, then tar/truncated or a clean end', () => {
  for (const [name, bytes] of everyTar) {
    if (bytes.length > 9000) continue;
    const whole = scan(bytes);
    for (let length = 0; length < bytes.length; length += length < 2048 ? 97 : 509) {
      const cut = scan(bytes.subarray(0, length));
      assert.deepEqual(
        cut.entries.map(({ path }) => path),
        whole.entries.slice(0, cut.entries.length).map(({ path }) => path),
        name,
      );
      if (cut.error !== '' && cut.error !== whole.error) assert.match(cut.error, /^tar\/truncated: /, name);
    }
  }
});

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
