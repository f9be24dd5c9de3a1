import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { archive, dir, file, sparseFile, symlink } from '../../test/support/tar-builder.ts';
import { brokenTars } from '../../test/support/tar-cases/broken.ts';
import { layersOf, tarCases } from '../../test/support/tar-cases.ts';
import { comparable, everyTar, scan, scanOk } from '../../test/support/tar-scanned.ts';
import { bufferSource } from '../bytes/io.ts';
import { type Finding, VeneerError } from '../errors.ts';
import type { TarEntry } from './index.ts';
import { scanSource } from './scan-source.ts';

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
