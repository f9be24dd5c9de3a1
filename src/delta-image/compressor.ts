/** How a layer's blob is made of its tar: written down where it was found by making it and comparing. */
import { spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { constants, crc32, createDeflateRaw, createZstdCompress } from 'node:zlib';
import * as v from 'valibot';
import { VeneerError } from '../errors.ts';

const level = (least: number, most: number) =>
  v.pipe(v.number(), v.integer(), v.minValue(least), v.maxValue(most));
/** A gzip member's header, from the magic to the first byte of deflate, in hex. */
const header = v.pipe(
  v.string(),
  v.maxLength(2048),
  v.regex(/^1f8b08(?:[0-9a-f]{2}){7,}$/, 'not a gzip header'),
);

/** See docs/formats/delta.md for what each of them means. */
export const compressorSchema = v.variant('name', [
  v.object({ name: v.literal('none') }),
  v.object({ name: v.literal('zlib'), level: level(1, 9), header }),
  v.object({ name: v.literal('gnu-gzip'), level: level(1, 9), header }),
  v.object({ name: v.literal('zstd'), level: level(1, 19), checksum: v.boolean(), sized: v.boolean() }),
]);

export type Compressor = v.InferOutput<typeof compressorSchema>;

/** Bytes of the fixed part of a gzip header, and of the trailer. */
const GZIP_HEADER = 10;
const READ_BYTES = 1 << 18;

/**
 * The blob of the tar of `size` bytes at `path`. Ending the iteration early releases everything.
 * Throws `delta/unsupported` when this machine has not what it takes.
 */
export function compressTar(path: string, size: number, how: Compressor): AsyncIterable<Buffer> {
  switch (how.name) {
    case 'none':
      return createReadStream(path, { highWaterMark: READ_BYTES });
    case 'zlib':
      return zlibMember(path, how.level, Buffer.from(how.header, 'hex'));
    case 'gnu-gzip':
      return gnuMember(path, how.level, Buffer.from(how.header, 'hex'));
    case 'zstd':
      return zstdFrame(path, size, how);
  }
}

async function* zlibMember(path: string, level: number, head: Buffer): AsyncGenerator<Buffer> {
  const input = createReadStream(path, { highWaterMark: READ_BYTES });
  const engine = createDeflateRaw({ level, chunkSize: READ_BYTES });
  let crc = 0;
  let size = 0;
  const fed = pipeline(
    input,
    async function* (pieces: AsyncIterable<Buffer>) {
      for await (const piece of pieces) {
        crc = crc32(piece, crc);
        size += piece.length;
        yield piece;
      }
    },
    engine,
  );
  fed.catch(() => {});
  try {
    yield head;
    yield* engine as AsyncIterable<Buffer>;
    const trailer = Buffer.alloc(8);
    trailer.writeUInt32LE(crc, 0);
    trailer.writeUInt32LE(size % 2 ** 32, 4);
    yield trailer;
  } finally {
    input.destroy();
    engine.destroy();
  }
}

async function* zstdFrame(
  path: string,
  size: number,
  { level, checksum, sized }: Extract<Compressor, { name: 'zstd' }>,
): AsyncGenerator<Buffer> {
  const input = createReadStream(path, { highWaterMark: READ_BYTES });
  const engine = createZstdCompress({
    ...(sized ? { pledgedSrcSize: size } : {}),
    params: {
      [constants.ZSTD_c_compressionLevel]: level,
      [constants.ZSTD_c_checksumFlag]: checksum ? 1 : 0,
      [constants.ZSTD_c_contentSizeFlag]: sized ? 1 : 0,
    },
  });
  pipeline(input, engine).catch(() => {});
  try {
    yield* engine as AsyncIterable<Buffer>;
  } finally {
    input.destroy();
    engine.destroy();
  }
}

/** GNU gzip deflates in a way of its own, the same in all its versions; it is asked to do it. */
async function* gnuMember(path: string, level: number, head: Buffer): AsyncGenerator<Buffer> {
  const program = spawn('gzip', ['-n', '-c', `-${level}`], {
    stdio: ['pipe', 'pipe', 'ignore'],
    env: { PATH: process.env.PATH, LC_ALL: 'C' },
  });
  const input = createReadStream(path, { highWaterMark: READ_BYTES });
  const ended = new Promise<void>((resolve, reject) => {
    const fail = (reason: string, cause?: Error): void =>
      reject(new VeneerError('delta/unsupported', `Cannot compress with GNU gzip: ${reason}`, { cause }));
    program.once('error', (error) => fail(error.message, error));
    program.once('close', (code) => (code === 0 ? resolve() : fail(`it ended with code ${code}`)));
  });
  ended.catch(() => {});
  pipeline(input, program.stdin).catch(() => {});
  try {
    let skip = GZIP_HEADER;
    yield head;
    for await (const piece of program.stdout as AsyncIterable<Buffer>) {
      const from = Math.min(skip, piece.length);
      skip -= from;
      if (from < piece.length) yield piece.subarray(from);
    }
    await ended;
  } finally {
    input.destroy();
    program.kill();
  }
}
