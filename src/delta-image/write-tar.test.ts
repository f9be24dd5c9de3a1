import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { noise } from '../../test/support/image-builder.ts';
import { digestOf } from '../oci/digest.ts';
import { PIECES_AHEAD, writeTar } from './write-tar.ts';

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'veneer-write-tar-'));
  t.after(() => rmSync(path, { recursive: true }));
  return path;
}

/** `bytes` in pieces of many lengths, each in a place that is used again as soon as it may be. */
function* inPlace(bytes: Buffer): Generator<Buffer> {
  const places = Array.from({ length: PIECES_AHEAD }, () => Buffer.alloc(70_000));
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const place = places[i % PIECES_AHEAD]!.fill(0);
    const length = Math.min(bytes.length - at, 1 + ((i * 7919) % place.length));
    bytes.copy(place, 0, at, at + length);
    yield place.subarray(0, length);
    at += length;
  }
}

test('pieces that are written over are in the file and in the digest as they were', async (t) => {
  const path = join(folder(t), 'tar');
  const bytes = noise(3_000_000, 4);
  const told: number[] = [];
  const { digest, size } = await writeTar(inPlace(bytes), path, (done) => told.push(done));
  assert.ok(readFileSync(path).equals(bytes));
  assert.deepEqual([digest, size, told.at(-1)], [digestOf(bytes), bytes.length, bytes.length]);
  assert.deepEqual((await writeTar([], join(folder(t), 'empty'))).size, 0);
});

test('what making, telling and writing throw comes out, and the pieces are let go', async (t) => {
  const path = folder(t);
  let released = 0;
  function* pieces(failAt: number): Generator<Buffer> {
    try {
      for (let i = 0; i < 20; i++) {
        if (i === failAt) throw new Error('no more');
        yield Buffer.alloc(1000);
      }
    } finally {
      released++;
    }
  }
  await assert.rejects(writeTar(pieces(7), join(path, 'a')), /no more/);
  const stop = (size: number): void => {
    if (size > 5000) throw new Error('enough');
  };
  await assert.rejects(writeTar(pieces(99), join(path, 'b'), stop), /enough/);
  await assert.rejects(writeTar(pieces(99), '/dev/full'), { code: 'EEXIST' });
  assert.equal(released, 2);
});
