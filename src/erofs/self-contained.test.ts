import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { describeTree } from '../../test/support/random-tree.ts';
import { archive, file, sparseFile } from '../../test/support/tar-builder.ts';
import { layersOf, tarCases } from '../../test/support/tar-cases.ts';
import { bufferSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import { TarScanner } from '../tar/index.ts';
import { type FileTree, TreeBuilder } from '../tree/index.ts';
import { ErofsReader, SelfContainedWriter } from './index.ts';

/** Converts a tar, fed in chunks of `size`; the image in one buffer. */
function convert(tar: Buffer, blockSize: number, size = tar.length): { image: Buffer; tree: FileTree } {
  let image = Buffer.alloc(0);
  const writer = new SelfContainedWriter(blockSize, {
    write(chunk, at) {
      if (image.length < at + chunk.length)
        image = Buffer.concat([image, Buffer.alloc(at + chunk.length - image.length)]);
      chunk.copy(image, at);
    },
  });
  const scanner = new TarScanner(writer);
  for (let at = 0; at < tar.length; at += size) scanner.write(Buffer.from(tar.subarray(at, at + size)));
  scanner.end();
  const { tree, size: total } = writer.finish('sha256:0', (_, at, length) => image.subarray(at, at + length));
  assert.equal(image.length, total);
  return { image, tree };
}

/** The layers of the conformance table that can be converted on their own. */
function* layers(): Generator<[string, Buffer, FileTree]> {
  for (const tarCase of tarCases) {
    if (tarCase.huge) continue;
    for (const [i, tar] of layersOf(tarCase).entries()) {
      if (tar.length > 4 << 20) continue;
      const builder = new TreeBuilder();
      try {
        const scanner = new TarScanner({ onEntry: (entry) => builder.add(entry) });
        scanner.write(tar);
        scanner.end();
      } catch (error) {
        assert.ok(error instanceof VeneerError);
        continue;
      }
      yield [`${tarCase.name}, layer ${i}`, tar, builder.finish()];
    }
  }
}

test('every layer of the table: the image holds what the tar says, content included', () => {
  let count = 0;
  for (const [name, tar, tree] of layers()) {
    const want = describeTree(tree, (_, at, length) => tar.subarray(at, at + length));
    for (const blockSize of [512, 4096]) {
      const { image } = convert(tar, blockSize);
      const back = new ErofsReader(bufferSource(image)).readTree();
      assert.deepEqual(
        describeTree(back, (_, at, length) => image.subarray(at, at + length)),
        want,
        `${name}, blocks of ${blockSize}`,
      );
    }
    count++;
  }
  assert.ok(count > 50, `${count} layers`);
});

test('the cut of the input does not show in the output', () => {
  const all = [...layers()].filter(([, tar]) => tar.length < 100_000);
  fc.assert(
    fc.property(fc.nat(all.length - 1), fc.constantFrom(1, 13, 511, 512, 513, 10_000), (which, size) => {
      const [name, tar] = all[which]!;
      assert.ok(convert(tar, 4096, size).image.equals(convert(tar, 4096).image), name);
    }),
    { numRuns: 60 },
  );
});

test('runs of data that end inside a block are not copied again', () => {
  const runs = Array.from({ length: 40 }, (_, i) => ({
    offset: i * 16_384 + 512,
    data: Buffer.alloc(512, i + 1),
  }));
  const tar = archive(sparseFile('s', 40 * 16_384 + 100, runs, '1.0'), file('next', 'data'));
  let size = 0;
  const writer = new SelfContainedWriter(4096, {
    write(chunk, at) {
      size = Math.max(size, at + chunk.length);
    },
  });
  const scanner = new TarScanner(writer);
  scanner.write(tar);
  scanner.end();
  writer.finish('sha256:0', () => assert.fail('data is read back'));
  assert.ok(size <= 4096 * (40 + 5), `${size} bytes`);
});
