/** Decompression as a stream, in the consumer's own thread where this Node allows it (see inflater.ts). */
import type { Transform } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { type Compression, DETECT_BYTES, detectCompression } from './detect.ts';
import { corrupt, type Inflater, type MakeInflater, makeInflater, PIECE } from './inflater.ts';
import { ZstdFrameCutter } from './zstd-frames.ts';

/** So many bytes are inflated ahead of the consumer. */
const AHEAD = 4 * PIECE;

/**
 * Decompresses `input`; the kind is told by its first bytes. Yields pieces in order,
 * each good until the next is asked for. Throws `compress/corrupt` for damaged or truncated input,
 * and passes on what `input` throws. `make` is asked for the engine; where it has none, Node's streams serve.
 */
export async function* decompress(
  input: AsyncIterable<Buffer>,
  make: MakeInflater = makeInflater,
): AsyncGenerator<Buffer, void, undefined> {
  const chunks = input[Symbol.asyncIterator]();
  try {
    const { head, kind } = await peek(chunks);
    if (kind === 'none') {
      if (head.length > 0) yield head;
      for (let next = await chunks.next(); !next.done; next = await chunks.next()) yield next.value;
    } else {
      const inflater = make(kind);
      yield* inflater === null ? inflateByStream(kind, head, chunks) : inflate(inflater, head, chunks);
    }
  } finally {
    await chunks.return?.();
  }
}

async function peek(chunks: AsyncIterator<Buffer>): Promise<{ head: Buffer; kind: Compression }> {
  let head: Buffer = Buffer.alloc(0);
  while (head.length < DETECT_BYTES) {
    const next = await chunks.next();
    if (next.done) break;
    head = head.length === 0 ? next.value : Buffer.concat([head, next.value]);
  }
  return { head, kind: detectCompression(head) };
}

async function* inflate(
  inflater: Inflater,
  head: Buffer,
  chunks: AsyncIterator<Buffer>,
): AsyncGenerator<Buffer, void, undefined> {
  try {
    for (let chunk: Buffer | undefined = head; chunk !== undefined; ) {
      yield* inflater.push(chunk);
      const next: IteratorResult<Buffer> = await chunks.next();
      chunk = next.done ? undefined : next.value;
    }
    yield* inflater.finish();
  } finally {
    inflater.close();
  }
}

/** The same through Node's documented streams: inflating runs on libuv's thread pool. */
export async function* inflateByStream(
  kind: 'gzip' | 'zstd',
  head: Buffer,
  chunks: AsyncIterator<Buffer>,
): AsyncGenerator<Buffer, void, undefined> {
  const options = { chunkSize: PIECE, readableHighWaterMark: AHEAD, writableHighWaterMark: PIECE };
  const engine: Transform = kind === 'gzip' ? createGunzip(options) : createZstdDecompress(options);
  const cutter = kind === 'zstd' ? new ZstdFrameCutter() : null;
  let inputError: unknown;
  const feeding = feed(engine, cutter, head, chunks).catch((error: unknown) => {
    inputError = error;
    engine.destroy(error instanceof Error ? error : new Error(String(error)));
  });
  try {
    yield* engine as AsyncIterable<Buffer>;
  } catch (error) {
    await feeding;
    if (inputError !== undefined) throw inputError;
    throw corrupt(kind, (error as Error).message, error);
  } finally {
    engine.destroy();
    await feeding;
  }
  if (inputError !== undefined) throw inputError;
  // The engine ends at padding and leaves the rest of it; whoever hashes the input must see that too.
  while (!(await chunks.next()).done);
}

/** Writes all input to the engine, waiting while it is full. */
async function feed(
  engine: Transform,
  cutter: ZstdFrameCutter | null,
  head: Buffer,
  chunks: AsyncIterator<Buffer>,
): Promise<void> {
  for (let chunk: Buffer | undefined = head; chunk !== undefined; ) {
    for (const piece of cutter === null ? [chunk] : cutter.cut(chunk)) {
      if (engine.destroyed) return;
      if (!engine.write(piece)) await drained(engine);
    }
    const next: IteratorResult<Buffer> = await chunks.next();
    chunk = next.done ? undefined : next.value;
  }
  if (cutter !== null && !cutter.complete) {
    throw corrupt('zstd', 'unexpected end of file');
  }
  if (!engine.destroyed) engine.end();
}

/** Resolves when the engine takes more, or is gone. */
function drained(engine: Transform): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      engine.off('drain', done);
      engine.off('close', done);
      resolve();
    };
    engine.on('drain', done);
    engine.on('close', done);
  });
}
