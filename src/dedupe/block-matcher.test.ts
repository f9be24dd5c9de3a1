import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { noise } from '../../test/support/image-builder.ts';
import { archive, END, file } from '../../test/support/tar-builder.ts';
import { bufferSource } from '../bytes/io.ts';
import { TarScanner } from '../tar/index.ts';
import { BlockMatcher, FIRST_BASE, type NewData, OWN_DATA } from './block-matcher.ts';
import { type FileRange, indexFiles } from './index-tar.ts';
import { OriginList, Origins } from './origins.ts';
import { decodeRecipe, eachRun, encodeRecipe, type Recipe, RunList, ZEROS } from './recipe.ts';
import { recipeTar } from './recipe-source.ts';
import { UnitTable } from './unit-table.ts';
import { decodeUnits } from './units.ts';

function memoryData(): NewData & { bytes(): Buffer } {
  let held = Buffer.alloc(0);
  return {
    get size() {
      return held.length;
    },
    append: (bytes) => {
      held = Buffer.concat([held, bytes]);
    },
    read: (offset, length) => held.subarray(offset, offset + length),
    bytes: () => held,
  };
}

function filesOf(tar: Buffer): FileRange[] {
  const files: FileRange[] = [];
  const scanner = new TarScanner({
    onEntry: ({ payloadOffset, payloadSize }) => files.push({ at: payloadOffset, size: payloadSize }),
  });
  scanner.write(tar);
  scanner.end();
  return files;
}

interface Split {
  readonly recipe: Recipe;
  readonly data: Buffer;
  readonly rebuilt: Buffer;
  /** Blocks by source. */
  readonly shares: number[];
}

/** Splits `tar` given in pieces of `step` bytes, and puts it together again through an encoded recipe. */
function split(tar: Buffer, bases: readonly Buffer[], step = 1 << 16): Split {
  const table = new UnitTable();
  bases.forEach((base, i) => {
    const entries = decodeUnits(indexFiles(bufferSource(base), filesOf(base)).encode())!;
    for (let at = 0; at < entries.length; at += 2) table.add(entries[at]!, FIRST_BASE + i, entries[at + 1]!);
  });
  const data = memoryData();
  const matcher = new BlockMatcher(() => table, bases.map(bufferSource), data);
  const scanner = new TarScanner({
    onEntry: ({ payloadOffset, payloadSize }) => matcher.expectFile(payloadOffset, payloadSize),
  });
  for (let at = 0; at < tar.length; at += step) {
    const chunk = tar.subarray(at, at + step);
    scanner.write(chunk);
    matcher.write(chunk);
  }
  matcher.finish();
  const digest = `sha256:${'0'.repeat(64)}`;
  const files = [data.bytes(), ...bases];
  const sources = files.map(({ length }) => ({ digest, size: length }));
  const recipe = { tarSize: tar.length, sources, runs: matcher.runs.finish() };
  const decoded = decodeRecipe(encodeRecipe(recipe), 'test');
  assert.deepEqual(decoded, recipe);
  const shares = files.map(() => 0);
  shares.push(0);
  eachRun(decoded.runs, (source, _, blocks) => (shares[source]! += blocks));
  const whole = recipeTar(decoded, files.map(bufferSource));
  const pieces: Buffer[] = [];
  for (let at = 0; at < tar.length; at += 7001) pieces.push(whole.read(at, Math.min(7001, tar.length - at)));
  return { recipe: decoded, data: data.bytes(), rebuilt: Buffer.concat(pieces), shares };
}

const blocksOf = (bytes: number): number => Math.ceil(bytes / 512);

test('what a base has is shared, one changed byte costs one unit', () => {
  const big = noise(300_000, 1);
  const small = [...Array(40).keys()].map((i) => noise(100 + i * 37, 10 + i));
  const tarOf = (data: Buffer, mtime: number): Buffer =>
    archive(
      file('big', data, { mtime }),
      ...small.map((bytes, i) => file(`small-${i}`, bytes, { mtime })),
      END,
    );
  const base = tarOf(big, 1);
  const changed = Buffer.from(big);
  changed[150_000]! ^= 1;
  const same = split(tarOf(changed, 1), [base]);
  assert.deepEqual(same.rebuilt, tarOf(changed, 1));
  assert.equal(same.data.length, 4096 + 512, 'and the first header, which comes before anything is known');
  // other headers: they are all that is new
  const touched = split(tarOf(big, 2), [base]);
  assert.deepEqual(touched.rebuilt, tarOf(big, 2));
  assert.equal(touched.data.length, 41 * 512);
});

test('a file is found wherever it stands, in any base, also a small one and one whose begin moved by blocks', () => {
  const files = [...Array(12).keys()].map((i) => noise(i % 2 === 0 ? 700 + i : 40_000 + i * 999, i + 1));
  const bases = [0, 1].map((half) =>
    archive(...files.slice(half * 6, half * 6 + 6).map((data, i) => file(`f${half}${i}`, data)), END),
  );
  const order = [7, 2, 11, 0, 5, 1, 3];
  const tar = archive(...order.map((i) => file(`other-${i}`, files[i]!)), END);
  const found = split(tar, bases);
  assert.deepEqual(found.rebuilt, tar);
  assert.equal(found.data.length, order.length * 512, 'new headers only');
  const moved = archive(file('moved', Buffer.concat([noise(1536, 99), files[5]!])), END);
  const shifted = split(moved, bases);
  assert.deepEqual(shifted.rebuilt, moved);
  assert.ok(shifted.data.length < 4 * 4096, `${shifted.data.length} bytes are new`);
});

test('a file that comes twice in one tar is kept once, long zeros are not kept', () => {
  const data = noise(100_000, 3);
  const tar = archive(file('a', data), file('b', data), file('zeros', Buffer.alloc(1 << 20)), END);
  const { rebuilt, shares, data: kept } = split(tar, []);
  assert.deepEqual(rebuilt, tar);
  assert.ok(kept.length <= blocksOf(data.length) * 512 + 3 * 512);
  assert.ok(shares[ZEROS]! >= 2048);
  assert.ok(shares[OWN_DATA]! >= 2 * blocksOf(data.length));
});

test('how the tar is cut makes no difference; what ends inside a block is kept to the byte', () => {
  const base = archive(file('x', noise(90_000, 1)), file('y', noise(5000, 2)), END);
  const tar = Buffer.concat([
    archive(file('y', noise(5000, 2)), file('x', noise(90_000, 1)), END),
    noise(777, 5),
  ]);
  const whole = split(tar, [base], tar.length);
  assert.deepEqual(whole.rebuilt, tar);
  for (const step of [511, 4096, 100_003]) {
    const cut = split(tar, [base], step);
    assert.deepEqual(cut.recipe, whole.recipe);
    assert.deepEqual(cut.data, whole.data);
  }
});

test('any tar comes back, whatever the bases have of it', () => {
  const content = fc.record({
    seed: fc.integer({ min: 1, max: 12 }),
    size: fc.oneof(fc.nat(3000), fc.nat(60_000), fc.constantFrom(0, 512, 4096, 4097, 131_072)),
    zeros: fc.constantFrom(0, 0, 0, 70_000),
    flip: fc.option(fc.nat(60_000), { nil: undefined }),
  });
  const tars = fc.array(content, { maxLength: 8 }).map((files) =>
    archive(
      ...files.map(({ seed, size, zeros, flip }, i) => {
        const data = Buffer.concat([
          noise(size, seed),
          Buffer.alloc(zeros),
          noise(zeros === 0 ? 0 : 600, seed),
        ]);
        if (flip !== undefined && flip < data.length) data[flip]! ^= 0x80;
        return file(`f${i}`, data);
      }),
      END,
    ),
  );
  fc.assert(
    fc.property(
      tars,
      fc.array(tars, { maxLength: 3 }),
      fc.integer({ min: 100, max: 9000 }),
      (tar, bases, step) => {
        assert.deepEqual(split(tar, bases, step).rebuilt, tar);
      },
    ),
    { numRuns: 60 },
  );
});

test('what a base is known to have given is neither read nor searched', () => {
  const silent = { size: 1 << 20, read: () => assert.fail('the base is read') };
  const base = noise(silent.size, 1);
  const taken = [
    { from: 512, length: 100_000 },
    { from: 300_192, length: 18_000 },
    // goes on from the run before it, and has whole blocks only with that
    { from: 318_192, length: 2800 },
    { from: 5600, length: 4096 },
    { from: 70_001, length: 3000 },
  ];
  const data = Buffer.concat(taken.map(({ from, length }) => base.subarray(from, from + length)));
  const tar = archive(file('a', data), file('b', noise(9000, 2)), END);
  const at = tar.indexOf(data);
  for (const step of [1000, 1 << 20]) {
    const kept = memoryData();
    const origins = new Origins();
    const table = new UnitTable();
    const matcher = new BlockMatcher(() => table, [silent], kept, origins);
    for (const { at: begin, size } of filesOf(tar)) matcher.expectFile(begin, size);
    let told = at;
    for (const { from, length } of taken) {
      origins.add(Float64Array.of(told, length, 0, from));
      told += length;
    }
    for (let begin = 0; begin < tar.length; begin += step) matcher.write(tar.subarray(begin, begin + step));
    matcher.finish();
    const { runs, sources } = { runs: matcher.runs.finish(), sources: [kept.bytes(), base] };
    const whole = recipeTar(
      { tarSize: tar.length, runs, sources: sources.map(({ length }) => ({ digest: '', size: length })) },
      sources.map(bufferSource),
    );
    assert.deepEqual(whole.read(0, tar.length), tar);
    const shared = 98_304 + 16_384;
    assert.ok(kept.bytes().length <= tar.length - shared, `${kept.bytes().length} of ${tar.length} are kept`);
  }
});

test('origins through a recipe lead to its files', () => {
  const list = new RunList();
  list.add(1, 10, 4);
  list.add(ZEROS, 0, 2);
  list.add(3, 100, 6);
  list.add(2, 0, 1);
  const through = (at: number, length: number, from: number) => {
    const origins = new OriginList();
    origins.addThrough(list.finish(), [-1, 7, 9], at, length, from);
    return [...origins.take()];
  };
  assert.deepEqual(through(5, 13 * 512, 0), [
    ...[5 + 6 * 512, 6 * 512, 9, 100 * 512],
    ...[5 + 12 * 512, 512, 7, 0],
  ]);
  assert.deepEqual(through(1000, 300, 7 * 512 + 30), [1000, 300, 9, 101 * 512 + 30]);
  assert.deepEqual(through(0, 512, 0), []);
});

test('damaged recipes are refused', () => {
  const base = archive(file('x', noise(90_000, 1)), END);
  const tar = archive(file('y', noise(500, 2)), file('x', noise(90_000, 1)), END);
  const good = encodeRecipe(split(tar, [base]).recipe);
  assert.throws(() => decodeRecipe(good.subarray(0, good.length - 1), 'r'), /Cannot read the recipe r/);
  assert.throws(() => decodeRecipe(Buffer.concat([good, Buffer.alloc(1)]), 'r'), /Cannot read the recipe r/);
  let refused = 0;
  for (let at = 0; at < good.length; at++) {
    const bad = Buffer.from(good);
    bad[at]! ^= 0x41;
    try {
      const { runs, sources } = decodeRecipe(bad, 'r');
      // what is accepted points inside its sources
      eachRun(runs, (source, begin, blocks) => {
        if (source !== ZEROS)
          assert.ok((begin + blocks) * 512 <= Math.ceil(sources[source - 1]!.size / 512) * 512);
      });
    } catch (error) {
      assert.match(String(error), /Cannot read the recipe r/);
      refused++;
    }
  }
  assert.ok(refused > 10);
});

test('a run behind the last block that can be counted is refused, not taken for another', () => {
  const source = { digest: `sha256:${'0'.repeat(64)}`, size: 2 ** 42 };
  const from = (at: number): Recipe => {
    const runs = { count: 1, starts: Uint32Array.of(0, 1), sources: Uint16Array.of(1) };
    return { tarSize: 512, sources: [source], runs: { ...runs, ats: [at] as unknown as Uint32Array } };
  };
  const last = 2 ** 32 - 2;
  assert.deepEqual(decodeRecipe(encodeRecipe(from(last)), 'r').runs.ats, Uint32Array.of(last));
  assert.throws(() => decodeRecipe(encodeRecipe(from(2 ** 32)), 'r'), /run 0: 1 blocks at 4294967296/);
});
