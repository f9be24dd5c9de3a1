/** Byte access for the reader: little-endian fields of an image, every read inside it. */
import type { ByteSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';

/** Images up to this size are read whole. */
const WHOLE_LIMIT = 64 * 1024 * 1024;
const WINDOW = 1 << 20;
/** Windows overlap by this much, so that any field, name or xattr area (≤ 256 KiB + 64 KiB) lies in one. */
const OVERLAP = 1 << 19;
const WINDOWS = 16;

export class ImageBytes {
  readonly size: number;
  readonly #source: ByteSource;
  /** Window number to its bytes, least recently used first. */
  readonly #windows = new Map<number, Buffer>();
  /** The bytes that {@link locate} pointed into last. */
  bytes: Buffer;
  #begin = 0;

  constructor(source: ByteSource) {
    this.#source = source;
    this.size = source.size;
    this.bytes = source.size <= WHOLE_LIMIT ? source.read(0, source.size) : Buffer.alloc(0);
  }

  /** Makes `length` bytes at `at` available in {@link bytes} and returns their position there. */
  locate(at: number, length: number, what: string): number {
    if (at < 0 || at + length > this.size) {
      throw new VeneerError(
        'erofs/corrupt',
        `Cannot read ${what} at ${at}: ${length} bytes are past the end of the image (${this.size})`,
      );
    }
    if (at < this.#begin || at + length > this.#begin + this.bytes.length)
      this.#load(Math.floor(at / WINDOW));
    return at - this.#begin;
  }

  #load(window: number): void {
    let bytes = this.#windows.get(window);
    if (bytes === undefined) {
      const begin = window * WINDOW;
      bytes = this.#source.read(begin, Math.min(WINDOW + OVERLAP, this.size - begin));
      if (this.#windows.size === WINDOWS) this.#windows.delete(this.#windows.keys().next().value!);
    } else {
      this.#windows.delete(window);
    }
    this.#windows.set(window, bytes);
    this.bytes = bytes;
    this.#begin = window * WINDOW;
  }

  /** `length` bytes as a byte string. */
  text(at: number, length: number, what: string): string {
    const position = this.locate(at, length, what);
    return this.bytes.toString('latin1', position, position + length);
  }
}

export function u16(bytes: Buffer, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8);
}

export function u32(bytes: Buffer, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

/** Two's complement 64-bit number; throws outside the safe integers. */
export function s64(bytes: Buffer, at: number, what: string): number {
  const value = (u32(bytes, at + 4) | 0) * 2 ** 32 + u32(bytes, at);
  if (!Number.isSafeInteger(value))
    throw new VeneerError('erofs/corrupt', `Cannot read ${what}: ${value} is out of range`);
  return value;
}
