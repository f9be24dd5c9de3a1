/** One column of a delta, decompressed as it is read: what it holds in memory does not depend on its length. */
import { constants, zstdDecompressSync } from 'node:zlib';
import type { ByteSource } from '../bytes/io.ts';
import { makeInflater, type SyncInflater } from '../compress/inflater.ts';
import { type Column, type ColumnName, corruptDelta, MAX_WINDOW_LOG, unzigzag, VARINT } from './format.ts';

/** Compressed bytes of one read. */
const READ_BYTES = 1 << 16;
const NOTHING = Buffer.alloc(0);

export class ColumnReader {
  readonly #name: ColumnName;
  readonly #pieces: Iterator<Buffer>;
  /** What is decompressed, of which the bytes before `at` were taken. */
  piece: Buffer = NOTHING;
  at = 0;
  readonly #size: number;
  /** Bytes that were promised and have not come yet. */
  #left: number;

  constructor(delta: ByteSource, name: ColumnName, column: Column) {
    this.#name = name;
    this.#size = column.rawSize;
    this.#left = column.rawSize;
    this.#pieces = inflateColumn(delta, name, column);
  }

  /** Bytes taken so far. */
  get used(): number {
    return this.#size - this.#left - (this.piece.length - this.at);
  }

  byte(): number {
    if (this.at === this.piece.length) this.#next();
    return this.piece[this.at++]!;
  }

  varint(): number {
    let value = this.byte();
    if (value < VARINT.more) return value;
    value -= VARINT.more;
    for (let i = 1, scale = 0x80; i < VARINT.bytes; i++, scale *= 0x80) {
      const byte = this.byte();
      value += (byte & VARINT.data) * scale;
      if (byte < VARINT.more) {
        if (value > Number.MAX_SAFE_INTEGER) break;
        return value;
      }
    }
    throw corruptDelta(`a number of its ${this.#name} has no end`);
  }

  signed(): number {
    return unzigzag(this.varint());
  }

  /** Fills `target` from `start` to `end`. */
  copy(target: Buffer, start: number, end: number): void {
    for (let at = start; at < end; ) {
      if (this.at === this.piece.length) this.#next();
      const take = Math.min(end - at, this.piece.length - this.at);
      this.piece.copy(target, at, this.at, this.at + take);
      this.at += take;
      at += take;
    }
  }

  /** Throws unless all that the column has was read. */
  finish(): void {
    if (this.#left > 0 || this.at < this.piece.length)
      throw corruptDelta(`not all of its ${this.#name} are used`);
    if (!this.#pieces.next().done) throw corruptDelta(`its ${this.#name} are longer than it says`);
  }

  #next(): void {
    if (this.#left === 0) throw corruptDelta(`its ${this.#name} end too early`);
    const next = this.#pieces.next();
    if (next.done) throw corruptDelta(`its ${this.#name} are shorter than it says`);
    if (next.value.length > this.#left) throw corruptDelta(`its ${this.#name} are longer than it says`);
    this.#left -= next.value.length;
    this.piece = next.value;
    this.at = 0;
  }

  /** Releases the decompressor. */
  close(): void {
    this.#pieces.return?.();
  }
}

/** Pieces are never empty. */
function* inflateColumn(delta: ByteSource, name: ColumnName, column: Column): Generator<Buffer, undefined> {
  if (column.size === 0) return;
  const inflater = makeInflater('zstd');
  try {
    if (inflater === null) yield* inflateAtOnce(delta, column);
    else yield* inflateByPieces(inflater, delta, column);
  } catch (error) {
    throw corruptDelta(`its ${name} cannot be decompressed: ${(error as Error).message}`, error);
  } finally {
    inflater?.close();
  }
}

function* inflateByPieces(inflater: SyncInflater, delta: ByteSource, column: Column): Generator<Buffer> {
  const scratch = Buffer.allocUnsafeSlow(Math.min(READ_BYTES, column.size));
  for (let done = 0; done < column.size; ) {
    const length = Math.min(READ_BYTES, column.size - done);
    yield* inflater.push(delta.read(column.at + done, length, scratch));
    done += length;
  }
  yield* inflater.finish();
}

/** Where Node's decompressor has another inside. */
function* inflateAtOnce(delta: ByteSource, column: Column): Generator<Buffer> {
  const bytes = zstdDecompressSync(delta.read(column.at, column.size), {
    maxOutputLength: column.rawSize + 1,
    params: { [constants.ZSTD_d_windowLogMax]: MAX_WINDOW_LOG },
  });
  if (bytes.length > 0) yield bytes;
}
