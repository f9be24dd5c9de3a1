/** The exact tar that a recipe gives, at random and in order. */
import type { ByteSource } from '../bytes/io.ts';
import { findRun, RECIPE_BLOCK, type Recipe, ZEROS } from './recipe.ts';

/**
 * `files[i]` is source `i` of the recipe. Read in order it costs what reading its runs costs; at random, a binary
 * search more.
 */
export function recipeTar(recipe: Recipe, files: readonly ByteSource[]): ByteSource {
  const { runs, tarSize } = recipe;
  return {
    size: tarSize,
    read(offset, length, scratch) {
      if (offset < 0 || length < 0 || offset + length > tarSize)
        throw new RangeError(`Cannot read ${length} bytes at ${offset}: the tar has ${tarSize}`);
      const bytes = scratch?.subarray(0, length) ?? Buffer.allocUnsafe(length);
      let run = length === 0 ? 0 : findRun(runs, Math.floor(offset / RECIPE_BLOCK));
      for (let done = 0; done < length; run++) {
        const begin = runs.starts[run]! * RECIPE_BLOCK;
        const skipped = offset + done - begin;
        const take = Math.min(length - done, runs.starts[run + 1]! * RECIPE_BLOCK - begin - skipped);
        const piece = bytes.subarray(done, done + take);
        const source = runs.sources[run]!;
        if (source === ZEROS) piece.fill(0);
        else {
          const found = files[source - 1]!.read(runs.ats[run]! * RECIPE_BLOCK + skipped, take, piece);
          if (found.buffer !== piece.buffer || found.byteOffset !== piece.byteOffset) found.copy(piece);
        }
        done += take;
      }
      return bytes;
    },
  };
}
