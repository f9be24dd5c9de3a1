/** Places in data that its content chooses: where a hash over the last 32 bytes has enough zeros. What moves takes them along. */

/** A gear hash: each byte shifts out what stood 32 bytes before. One cut in 2^`bits` bytes, about. */
export class Cutter {
  readonly #mask: number;
  #hash = 0;

  constructor(bits: number) {
    this.#mask = (~0 << (32 - bits)) >>> 0;
  }

  /** Calls with a name of each cut and its position in `bytes`. */
  cut(bytes: Uint8Array, found: (key: number, at: number) => void): void {
    const mask = this.#mask | 0;
    const end = bytes.length;
    let hash = this.#hash;
    for (let at = 0; at < end; at++) {
      hash = ((hash << 1) + GEAR[bytes[at]!]!) | 0;
      if ((hash & mask) === 0 && at >= TELLING) found(keyAt(bytes, at, hash), at + 1);
    }
    this.#hash = hash;
  }
}

/** Bytes before a cut that name it; one with fewer of them in its piece is passed over. */
const TELLING = 32;

/** 53 bits: of the 32 of the hash some are zero. */
function keyAt(bytes: Uint8Array, at: number, hash: number): number {
  let other = 0;
  for (let i = at - TELLING; i <= at; i++) other = (Math.imul(other, 0x0100_0193) ^ bytes[i]!) | 0;
  return (hash >>> 0) * 2 ** 21 + (other >>> 11);
}

/** Any 256 numbers without a pattern. */
const GEAR = makeGear();

function makeGear(): Int32Array {
  const gear = new Int32Array(256);
  let state = 0x2545_f491;
  for (let i = 0; i < 256; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    gear[i] = state;
  }
  return gear;
}
