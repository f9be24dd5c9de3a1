/** Finds how a blob was made of its tar: what may have made it is tried, until the bytes differ. */
import { VeneerError } from '../errors.ts';
import { readRange, streamRange } from '../oci/named-files.ts';
import type { FileRange } from '../oci/source.ts';
import { throwIfAborted } from '../store/locks.ts';
import type { BlobRef } from '../store/records.ts';
import { type Compressor, compressTar } from './compressor.ts';
import type { TarFile } from './tar-file.ts';

const ZSTD_LEVELS = [3, 1, 2, ...Array.from({ length: 16 }, (_, i) => i + 4)];
/** Longest gzip header that is kept: it may hold a file name and a comment. */
const MAX_HEADER = 1024;

/** Null when no way is known; also when the blob is not at hand to compare with. */
export async function findCompressor(
  tar: TarFile,
  blob: FileRange | null,
  { digest }: BlobRef,
  signal: AbortSignal,
): Promise<Compressor | null> {
  if (digest === tar.diffId) return { name: 'none' };
  if (blob === null) return null;
  const head = await readRange({ ...blob, length: Math.min(blob.length, MAX_HEADER) }, MAX_HEADER, digest);
  for (const candidate of candidates(head)) {
    if (await makes(tar, candidate, blob, digest, signal)) return candidate;
  }
  return null;
}

function* candidates(head: Buffer): Generator<Compressor> {
  const gzip = gzipHeader(head);
  if (gzip !== null) {
    const header = gzip.toString('hex');
    for (const level of gzipLevels(gzip[8]!)) {
      yield { name: 'gnu-gzip', level, header };
      yield { name: 'zlib', level, header };
    }
  } else if (head.length > 5 && head.readUInt32LE(0) === 0xfd2fb528) {
    // RFC 8878, 3.1.1.1: frame header descriptor.
    const checksum = (head[4]! & 4) !== 0;
    const sized = head[4]! >> 6 !== 0 || (head[4]! & 0x20) !== 0;
    for (const level of ZSTD_LEVELS) yield { name: 'zstd', level, checksum, sized };
  }
}

/** Likeliest first. Both programs tell the fastest and the best level in the header (RFC 1952, XFL). */
function gzipLevels(hint: number): number[] {
  if (hint === 2) return [9];
  if (hint === 4) return [1];
  return [6, 5, 4, 7, 8, 3, 2, 9, 1];
}

/** The header of a gzip member with all its optional parts (RFC 1952, 2.3), or null. */
function gzipHeader(head: Buffer): Buffer | null {
  if (head.length < 10 || head[0] !== 0x1f || head[1] !== 0x8b || head[2] !== 8) return null;
  const flags = head[3]!;
  let at = 10;
  if (flags & 4) at += 2 + (at + 2 <= head.length ? head.readUInt16LE(at) : MAX_HEADER);
  for (const bit of [8, 16]) {
    if ((flags & bit) === 0) continue;
    const end = at < head.length ? head.indexOf(0, at) : -1;
    if (end < 0) return null;
    at = end + 1;
  }
  if (flags & 2) at += 2;
  return at < head.length ? head.subarray(0, at) : null;
}

async function makes(
  tar: TarFile,
  how: Compressor,
  blob: FileRange,
  digest: string,
  signal: AbortSignal,
): Promise<boolean> {
  throwIfAborted(signal);
  const expected = new Stream(streamRange(blob, 0, `the blob ${digest}`));
  try {
    for await (const piece of compressTar(tar.path, tar.size, how)) {
      throwIfAborted(signal);
      if (!(await expected.startsWith(piece))) return false;
    }
    return await expected.ended();
  } catch (error) {
    if (error instanceof VeneerError && error.code === 'delta/unsupported') return false;
    throw error;
  } finally {
    await expected.close();
  }
}

/** A stream that is compared piece by piece with another whose pieces end elsewhere. */
class Stream {
  readonly #pieces: AsyncIterator<Buffer>;
  #piece: Buffer = Buffer.alloc(0);

  constructor(pieces: AsyncIterable<Buffer>) {
    this.#pieces = pieces[Symbol.asyncIterator]();
  }

  /** Takes as much as `bytes` has, and tells whether it is the same. */
  async startsWith(bytes: Buffer): Promise<boolean> {
    for (let at = 0; at < bytes.length; ) {
      if (this.#piece.length === 0 && !(await this.#next())) return false;
      const take = Math.min(bytes.length - at, this.#piece.length);
      if (this.#piece.compare(bytes, at, at + take, 0, take) !== 0) return false;
      this.#piece = this.#piece.subarray(take);
      at += take;
    }
    return true;
  }

  async ended(): Promise<boolean> {
    return this.#piece.length === 0 && !(await this.#next());
  }

  async close(): Promise<void> {
    await this.#pieces.return?.();
  }

  async #next(): Promise<boolean> {
    const next = await this.#pieces.next();
    if (next.done) return false;
    this.#piece = next.value;
    return true;
  }
}
