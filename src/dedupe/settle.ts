/** What a split is kept as: from few files only, and only when it saves something. */

import type { ByteSource } from '../bytes/io.ts';
import { FIRST_BASE, type NewData, OWN_DATA } from './block-matcher.ts';
import { eachRun, RECIPE_BLOCK, type RecipeRuns, RunList, ZEROS } from './recipe.ts';

/** So many other files a layer points into at most: each is a device of every mount. */
const MAX_BASES = 32;
/** A file that gives less is not worth that the layer depends on it. Bytes. */
const MIN_SHARE = 64 << 10;
/** What must be saved at least: so much, or this part of a smaller tar. */
const MIN_SAVED = 1 << 20;
const MIN_SAVED_PART = 64;

/** The bases that are worth a device, by their numbers in `runs`, those that give most first among equals of any order. */
function chooseBases(runs: RecipeRuns, bases: number): number[] {
  const shares = new Float64Array(FIRST_BASE + bases);
  eachRun(runs, (source, _at, blocks) => {
    shares[source] = shares[source]! + blocks * RECIPE_BLOCK;
  });
  const numbers = Array.from({ length: bases }, (_, i) => i + FIRST_BASE);
  return numbers
    .filter((number) => shares[number]! >= MIN_SHARE)
    .sort((a, b) => shares[b]! - shares[a]! || a - b)
    .slice(0, MAX_BASES)
    .sort((a, b) => a - b);
}

/**
 * Leaves few bases, and copies to the new data what the others gave. Returns runs in which base `kept[i]` has the
 * number `FIRST_BASE + i`.
 */
export function settleRuns(
  runs: RecipeRuns,
  bases: readonly ByteSource[],
  data: NewData,
): { runs: RecipeRuns; kept: number[] } {
  const numbers = chooseBases(runs, bases.length);
  const renamed = new Map(numbers.map((number, i) => [number, FIRST_BASE + i]));
  const settled = new RunList();
  eachRun(runs, (source, at, blocks) => {
    const number = source === ZEROS || source === OWN_DATA ? source : renamed.get(source);
    if (number !== undefined) return settled.add(number, at, blocks);
    settled.add(OWN_DATA, Math.ceil(data.size / RECIPE_BLOCK), blocks);
    appendRange(data, bases[source - FIRST_BASE]!, at * RECIPE_BLOCK, blocks * RECIPE_BLOCK);
  });
  return { runs: settled.finish(), kept: numbers.map((number) => number - FIRST_BASE) };
}

const PIECE = 1 << 18;

export function appendRange(data: NewData, source: ByteSource, at: number, length: number): void {
  for (let done = 0; done < length; done += PIECE)
    data.append(source.read(at + done, Math.min(PIECE, length - done)));
}

/** Whether a layer is better kept as new data and a recipe than as its tar. Bytes. */
export function isWorthwhile(tarSize: number, dataSize: number): boolean {
  const saved = tarSize - dataSize;
  return saved >= MIN_SHARE && saved >= Math.min(MIN_SAVED, tarSize / MIN_SAVED_PART);
}
