/** Byte access for the reader: little-endian fields of an image, every read inside it. */
import type { ByteSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';

/** Images up to this size are read whole. */
const WHOLE_LIMIT = 64 * 1024 * 1024;
/** Small, so that an image whose inodes lie far apart costs no more than the reads it needs. */
const WINDOW = 1 << 16;
/** Windows overlap by this much, so that most of what crosses their borders lies in one. */
const OVERLAP = 1 << 12;
const WINDOWS = 256;

export class ImageBytes {
  readonly size: number;
  readonly #source: ByteSource;
  /** Window number to its bytes, least recently used first. */
  readonly #windows = new Map<number, Buffer>();
  /** The bytes that {@link locate} pointed into last. */
  bytes: Buffer;
  #begin = 0;
  #budget = Number.POSITIVE_INFINITY;

  constructor(source: ByteSource) {
    this.#source = source;
    this.size = source.size;
    this.bytes = source.size <= WHOLE_LIMIT ? source.read(0, source.size) : Buffer.alloc(0);
  }

  /**
   * Makes `length` bytes at `at` available in {@link bytes} and returns their position there. `what` and `nid` (-1:
   * none) are for messages, and put together only for one: this is called several times an inode.
   */
  locate(at: number, length: number, what: string, nid = -1): number {
    if (at < 0 || at + length > this.size) {
      throw corruptImage(
        `${length} bytes of ${named(what, nid)} at ${at} are past the end of the image (${this.size})`,
      );
    }
    if (at < this.#begin || at + length > this.#begin + this.bytes.length) this.#load(at, length);
    return at - this.#begin;
  }

  #load(at: number, length: number): void {
    const window = Math.floor(at / WINDOW);
    const begin = window * WINDOW;
    const whole = Math.min(WINDOW + OVERLAP, this.size - begin);
    if (at + length > begin + whole) {
      this.bytes = this.#source.read(at, length);
      this.#begin = at;
      return;
    }
    let bytes = this.#windows.get(window);
    if (bytes === undefined) {
      bytes = this.#source.read(begin, whole);
      if (this.#windows.size === WINDOWS) this.#windows.delete(this.#windows.keys().next().value!);
    } else {
      this.#windows.delete(window);
    }
    this.#windows.set(window, bytes);
    this.bytes = bytes;
    this.#begin = begin;
  }

  /** `length` bytes as a byte string. */
  text(at: number, length: number, what: string, nid = -1): string {
    const position = this.locate(at, length, what, nid);
    return this.bytes.toString('latin1', position, position + length);
  }

  /**
   * Runs `work`, in which all that is spent must fit the image: directories, attributes, chunk maps and link
   * targets stand in bytes of their own. A forged image may point at the same ones a million times.
   */
  onBudget<T>(work: () => T): T {
    this.#budget = this.size;
    try {
      return work();
    } finally {
      this.#budget = Number.POSITIVE_INFINITY;
    }
  }

  spend(bytes: number, what: string, nid = -1): void {
    this.#budget -= bytes;
    if (this.#budget < 0)
      throw corruptImage(`with ${named(what, nid)} its metadata is larger than the image`);
  }
}

const named = (what: string, nid: number): string => (nid < 0 ? what : `${what} of inode ${nid}`);

export function corruptImage(reason: string): VeneerError {
  return new VeneerError('erofs/corrupt', `Cannot read EROFS image: ${reason}`);
}

export function corruptInode(nid: number, reason: string): VeneerError {
  return new VeneerError('erofs/corrupt', `Cannot read EROFS inode ${nid}: ${reason}`);
}

export function unsupportedLayout(nid: number, layout: number): VeneerError {
  return new VeneerError('erofs/unsupported', `Cannot read EROFS inode ${nid}: data layout ${layout}`, {
    hint: 'Compressed images are not read; make them with mkfs.erofs and no -z.',
  });
}

export function u16(bytes: Buffer, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8);
}

export function u32(bytes: Buffer, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

/** Two's complement 64-bit number; throws outside the safe integers. */
export function s64(bytes: Buffer, at: number, what: string, nid = -1): number {
  const value = (u32(bytes, at + 4) | 0) * 2 ** 32 + u32(bytes, at);
  if (!Number.isSafeInteger(value)) throw corruptImage(`${named(what, nid)} is ${value}, out of range`);
  return value;
}
