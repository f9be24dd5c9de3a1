/** A delta gives back the tar that it was made of, whatever the two have in common; and costs little where they do. */
import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import fc from 'fast-check';
import { archive, dir, END, file, hardLink, symlink } from '../../test/support/tar-builder.ts';
import { bufferSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import { digestOf } from '../oci/digest.ts';
import { accountDelta } from './account.ts';
import { createDelta } from './create.ts';
import { COLUMNS, readHeader } from './format.ts';
import { DELTA_LEVELS, type DeltaLevel, LEVELS } from './level.ts';
import { matchBytes } from './match-bytes.ts';
import { rebuildTar } from './rebuild.ts';

const tarOf = (bytes: Buffer) => ({
  digest: digestOf(bytes),
  size: bytes.length,
  bytes: bufferSource(bytes),
});

function rebuild(delta: Buffer, sources: readonly Buffer[]): Buffer {
  const tars = new Map(sources.map((bytes) => [digestOf(bytes), bytes]));
  const told: [at: number, bytes: Buffer][] = [];
  const pieces = Array.from(
    rebuildTar(bufferSource(delta), (digest) => bufferSource(tars.get(digest)!), {
      onSame: (at, length, digest, from) => told.push([at, tars.get(digest)!.subarray(from, from + length)]),
    }),
    (piece) => Buffer.from(piece),
  );
  const target = Buffer.concat(pieces);
  let end = 0;
  for (const [at, bytes] of told) {
    assert.ok(at >= end && bytes.length > 0, 'in the order of the target');
    assert.ok(target.subarray(at, at + bytes.length).equals(bytes), `what is told at ${at} is true`);
    end = at + bytes.length;
  }
  return target;
}

/** Makes the delta, rebuilds, compares; returns the delta. */
function roundTrip(sources: readonly Buffer[], target: Buffer, level?: DeltaLevel): Buffer {
  const delta = createDelta(tarOf(target), sources.map(tarOf), level);
  assert.ok(rebuild(delta, sources).equals(target));
  const accounts = accountDelta(bufferSource(delta), []);
  const { copied, patched, changed, literal } = accounts[0]!;
  assert.equal(copied + patched + changed + literal, target.length);
  return delta;
}

/** Bytes that look like nothing else: equal seeds give equal bytes. */
function noise(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed * 2654435761 + 1;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) | 0;
    bytes[i] = state >>> 11;
  }
  return bytes;
}

/** Code as compilers write it: instructions that stay, and addresses that move with what was inserted before them. */
function program(functions: readonly number[]): Buffer {
  const starts = new Map<number, number>();
  let at = 0;
  for (const seed of functions) {
    starts.set(seed, at);
    at += 240;
  }
  return Buffer.concat(
    functions.map((seed) => {
      const code = noise(240, seed);
      for (let i = 24; i < 240; i += 40) {
        code.writeInt32LE(starts.get((seed * 7 + i) % 500) ?? 0, i);
      }
      return code;
    }),
  );
}

const files = (count: number, prefix = 'usr/share/'): Buffer[] =>
  Array.from({ length: count }, (_, i) => file(`${prefix}file-${i}`, noise(3000 + i * 37, i)));

/** A header, an op and what zstd takes for each. */
const SMALL = 400;

describe('a delta of', () => {
  it('nothing, and something that is no tar', () => {
    roundTrip([], Buffer.alloc(0));
    roundTrip([Buffer.from('something')], Buffer.alloc(0));
    roundTrip([Buffer.alloc(0), Buffer.from('some')], Buffer.from('something'));
    roundTrip([], noise(5000, 1));
    const same = roundTrip([noise(50_000, 1)], noise(50_000, 1));
    assert.ok(same.length < SMALL, `${same.length}`);
  });

  it('the same tar: one op', () => {
    const tar = archive(...files(50));
    const delta = roundTrip([tar], tar);
    assert.ok(delta.length < SMALL, `${delta.length}`);
    assert.ok(
      readHeader((at, length) => delta.subarray(at, at + length), delta.length).columns.ops.rawSize <= 4,
    );
  });

  it('one byte in a large file', () => {
    const before = noise(8 << 20, 3);
    const after = Buffer.from(before);
    after[5_000_001]! ^= 0x55;
    const delta = roundTrip([archive(file('big', before))], archive(file('big', after)));
    assert.ok(delta.length < SMALL, `${delta.length}`);
  });

  it('an insertion at the front of a file', () => {
    const before = noise(1 << 20, 4);
    const after = Buffer.concat([Buffer.from('#!/bin/sh\n'), before]);
    const delta = roundTrip([archive(file('big', before))], archive(file('big', after)));
    assert.ok(delta.length < SMALL, `${delta.length}`);
  });

  it('files that are renamed, and a directory that moved', () => {
    const old = archive(dir('usr/share/a'), ...files(40, 'usr/share/a/'));
    const now = archive(dir('srv/other'), ...files(40, 'srv/other/'));
    const delta = roundTrip([old], now);
    assert.ok(delta.length < 2500, `${delta.length}`);
  });

  it('a library whose name has another version', () => {
    const code = program(Array.from({ length: 400 }, (_, i) => i));
    const more = program([900, ...Array.from({ length: 400 }, (_, i) => i), 901]);
    const delta = roundTrip(
      [archive(file('lib/libz.so.1.2.3', code))],
      archive(file('lib/libz.so.1.3', more)),
    );
    assert.ok(delta.length < more.length / 10, `${delta.length} of ${more.length}`);
  });

  it('a file that was renamed and changed', () => {
    const before = noise(200_000, 6);
    const after = Buffer.from(before);
    for (let i = 500; i < after.length; i += 20_000) after[i]!++;
    const delta = roundTrip(
      [archive(...files(20), file('opt/first', before))],
      archive(...files(20), file('srv/quite-another-name', after)),
    );
    assert.ok(delta.length < 2000, `${delta.length}`);
  });

  it('files of several sources', () => {
    const one = archive(...files(10, 'a/'));
    const two = archive(...files(10, 'b/'), file('c', noise(9000, 77)));
    const now = archive(...files(10, 'b/'), ...files(10, 'a/'), file('d', noise(9000, 77)));
    const delta = roundTrip([one, two, Buffer.alloc(0), END], now);
    assert.ok(delta.length < 1200, `${delta.length}`);
  });

  it('only newer times and other owners', () => {
    const old = Array.from({ length: 100 }, (_, i) => file(`f${i}`, noise(700, i)));
    const now = Array.from({ length: 100 }, (_, i) =>
      file(`f${i}`, noise(700, i), { mtime: 1_750_000_000, uid: 1000 }),
    );
    const delta = roundTrip([archive(...old)], archive(...now));
    assert.ok(delta.length < 1500, `${delta.length}`);
  });

  it('links and directories whose headers alone changed', () => {
    const members = (mtime: number): Buffer[] => [
      dir('d', { mtime }),
      file('d/f', 'hello', { mtime }),
      hardLink('d/g', 'd/f', { mtime }),
      symlink('d/s', 'f', { mtime }),
    ];
    roundTrip([archive(...members(1))], archive(...members(2)));
  });

  it('everything new: no more than zstd makes of it, and an op or two', () => {
    const old = archive(...files(10));
    const now = archive(file('x', noise(300_000, 1000)), file('y', noise(300_000, 1001)));
    const delta = roundTrip([old], now);
    assert.ok(delta.length < 602_000, `${delta.length}`);
  });

  it('a new build of a program, at every level', () => {
    const functions = Array.from({ length: 500 }, (_, i) => i);
    const old = archive(file('bin/app', program(functions)));
    const now = archive(file('bin/app', program([...functions.slice(0, 200), 600, ...functions.slice(200)])));
    for (const level of LEVELS) {
      const delta = roundTrip([old], now, DELTA_LEVELS[level]);
      assert.ok(delta.length < now.length / 12, `${level}: ${delta.length} of ${now.length}`);
    }
  });

  it('the same input: the same bytes', () => {
    const old = archive(...files(20));
    const now = archive(...files(22));
    assert.ok(createDelta(tarOf(now), [tarOf(old)]).equals(createDelta(tarOf(now), [tarOf(old)])));
  });
});

test('any two strings of bytes, with and without things in common', () => {
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 60 }),
    fc.tuple(fc.nat(5), fc.nat(3000)).map(([seed, length]) => noise(length, seed)),
    fc.tuple(fc.nat(255), fc.nat(2000)).map(([byte, length]) => Buffer.alloc(length, byte)),
  );
  const bytes = fc.array(piece, { maxLength: 8 }).map((pieces) => Buffer.concat(pieces));
  fc.assert(
    fc.property(
      fc.array(bytes, { maxLength: 3 }),
      bytes,
      fc.constantFrom(...LEVELS),
      (sources, target, level) => {
        roundTrip(sources, target, DELTA_LEVELS[level]);
      },
    ),
    { numRuns: 300 },
  );
});

test('any two tars with members in common', () => {
  const member = fc
    .tuple(fc.nat(6), fc.nat(4), fc.nat(4000), fc.nat(3))
    .map(([name, seed, length, mtime]) => file(`d${name % 2}/n${name}`, noise(length, seed), { mtime }));
  const tar = fc
    .tuple(fc.array(member, { maxLength: 10 }), fc.nat(2))
    .map(([members, ends]) => Buffer.concat([...members, ...Array.from({ length: ends }, () => END)]));
  fc.assert(
    fc.property(fc.array(tar, { maxLength: 3 }), tar, (sources, target) => {
      roundTrip(sources, target);
    }),
    { numRuns: 200 },
  );
});

describe('a delta that is damaged', () => {
  const old = archive(...files(12));
  const changed = noise(3000, 0);
  changed[77]!++;
  const now = archive(file('usr/share/file-0', changed), ...files(8), file('new', noise(2000, 99)));
  const delta = createDelta(tarOf(now), [tarOf(old)]);

  /** Rebuilding gives other bytes or one of our errors; never more bytes than promised, never anything else. */
  function check(bytes: Buffer): 'same' | 'other' | 'refused' {
    try {
      let size = 0;
      let equal = true;
      for (const piece of rebuildTar(bufferSource(bytes), () => bufferSource(old))) {
        equal &&= now.subarray(size, size + piece.length).equals(piece);
        size += piece.length;
        assert.ok(size <= 4 * now.length, 'it never ends');
      }
      return equal && size === now.length ? 'same' : 'other';
    } catch (error) {
      assert.ok(error instanceof VeneerError, String((error as Error).stack));
      assert.match(error.code, /^delta\/(corrupt|unsupported|base)$/, error.message);
      return 'refused';
    }
  }

  it('cut off anywhere: refused', () => {
    for (let length = 0; length < delta.length; length++) {
      assert.equal(check(delta.subarray(0, length)), 'refused', `${length} bytes`);
    }
  });

  it('with something behind it: refused', () => {
    assert.equal(check(Buffer.concat([delta, Buffer.from([0])])), 'refused');
  });

  it('with any byte changed: refused, or other bytes, that the digest tells', () => {
    const header = readHeader((at, length) => delta.subarray(at, at + length), delta.length);
    const seen = new Set<string>();
    for (let at = 0; at < delta.length; at += 2) {
      const bytes = Buffer.from(delta);
      bytes[at] = bytes[at]! ^ [0x01, 0x80, 0xff][(at >> 1) % 3]!;
      seen.add(check(bytes));
    }
    assert.ok(seen.has('refused') && seen.has('other'));
    assert.equal(header.sources.length, 1);
  });

  it('with numbers that lie: refused before anything is allocated by them', () => {
    const columnsAt = 56 + 40;
    for (const value of [0n, 1n, 2n ** 32n, 2n ** 48n, 2n ** 53n, 2n ** 64n - 1n]) {
      for (const at of [
        8,
        56 + 32,
        ...COLUMNS.flatMap((_, i) => [columnsAt + i * 16, columnsAt + i * 16 + 8]),
      ]) {
        const bytes = Buffer.from(delta);
        if (bytes.readBigUInt64LE(at) === value) continue;
        bytes.writeBigUInt64LE(value, at);
        assert.notEqual(check(bytes), 'same', `${value} at ${at}`);
      }
    }
    for (const at of [48, 52]) {
      const bytes = Buffer.from(delta);
      bytes.writeUInt32LE(0xffff_ffff, at);
      assert.equal(check(bytes), 'refused');
    }
  });

  it('for another base: refused where the size tells it', () => {
    assert.throws(() => [...rebuildTar(bufferSource(delta), () => bufferSource(now))], {
      code: 'delta/base',
    });
  });
});

test('long files, window by window: insertions, changes, and parts that changed places', () => {
  // Just more than is matched at once.
  const megabytes = Array.from({ length: 50 }, (_, i) => noise(1 << 20, i + 1));
  const old = archive(file('big', Buffer.concat(megabytes)));
  const edited = [...megabytes];
  for (const i of [0, 25, 49]) edited[i] = Buffer.concat([Buffer.from([1, 2, 3]), edited[i]!]);
  const moved = [
    ...edited.slice(0, 10),
    ...edited.slice(34, 42),
    ...edited.slice(10, 34),
    ...edited.slice(42),
  ];
  const delta = roundTrip([old], archive(file('big', Buffer.concat(moved))));
  assert.ok(delta.length < 3000, `${delta.length}`);
});

test('runs at any distance to begin with cover all of the new', () => {
  const near = fc.tuple(fc.nat(3), fc.nat(400)).map(([seed, length]) => noise(length, seed));
  const bytes = fc.array(near, { maxLength: 6 }).map((pieces) => Buffer.concat(pieces));
  fc.assert(
    fc.property(
      bytes,
      bytes,
      fc.integer({ min: -3000, max: 3000 }),
      fc.constantFrom(1, 4, 16),
      (old, now, shift, stride) => {
        let at = 0;
        matchBytes(old, now, shift, stride, {
          run(start, end, distance) {
            assert.equal(start, at);
            assert.ok(end > start && start + distance >= 0 && end + distance <= old.length);
            at = end;
          },
          literal(start, end) {
            assert.equal(start, at);
            assert.ok(end > start);
            at = end;
          },
        });
        assert.equal(at, now.length);
      },
    ),
    { numRuns: 500 },
  );
});
