/**
 * What the kernel said of every name when a checkout had made it: inode and change time. No user can set a change
 * time, so what has the same ones is untouched, and nothing has to be read to know that.
 */
import type { FileFacts } from '../sys/stat.ts';

/** `VNRCKIDX` */
const MAGIC = 0x5844_494b_4352_4e56n;
const HEADER = 2;

export class StatIndex {
  /** Magic and count, then inode and change time in ns a name, in the order of `namesOf`; zeros: not known. */
  readonly #words: BigUint64Array;

  private constructor(words: BigUint64Array) {
    this.#words = words;
  }

  /** For so many names, nothing known of any. */
  static make(count: number): StatIndex {
    const words = new BigUint64Array(HEADER + 2 * count);
    words[0] = MAGIC;
    words[1] = BigInt(count);
    return new StatIndex(words);
  }

  /** Null when the bytes are no index of so many names: then nothing is known. */
  static parse(bytes: Buffer, count: number): StatIndex | null {
    if (bytes.length !== 8 * (HEADER + 2 * count)) return null;
    const words = new BigUint64Array(new Uint8Array(bytes).buffer);
    return words[0] === MAGIC && words[1] === BigInt(count) ? new StatIndex(words) : null;
  }

  bytes(): Buffer {
    return Buffer.from(this.#words.buffer);
  }

  note(order: number, facts: FileFacts): void {
    this.#words[HEADER + 2 * order] = facts.inode;
    this.#words[HEADER + 2 * order + 1] = changeTime(facts);
  }

  /** Takes over what another index knows of one of its names. */
  take(order: number, from: StatIndex, theirs: number): void {
    this.#words[HEADER + 2 * order] = from.#words[HEADER + 2 * theirs]!;
    this.#words[HEADER + 2 * order + 1] = from.#words[HEADER + 2 * theirs + 1]!;
  }

  /** The same inode as then. */
  isSameInode(order: number, facts: FileFacts): boolean {
    return this.#words[HEADER + 2 * order] === facts.inode;
  }

  /** The same inode, and nothing was done to it since. */
  isUntouched(order: number, facts: FileFacts): boolean {
    return this.isSameInode(order, facts) && this.#words[HEADER + 2 * order + 1] === changeTime(facts);
  }

  /** It was made at all: devices are not, for everybody but root. */
  isKnown(order: number): boolean {
    return this.#words[HEADER + 2 * order] !== 0n;
  }
}

const changeTime = (facts: FileFacts): bigint =>
  BigInt(facts.ctime) * 1_000_000_000n + BigInt(facts.ctimeNsec);
