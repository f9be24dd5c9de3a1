/**
 * Units: the pieces of files that are looked up in other layers, and the index of those that a file of the store has.
 *
 * A unit is 4 KiB of a file counted from its begin, or the whole of a smaller file, in whole tar blocks. The index
 * holds 8 bytes a unit: a hash, and the block where it stands. It only says where to look: bytes are compared before
 * anything is shared, so a wrong index costs time and never data.
 */
import { RECIPE_BLOCK } from './recipe.ts';

/** Blocks of a unit. */
export const UNIT_BLOCKS = 8;
export const UNIT_BYTES = UNIT_BLOCKS * RECIPE_BLOCK;

const BLOCK_WORDS = RECIPE_BLOCK / 4;
/** Odd multipliers with well-spread bits (2^32 divided by the golden ratio, and primes next to other ratios). */
const MIX = 0x9e3779b1;
const STEP = 0x85ebca77;
/** STEP to the power of the blocks of a unit. */
const STEP_OUT = Array.from({ length: UNIT_BLOCKS }).reduce((power: number) => Math.imul(power, STEP), 1);

/** Hash of one block, `words` being the bytes as 32-bit numbers. Four lanes, so that multiplications overlap. */
export function hashBlock(words: Int32Array, at: number): number {
  let a = 1;
  let b = 2;
  let c = 3;
  let d = 4;
  for (let i = at; i < at + BLOCK_WORDS; i += 4) {
    a = Math.imul(a ^ words[i]!, MIX);
    b = Math.imul(b ^ words[i + 1]!, MIX);
    c = Math.imul(c ^ words[i + 2]!, MIX);
    d = Math.imul(d ^ words[i + 3]!, MIX);
    a ^= a >>> 15;
    b ^= b >>> 15;
    c ^= c >>> 15;
    d ^= d >>> 15;
  }
  return Math.imul(a ^ Math.imul(b ^ Math.imul(c ^ Math.imul(d, MIX), MIX), MIX), MIX);
}

/** Adds the hash of the next block to that of the blocks before it. */
export function extendHash(hash: number, block: number): number {
  return (Math.imul(hash, STEP) + block) | 0;
}

/** Moves the hash of {@link UNIT_BLOCKS} blocks one block on. */
export function rollHash(hash: number, out: number, block: number): number {
  return (Math.imul(hash, STEP) + block - Math.imul(out, STEP_OUT)) | 0;
}

/** What a unit of `blocks` blocks is looked up by. */
export function unitKey(hash: number, blocks: number): number {
  let key = Math.imul(hash ^ Math.imul(blocks, MIX), STEP);
  key ^= key >>> 16;
  return Math.imul(key, MIX) >>> 0;
}

/** The key of a unit that stands at word `at`. */
export function hashUnit(words: Int32Array, at: number, blocks: number): number {
  let hash = 0;
  for (let i = 0; i < blocks; i++) hash = extendHash(hash, hashBlock(words, at + i * BLOCK_WORDS));
  return unitKey(hash, blocks);
}

const MAGIC = Buffer.from('VNRUNIT1', 'latin1');

/** Collects the index of one file. */
export class UnitList {
  #entries = new Uint32Array(1024);
  #length = 0;

  get count(): number {
    return this.#length / 2;
  }

  add(key: number, block: number): void {
    if (this.#length === this.#entries.length) {
      const larger = new Uint32Array(this.#length * 2);
      larger.set(this.#entries);
      this.#entries = larger;
    }
    this.#entries[this.#length++] = key;
    this.#entries[this.#length++] = block;
  }

  /** Little-endian, as the machines are that this runs on. */
  encode(): Buffer {
    const { buffer, byteOffset } = this.#entries;
    return Buffer.concat([MAGIC, Buffer.from(buffer, byteOffset, this.#length * 4)]);
  }
}

/** Pairs of key and block; null when this is no index. */
export function decodeUnits(bytes: Buffer): Uint32Array | null {
  const length = bytes.length - MAGIC.length;
  if (length < 0 || length % 8 !== 0 || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) return null;
  const entries = new Uint32Array(length / 4);
  bytes.copy(Buffer.from(entries.buffer), 0, MAGIC.length);
  return entries;
}
