/** The index of what a file of the store holds, made from where the data of files stands in it. */
import type { ByteSource } from '../bytes/io.ts';
import { RECIPE_BLOCK } from './recipe.ts';
import { hashUnit, UNIT_BLOCKS, UNIT_BYTES, UnitList } from './units.ts';

/** Data of a file, bytes; `begin` is where the file begins. */
export interface FileRange {
  readonly at: number;
  readonly size: number;
}

/** Reads the data of `files` in the order of their places. Zeros are not looked for, so they are left out. */
export function indexFiles(source: ByteSource, files: readonly FileRange[]): UnitList {
  const units = new UnitList();
  const bytes = Buffer.from(new ArrayBuffer(64 * UNIT_BYTES));
  const words = new Int32Array(bytes.buffer);
  const blocksThere = Math.floor(source.size / RECIPE_BLOCK);
  for (const { at, size } of [...files].sort((a, b) => a.at - b.at)) {
    const begin = at / RECIPE_BLOCK;
    const end = Math.min(begin + Math.ceil(size / RECIPE_BLOCK), blocksThere);
    if (!Number.isInteger(begin)) continue;
    for (let block = begin; block < end; ) {
      const count = Math.min(bytes.length / RECIPE_BLOCK, end - block);
      const length = count * RECIPE_BLOCK;
      const read = source.read(block * RECIPE_BLOCK, length, bytes);
      if (read.buffer !== bytes.buffer) read.copy(bytes);
      for (let i = 0; i < count; i += UNIT_BLOCKS) {
        const blocks = Math.min(UNIT_BLOCKS, count - i);
        if (blocks < UNIT_BLOCKS && block + i !== begin) break;
        const from = i * RECIPE_BLOCK;
        if (!isZero(bytes, from, blocks * RECIPE_BLOCK))
          units.add(hashUnit(words, from / 4, blocks), block + i);
      }
      block += count;
    }
  }
  return units;
}

const ZERO_UNIT = Buffer.alloc(UNIT_BYTES);

function isZero(bytes: Buffer, from: number, length: number): boolean {
  return bytes[from] === 0 && bytes.compare(ZERO_UNIT, 0, length, from, from + length) === 0;
}
