/**
 * The 512-byte header block: POSIX.1-2024 ustar ("pax", ustar Interchange
 * Format), the old GNU variant (GNU tar manual, "Basic Tar Format") and v7.
 *
 * Everything here is called once a member, so it works on bytes, makes no
 * objects, and tells failure by value: NaN for "not a number", ±Infinity for
 * "not a safe integer".
 */
import { defineStruct } from '../bytes/struct.ts';

export const BLOCK = 512;

/** `struct posix_header`. */
export const USTAR = defineStruct('ustar header', BLOCK, [
  ['name', 0, 100],
  ['mode', 100, 8],
  ['uid', 108, 8],
  ['gid', 116, 8],
  ['size', 124, 12],
  ['mtime', 136, 12],
  ['chksum', 148, 8],
  ['typeflag', 156, 1],
  ['linkname', 157, 100],
  ['magic', 257, 6],
  ['version', 263, 2],
  ['uname', 265, 32],
  ['gname', 297, 32],
  ['devmajor', 329, 8],
  ['devminor', 337, 8],
  ['prefix', 345, 155],
  ['padding', 500, 12],
]);

/** `struct oldgnu_header`: what GNU tar has in the place of the prefix. */
export const OLD_GNU = defineStruct('old GNU header', BLOCK, [
  ['common', 0, 345],
  ['atime', 345, 12],
  ['ctime', 357, 12],
  ['offset', 369, 12],
  ['longnames', 381, 4],
  ['unused', 385, 1],
  ['sp', 386, 4 * 24],
  ['isextended', 482, 1],
  ['realsize', 483, 12],
  ['padding', 495, 17],
]);

/** star's variant of ustar: a shorter prefix, then times; told by "tar\0" at the very end. */
const STAR = defineStruct('star header', BLOCK, [
  ['common', 0, 345],
  ['prefix', 345, 131],
  ['atime', 476, 12],
  ['ctime', 488, 12],
  ['padding', 500, 8],
  ['trailer', 508, 4],
]);

const MAGIC = USTAR.at.magic;
const CHKSUM = USTAR.at.chksum;
const CHKSUM_END = CHKSUM + 8;
const SPACE = 0x20;
const ZERO = 0x30;

/** Which dialect a header block is written in. */
export type HeaderFormat = 'v7' | 'ustar' | 'star' | 'gnu';

/** Dialect by magic and version; only "ustar\0" and GNU's "ustar  \0" count, all else is v7. */
export function detectFormat(block: Uint8Array, at: number): HeaderFormat {
  const magic = at + MAGIC;
  if (
    block[magic] !== 0x75 ||
    block[magic + 1] !== 0x73 ||
    block[magic + 2] !== 0x74 ||
    block[magic + 3] !== 0x61 ||
    block[magic + 4] !== 0x72
  ) {
    return 'v7';
  }
  const sixth = block[magic + 5];
  if (sixth === 0) return isStar(block, at) ? 'star' : 'ustar';
  return sixth === SPACE && block[magic + 6] === SPACE && block[magic + 7] === 0 ? 'gnu' : 'v7';
}

function isStar(block: Uint8Array, at: number): boolean {
  const trailer = at + STAR.at.trailer;
  return (
    block[trailer] === 0x74 &&
    block[trailer + 1] === 0x61 &&
    block[trailer + 2] === 0x72 &&
    block[trailer + 3] === 0
  );
}

/**
 * Sum of the 512 bytes at `at`. With `words` (an aligned view of the same
 * memory, `word` being the index of the block in it) it adds four bytes a
 * step: 128 steps of at most 255 fit the 16-bit lanes.
 */
export function sumBlock(block: Uint8Array, at: number, words: Int32Array | null, word: number): number {
  if (words === null) {
    let sum = 0;
    for (let i = at, end = at + BLOCK; i < end; i++) sum += block[i]!;
    return sum;
  }
  let even = 0;
  let odd = 0;
  for (let i = word, end = word + BLOCK / 4; i < end; i++) {
    const four = words[i]!;
    even += four & 0x00ff00ff;
    odd += (four >>> 8) & 0x00ff00ff;
  }
  return (even & 0xffff) + (even >>> 16) + (odd & 0xffff) + (odd >>> 16);
}

/**
 * Whether the checksum field holds the block's checksum, `sum` being
 * {@link sumBlock}. Old writers (Sun) added signed chars, so both sums count.
 */
export function checksumMatches(block: Uint8Array, at: number, sum: number): boolean {
  const stated = parseNumber(block, at + CHKSUM, 8);
  let own = 0;
  for (let i = at + CHKSUM, end = at + CHKSUM_END; i < end; i++) own += block[i]!;
  const unsigned = sum - own + 8 * SPACE;
  if (stated === unsigned) return true;
  let high = 0;
  for (let i = at; i < at + BLOCK; i++) high += block[i]! >>> 7;
  for (let i = at + CHKSUM, end = at + CHKSUM_END; i < end; i++) high -= block[i]! >>> 7;
  return stated === unsigned - 256 * high;
}

/**
 * A numeric field: octal digits, leading and trailing spaces or NULs, or the
 * base-256 form (first bit set). A blank field is 0. NaN when it is neither,
 * ±Infinity when it is beyond a safe integer.
 */
export function parseNumber(block: Uint8Array, at: number, width: number): number {
  if (block[at]! & 0x80) return parseBase256(block, at, width);
  const end = at + width;
  let i = at;
  while (i < end && (block[i] === SPACE || block[i] === 0)) i++;
  let value = 0;
  for (; i < end; i++) {
    const digit = block[i]! - ZERO;
    // Unsigned compare: one test for "below 0 or above 7".
    if (digit >>> 0 > 7) return block[i] === 0 || block[i] === SPACE ? value : Number.NaN;
    value = value * 8 + digit;
  }
  return value;
}

/** Big-endian two's complement of `width * 8 - 1` bits, the first bit being the mark of the form. */
function parseBase256(block: Uint8Array, at: number, width: number): number {
  const negative = (block[at]! & 0x40) !== 0;
  const flip = negative ? 0xff : 0;
  // For a negative number this is -1 - value, which is never negative.
  let value = (block[at]! ^ flip) & 0x7f;
  for (let i = 1; i < width; i++) {
    if (value > 0x1f_ffff_ffff_ff) return negative ? -Infinity : Infinity;
    value = value * 256 + (block[at + i]! ^ flip);
  }
  if (!negative) return value;
  return value === Number.MAX_SAFE_INTEGER ? -Infinity : -1 - value;
}

/** Position of the first NUL in a text field, or its end: a full field has none. */
export function textEnd(block: Uint8Array, at: number, width: number): number {
  const end = at + width;
  let i = at;
  while (i < end && block[i] !== 0) i++;
  return i;
}

/**
 * Whether the old-GNU header at `at` has a name prefix after all. In that
 * dialect the area holds times, but Go's writer before 1.8 put a ustar prefix
 * there, and layers written so are still served; Go's reader takes the area
 * for a prefix when its times are no numbers and its text is ASCII.
 */
export function hasMisplacedPrefix(block: Uint8Array, at: number): boolean {
  const { atime, ctime } = OLD_GNU.at;
  if (block[at + atime] === 0) return false;
  const timesAreNumbers =
    !Number.isNaN(parseNumber(block, at + atime, 12)) &&
    (block[at + ctime] === 0 || !Number.isNaN(parseNumber(block, at + ctime, 12)));
  if (timesAreNumbers) return false;
  const start = at + USTAR.at.prefix;
  const end = textEnd(block, start, 155);
  for (let i = start; i < end; i++) if (block[i]! >= 0x80) return false;
  return true;
}
