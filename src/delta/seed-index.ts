/** Where seeds, runs of a few bytes, stand in a buffer. */
import { giveBack } from './work-memory.ts';

/** Bytes of a seed. */
export const SEED = 12;
const FACTOR = 0x9e37_79b1;

export class SeedIndex {
  readonly #view: DataView;
  readonly #shift: number;
  /** Positions + 1 by hash; 0: none. */
  readonly #table: Int32Array<ArrayBuffer>;

  /** Every `stride`th seed of `bytes`. */
  constructor(bytes: Uint8Array, stride: number) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const bits = tableBits(bytes.length, stride);
    this.#shift = 32 - bits;
    this.#table = new Int32Array(1 << bits);
    // From the end: the first of equal hashes stays.
    for (let at = Math.floor((bytes.length - SEED) / stride) * stride; at >= 0; at -= stride) {
      this.#table[hashAt(this.#view, at) >>> this.#shift] = at + 1;
    }
  }

  /** Where a seed may stand that has the hash of the one at `at` in `view`; -1 for nowhere. */
  find(view: DataView, at: number): number {
    return this.#table[hashAt(view, at) >>> this.#shift]! - 1;
  }

  close(): void {
    giveBack(this.#table);
  }
}

/** Memory that an index of so many bytes takes. */
export function seedIndexBytes(length: number, stride: number): number {
  return 4 << tableBits(length, stride);
}

/** A place for every seed, up to 128 MiB of them; beyond that a few are lost, and others nearby are found. */
function tableBits(length: number, stride: number): number {
  return Math.min(25, Math.ceil(Math.log2(Math.max(256, length / stride))));
}

function hashAt(view: DataView, at: number): number {
  let hash = Math.imul(view.getInt32(at, true), FACTOR);
  hash = Math.imul((hash ^ (hash >>> 15)) + view.getInt32(at + 4, true), 0x85eb_ca6b);
  hash = Math.imul((hash ^ (hash >>> 13)) + view.getInt32(at + 8, true), FACTOR);
  return hash ^ (hash >>> 16);
}
