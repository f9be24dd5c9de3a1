import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { VeneerError } from '../errors.ts';
import { decompress, inflateByStream } from './decompress.ts';
import { makeInflater } from './inflater.ts';

async function* pieces(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function run(bytes: Buffer, size = 1 << 16): Promise<Buffer> {
  const out: Buffer[] = [];
  for await (const piece of decompress(pieces(bytes, size))) out.push(Buffer.from(piece));
  return Buffer.concat(out);
}

const text = Buffer.from('a layer is a tar; '.repeat(5000));
const skippable = Buffer.concat([Buffer.from('502a4d1805000000', 'hex'), Buffer.from('12345')]);

test('every kind and several members or frames give the bytes back, in any chunking', async () => {
  const cases: Record<string, [Buffer, Buffer]> = {
    none: [text, text],
    empty: [Buffer.alloc(0), Buffer.alloc(0)],
    gzip: [gzipSync(text), text],
    'gzip, two members': [
      Buffer.concat([gzipSync(text), gzipSync('b')]),
      Buffer.concat([text, Buffer.from('b')]),
    ],
    zstd: [zstdCompressSync(text), text],
    'zstd, frames and skippable frames': [
      Buffer.concat([
        skippable,
        zstdCompressSync(text),
        skippable,
        zstdCompressSync('b'),
        zstdCompressSync(''),
        skippable,
      ]),
      Buffer.concat([text, Buffer.from('b')]),
    ],
  };
  for (const [name, [input, want]] of Object.entries(cases)) {
    for (const size of [1, 7, 1000, 1 << 20]) {
      assert.ok((await run(input, size)).equals(want), `${name}, chunks of ${size}`);
    }
  }
});

test('truncated input is an error wherever it is cut', async () => {
  for (const whole of [gzipSync(text), Buffer.concat([zstdCompressSync('x'), zstdCompressSync(text)])]) {
    for (const cut of [7, 30, whole.length - 9, whole.length - 1]) {
      await assert.rejects(
        run(whole.subarray(0, cut)),
        (error) => error instanceof VeneerError && error.code === 'compress/corrupt',
      );
    }
  }
});

test('damaged input never hangs and never throws anything but a VeneerError', async () => {
  const random = Buffer.from(Array.from({ length: 4000 }, (_, i) => (i * 7919) % 251));
  await fc.assert(
    fc.asyncProperty(fc.boolean(), fc.nat(), fc.integer({ min: 1, max: 255 }), async (zstd, where, flip) => {
      const damaged = Buffer.from(
        zstd ? Buffer.concat([zstdCompressSync(random), zstdCompressSync(text)]) : gzipSync(random),
      );
      damaged[where % damaged.length]! ^= flip;
      try {
        await run(damaged);
      } catch (error) {
        assert.ok(error instanceof VeneerError, String(error));
      }
    }),
    { numRuns: 200 },
  );
});

test('zeros behind a gzip stream are passed over, and the input is read to its end', async () => {
  const padded = Buffer.concat([gzipSync(text), Buffer.alloc(3 << 20)]);
  let seen = 0;
  async function* input(cut: number): AsyncGenerator<Buffer> {
    for (let at = 0; at < padded.length; at += 1 << 16) {
      if (at > cut) throw new Error('connection cut');
      const chunk = padded.subarray(at, at + (1 << 16));
      seen += chunk.length;
      yield chunk;
    }
  }
  const out: Buffer[] = [];
  for await (const piece of decompress(input(padded.length))) out.push(piece);
  assert.ok(Buffer.concat(out).equals(text));
  assert.equal(seen, padded.length, 'a digest of the input covers all of it');
  await assert.rejects(async () => {
    for await (const _ of decompress(input(1 << 20)));
  }, /connection cut/);
});

test('formats that layers do not use are named', async () => {
  await assert.rejects(run(Buffer.from('fd377a585a000004', 'hex')), /compressed with xz/);
});

test('an error of the input comes through, and the input is closed when the consumer stops', async () => {
  async function* failing(): AsyncGenerator<Buffer> {
    yield gzipSync(text).subarray(0, 40);
    throw new Error('connection cut');
  }
  await assert.rejects(async () => {
    for await (const _ of decompress(failing()));
  }, /connection cut/);

  let closed = false;
  async function* endless(): AsyncGenerator<Buffer> {
    try {
      for (;;) yield gzipSync(text);
    } finally {
      closed = true;
    }
  }
  for await (const _ of decompress(endless())) break;
  assert.ok(closed);
});

test('this Node has the synchronous handle, and its streams give the same', async () => {
  const random = Buffer.from(Array.from({ length: 600_000 }, (_, i) => (i * 7919) % 251));
  for (const [kind, bytes] of [
    ['gzip', Buffer.concat([gzipSync(random), gzipSync(text)])],
    ['zstd', Buffer.concat([zstdCompressSync(random), skippable, zstdCompressSync(text)])],
  ] as const) {
    makeInflater(kind)!.close();
    const streamed: Buffer[] = [];
    for await (const piece of inflateByStream(kind, bytes.subarray(0, 6), pieces(bytes.subarray(6), 5000)))
      streamed.push(piece);
    assert.ok(Buffer.concat(streamed).equals(Buffer.concat([random, text])));
    assert.ok((await run(bytes, 5000)).equals(Buffer.concat([random, text])));
  }
});
