/**
 * Maps of sparse files: the old GNU descriptors in and behind the header, the
 * text map of PAX 1.0, and the check that turns either into data runs.
 */
import type { SparseSegment } from './entry.ts';
import { BLOCK, OLD_GNU, parseNumber } from './header.ts';

/** Descriptors of 12 + 12 bytes in an old GNU header, and in an extension block. */
const DESCRIPTORS_IN_HEADER = 4;
const DESCRIPTORS_IN_EXTENSION = 21;
const DESCRIPTOR = 24;
/** `struct sparse_header`: the descriptors, then `isextended`. */
const EXTENSION_ISEXTENDED = DESCRIPTORS_IN_EXTENSION * DESCRIPTOR;

/** What a block of descriptors led to; a text is the reason to give up. */
export type DescriptorResult = 'complete' | 'more' | { readonly reason: string };

/** Reads the descriptors of an old GNU sparse header at `at` onto `pairs` (offset, length, …). */
export function readHeaderDescriptors(block: Uint8Array, at: number, pairs: number[]): DescriptorResult {
  return readDescriptors(
    block,
    at + OLD_GNU.at.sp,
    DESCRIPTORS_IN_HEADER,
    block[at + OLD_GNU.at.isextended]!,
    pairs,
  );
}

/** The same for an extension block. */
export function readExtensionDescriptors(block: Uint8Array, at: number, pairs: number[]): DescriptorResult {
  return readDescriptors(block, at, DESCRIPTORS_IN_EXTENSION, block[at + EXTENSION_ISEXTENDED]!, pairs);
}

function readDescriptors(
  block: Uint8Array,
  at: number,
  count: number,
  isExtended: number,
  pairs: number[],
): DescriptorResult {
  for (let i = 0; i < count; i++) {
    const descriptor = at + i * DESCRIPTOR;
    const noOffset = block[descriptor] === 0;
    // GNU tar takes a descriptor without a length for the end of the map, Go one without an offset.
    if (noOffset !== (block[descriptor + DESCRIPTOR / 2] === 0))
      return { reason: 'its sparse map holds half a run' };
    if (noOffset) {
      // An empty descriptor ends the map for GNU tar, while Go's reader still follows `isextended`.
      return isExtended === 0 ? 'complete' : { reason: 'its sparse map ends, and goes on' };
    }
    const offset = parseNumber(block, descriptor, 12);
    const length = parseNumber(block, descriptor + 12, 12);
    if (!(offset >= 0 && length >= 0) || offset + length > Number.MAX_SAFE_INTEGER) {
      return { reason: 'its sparse map holds what is not a position' };
    }
    pairs.push(offset, length);
  }
  return isExtended === 0 ? 'complete' : 'more';
}

/**
 * The map at the head of a PAX 1.0 payload: decimal lines, first the number of
 * runs, then offset and length of each; padded to a block. Fed block by block.
 */
export class SparseTextMap {
  readonly pairs: number[] = [];
  readonly #maxRuns: number;
  #expected = -1;
  #value = 0;
  #digits = 0;

  constructor(maxRuns: number) {
    this.#maxRuns = maxRuns;
  }

  /** Takes one block; `limit` means more runs than allowed. */
  add(block: Uint8Array, at: number): 'complete' | 'more' | 'limit' | 'malformed' {
    for (let i = at; i < at + BLOCK; i++) {
      const byte = block[i]!;
      if (byte !== 0x0a) {
        const digit = byte - 0x30;
        if (digit >>> 0 > 9 || this.#digits === 20) return 'malformed';
        this.#value = this.#value * 10 + digit;
        this.#digits++;
        continue;
      }
      if (this.#digits === 0 || this.#value > Number.MAX_SAFE_INTEGER) return 'malformed';
      if (this.#expected < 0) {
        if (this.#value > this.#maxRuns) return 'limit';
        this.#expected = this.#value * 2;
      } else {
        this.pairs.push(this.#value);
      }
      this.#value = 0;
      this.#digits = 0;
      if (this.pairs.length === this.#expected) return 'complete';
    }
    return 'more';
  }
}

/**
 * Data runs from `pairs`, whose data stands gapless from `source` on. Returns
 * the reason instead when the map contradicts itself, the real size or the
 * number of bytes stored. Empty runs (GNU tar ends a map with one) are left out.
 */
export function makeSegments(
  pairs: readonly number[],
  realSize: number,
  stored: number,
  source: number,
): SparseSegment[] | string {
  const segments: { offset: number; length: number; source: number }[] = [];
  let end = 0;
  let used = 0;
  for (let i = 0; i < pairs.length; i += 2) {
    const offset = pairs[i]!;
    const length = pairs[i + 1]!;
    if (offset < end) return 'its sparse map overlaps itself or goes backwards';
    // Compared so that no sum leaves the safe integers.
    if (offset > realSize || length > realSize - offset)
      return 'its sparse map goes beyond the end of the file';
    if (length > stored - used) return 'its sparse map names more data than is stored';
    if (length > 0) {
      const last = segments.at(-1);
      if (last !== undefined && last.offset + last.length === offset) last.length += length;
      else segments.push({ offset, length, source: source + used });
    }
    end = offset + length;
    used += length;
  }
  return segments;
}

/**
 * Whether a run that is not the last ends inside a block. Go and libarchive
 * take the next run's data from right behind it, GNU tar from the next block;
 * GNU tar's writer never makes such a map.
 */
export function isAmbiguous(pairs: readonly number[]): boolean {
  let ragged = false;
  for (let i = 1; i < pairs.length; i += 2) {
    if (pairs[i] === 0) continue;
    if (ragged) return true;
    ragged = pairs[i]! % BLOCK !== 0;
  }
  return false;
}

/** Bytes that the runs cover. */
export function countData(segments: readonly SparseSegment[]): number {
  let sum = 0;
  for (const segment of segments) sum += segment.length;
  return sum;
}
