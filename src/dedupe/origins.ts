/** What is known of a tar before its bytes come by: which runs of it were taken from base files. */
import { findRun, RECIPE_BLOCK, type RecipeRuns, ZEROS } from './recipe.ts';

/** Runs in the order of the tar, four numbers each: see {@link OriginList.add}. Threads send them to each other. */
export type OriginNumbers = Float64Array;

/** Collects origins. */
export class OriginList {
  #numbers: number[] = [];

  /** `length` bytes from `at` of the tar are those at `from` of base file number `base`. */
  add(at: number, length: number, base: number, from: number): void {
    this.#numbers.push(at, length, base, from);
  }

  /**
   * The same bytes were taken from the tar of a recipe: adds where they stand in its files. `bases[i]` is the number of
   * source `i` among the bases, -1 for one that is none.
   */
  addThrough(runs: RecipeRuns, bases: readonly number[], at: number, length: number, from: number): void {
    let run = findRun(runs, Math.floor(from / RECIPE_BLOCK));
    for (let done = 0; done < length; run++) {
      const begin = from + done;
      const take = Math.min(length - done, runs.starts[run + 1]! * RECIPE_BLOCK - begin);
      const source = runs.sources[run]!;
      const base = source === ZEROS ? -1 : bases[source - 1]!;
      const skipped = begin - runs.starts[run]! * RECIPE_BLOCK;
      if (base >= 0) this.add(at + done, take, base, runs.ats[run]! * RECIPE_BLOCK + skipped);
      done += take;
    }
  }

  /** What was added since this was last asked. */
  take(): OriginNumbers {
    const numbers = new Float64Array(this.#numbers);
    this.#numbers = [];
    return numbers;
  }
}

/**
 * Origins in the order of the tar, as they are told, and as they are asked for while the tar is split. What is told
 * must be true: it is not compared.
 */
export class Origins {
  readonly #runs: { at: number; end: number; base: number; shift: number }[] = [];
  #next = 0;

  add(origins: OriginNumbers): void {
    this.#runs.splice(0, this.#next);
    this.#next = 0;
    for (let i = 0; i < origins.length; i += 4) {
      const [at, length, base, from] = [origins[i]!, origins[i + 1]!, origins[i + 2]!, origins[i + 3]!];
      const shift = from - at;
      if (shift % RECIPE_BLOCK !== 0) continue;
      const last = this.#runs.at(-1);
      if (last !== undefined && last.end === at && last.base === base && last.shift === shift)
        last.end += length;
      else this.#runs.push({ at, end: at + length, base, shift });
    }
  }

  /** The run that has `block` of the tar and how many whole blocks follow in it, that one included; null for none. */
  find(block: number): { readonly base: number; readonly shift: number; readonly blocks: number } | null {
    const at = block * RECIPE_BLOCK;
    let run = this.#runs[this.#next];
    while (run !== undefined && run.end < at + RECIPE_BLOCK) run = this.#runs[++this.#next];
    if (run === undefined || run.at > at) return null;
    const blocks = Math.floor((run.end - at) / RECIPE_BLOCK);
    return { base: run.base, shift: run.shift / RECIPE_BLOCK, blocks };
  }
}
