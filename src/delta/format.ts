/**
 * The bytes of a layer delta: how to put one tar together from runs of other tars and from data of its own.
 * docs/formats/delta.md is the specification.
 */
import { VeneerError } from '../errors.ts';

/** Columns, in their order in the file. Each is a zstd stream of its own: like is compressed with like. */
export const COLUMNS = ['ops', 'addresses', 'gaps', 'changes', 'literals'] as const;
export type ColumnName = (typeof COLUMNS)[number];

/** Low two bits of an op. */
export const OP_COPY = 0;
export const OP_PATCH = 1;
export const OP_LITERAL = 2;

const MAGIC = Buffer.from('VNRDELT1', 'latin1');
const FIXED_BYTES = 56;
const SOURCE_BYTES = 40;
const COLUMN_BYTES = 16;
export const MAX_SOURCES = 1024;
/** Of one tar, and of all sources together: sums and zigzags of them stay safe integers. */
export const MAX_TAR_BYTES = 2 ** 48;
/** No window of a column is larger: what applying it takes is bounded. */
export const MAX_WINDOW_LOG = 27;
/** Longest varint: 8 × 7 bits are more than a safe integer has. */
const MAX_VARINT = 8;

/** A layer's tar. */
export interface TarId {
  /** diffID */
  readonly digest: string;
  /** Bytes. */
  readonly size: number;
}

export interface Column {
  /** Bytes when decompressed. */
  readonly rawSize: number;
  /** Where its zstd stream stands in the file, and its bytes there. */
  readonly at: number;
  readonly size: number;
}

export interface DeltaHeader {
  readonly target: TarId;
  readonly sources: readonly TarId[];
  readonly columns: Readonly<Record<ColumnName, Column>>;
}

export function corruptDelta(reason: string, cause?: unknown): VeneerError {
  return new VeneerError('delta/corrupt', `Cannot use the delta: ${reason}`, {
    hint: 'it is damaged or was not made by a sound program; pull the whole image instead',
    ...(cause === undefined ? {} : { cause }),
  });
}

export function headerBytes(sources: number): number {
  return FIXED_BYTES + sources * SOURCE_BYTES + COLUMNS.length * COLUMN_BYTES;
}

/** `columns`: sizes, in their order; where they stand follows from those. */
export function encodeHeader(
  target: TarId,
  sources: readonly TarId[],
  columns: readonly { readonly rawSize: number; readonly size: number }[],
): Buffer {
  const bytes = Buffer.alloc(headerBytes(sources.length));
  MAGIC.copy(bytes, 0);
  bytes.writeBigUInt64LE(BigInt(target.size), 8);
  putDigest(bytes, 16, target.digest);
  bytes.writeUInt32LE(sources.length, 48);
  bytes.writeUInt32LE(COLUMNS.length, 52);
  let at = FIXED_BYTES;
  for (const source of sources) {
    putDigest(bytes, at, source.digest);
    bytes.writeBigUInt64LE(BigInt(source.size), at + 32);
    at += SOURCE_BYTES;
  }
  for (const { rawSize, size } of columns) {
    bytes.writeBigUInt64LE(BigInt(rawSize), at);
    bytes.writeBigUInt64LE(BigInt(size), at + 8);
    at += COLUMN_BYTES;
  }
  return bytes;
}

function putDigest(bytes: Buffer, at: number, digest: string): void {
  if (!/^sha256:[0-9a-f]{64}$/.test(digest)) {
    throw new VeneerError('delta/unsupported', `Cannot make a delta: ${digest} is not a sha256 digest`);
  }
  bytes.write(digest.slice(7), at, 32, 'hex');
}

/** Reads and checks the header of a delta of `size` bytes. Throws `delta/corrupt`, `delta/unsupported`. */
export function readHeader(read: (offset: number, length: number) => Buffer, size: number): DeltaHeader {
  if (size < FIXED_BYTES) throw corruptDelta(`it has ${size} bytes, less than its header`);
  const fixed = read(0, FIXED_BYTES);
  if (!fixed.subarray(0, 7).equals(MAGIC.subarray(0, 7))) throw corruptDelta('it does not begin as one');
  if (fixed[7] !== MAGIC[7]) {
    throw new VeneerError('delta/unsupported', 'Cannot use the delta: it is of a later version', {
      hint: 'a newer veneer may read it',
    });
  }
  const count = fixed.readUInt32LE(48);
  if (count > MAX_SOURCES) throw corruptDelta(`it names ${count} sources, the limit is ${MAX_SOURCES}`);
  if (fixed.readUInt32LE(52) !== COLUMNS.length) throw corruptDelta('it has another number of columns');
  const length = headerBytes(count);
  if (size < length) throw corruptDelta(`it has ${size} bytes, less than its header of ${length}`);
  const bytes = read(0, length);
  const target = { digest: digestAt(bytes, 16), size: sizeAt(bytes, 8, 'the size of its target') };
  const sources: TarId[] = [];
  let at = FIXED_BYTES;
  let all = 0;
  for (let i = 0; i < count; i++, at += SOURCE_BYTES) {
    sources.push({ digest: digestAt(bytes, at), size: sizeAt(bytes, at + 32, 'the size of a source') });
    all += sources[i]!.size;
  }
  if (all > MAX_TAR_BYTES) throw corruptDelta(`its sources have ${all} bytes, the limit is ${MAX_TAR_BYTES}`);
  const columns: Partial<Record<ColumnName, Column>> = {};
  let end = length;
  for (const name of COLUMNS) {
    const rawSize = sizeAt(bytes, at, `the length of its ${name}`);
    const stored = sizeAt(bytes, at + 8, `the size of its ${name}`);
    if (stored > size - end) throw corruptDelta(`its ${name} end behind it`);
    columns[name] = { rawSize, at: end, size: stored };
    end += stored;
    at += COLUMN_BYTES;
  }
  if (end !== size) throw corruptDelta(`${size - end} bytes follow its last column`);
  return { target, sources, columns: columns as Record<ColumnName, Column> };
}

function digestAt(bytes: Buffer, at: number): string {
  return `sha256:${bytes.toString('hex', at, at + 32)}`;
}

function sizeAt(bytes: Buffer, at: number, what: string): number {
  const value = bytes.readBigUInt64LE(at);
  if (value > BigInt(MAX_TAR_BYTES)) throw corruptDelta(`${what} is ${value}, the limit is ${MAX_TAR_BYTES}`);
  return Number(value);
}

/** Unsigned LEB128, at most 8 bytes. Grows by itself. */
export class VarintBuffer {
  bytes: Buffer;
  length = 0;

  constructor(capacity = 1 << 12) {
    this.bytes = Buffer.allocUnsafeSlow(capacity);
  }

  put(value: number): void {
    if (this.length + MAX_VARINT > this.bytes.length) this.#grow(MAX_VARINT);
    let rest = value;
    while (rest >= 0x80) {
      this.bytes[this.length++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    this.bytes[this.length++] = rest;
  }

  /** Zigzag: small distances in either direction are small numbers. */
  putSigned(value: number): void {
    this.put(value < 0 ? -2 * value - 1 : 2 * value);
  }

  putByte(byte: number): void {
    if (this.length === this.bytes.length) this.#grow(1);
    this.bytes[this.length++] = byte;
  }

  putBytes(bytes: Uint8Array): void {
    if (this.length + bytes.length > this.bytes.length) this.#grow(bytes.length);
    this.bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  /** What was put so far; a view. */
  filled(): Buffer {
    return this.bytes.subarray(0, this.length);
  }

  #grow(more: number): void {
    const next = Buffer.allocUnsafeSlow(Math.max(this.bytes.length * 2, this.length + more));
    this.bytes.copy(next, 0, 0, this.length);
    this.bytes = next;
  }
}

/** The number that {@link VarintBuffer.putSigned} wrote. */
export function unzigzag(value: number): number {
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}

/** Bits of a varint's byte, and how many bytes there can be. */
export const VARINT = { data: 0x7f, more: 0x80, bytes: MAX_VARINT } as const;
