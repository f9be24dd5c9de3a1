/**
 * Where windows of a long file come from. Both sides are cut at places that their content chooses (a hash over the
 * last bytes has zeros in it), so that an insertion moves the cuts with the bytes; a cut that both sides have tells a
 * distance. What it takes in memory is bounded: the longer the file, the rarer the cuts.
 */
import type { AddressSpace } from './address-space.ts';
import { Cutter } from './cutter.ts';
import type { Range } from './plan.ts';

/** About so many cuts in a source of any length. */
const CUTS = 1 << 18;
const PIECE = 1 << 20;
/** Distances are counted in steps of so many bytes; what is nearer is left to matching. */
const GRAIN = 1 << 16;
/** A window is matched against so many ranges of the source, at most, each with so much before and behind it. */
const MAX_PLACES = 3;
const MARGIN = 1 << 20;

/** What a window is matched against. */
export interface Found {
  /** The likeliest first. */
  readonly ranges: readonly Range[];
  /** From a place in the window to that in the first range. */
  readonly shift: number;
}

export interface ShiftFinder {
  /** `at`: where the window stands in the file. Null when it is to stay as it is. */
  find(window: Uint8Array, at: number): Found | null;
}

export function findShifts(space: AddressSpace, old: readonly Range[]): ShiftFinder {
  const all = old.reduce((sum, { length }) => sum + length, 0);
  const bits = Math.max(10, Math.ceil(Math.log2(all / CUTS)));
  const cuts = new Map<number, number>();
  const scratch = Buffer.allocUnsafeSlow(PIECE);
  let base = 0;
  for (const { address, length } of old) {
    const cutter = new Cutter(bits);
    for (let done = 0; done < length; done += PIECE) {
      const piece = space.read(address + done, Math.min(PIECE, length - done), scratch);
      cutter.cut(piece, (key, at) => {
        // The first of equal cuts stays; those of zeros and the like tell nothing anyway.
        if (cuts.size < 2 * CUTS && !cuts.has(key)) cuts.set(key, base + done + at);
      });
    }
    base += length;
  }
  return {
    find(window, at) {
      const votes = new Map<number, { count: number; shift: number }>();
      new Cutter(bits).cut(window, (key, place) => {
        const found = cuts.get(key);
        if (found === undefined) return;
        const shift = found - place;
        const step = Math.round(shift / GRAIN);
        const vote = votes.get(step);
        if (vote === undefined) votes.set(step, { count: 1, shift });
        else vote.count++;
      });
      // Without a sign: what stood at the same place, if the file was as long.
      const shifts = votes.size === 0 ? [at] : chooseShifts([...votes.values()]);
      const found = shifts.flatMap((shift) => rangeAt(old, shift, window.length) ?? []);
      const [first] = found;
      return first === undefined ? null : { ranges: found.map(({ range }) => range), shift: first.shift };
    },
  };
}

/** Those that many cuts vote for; what is nearer to another than the margin is covered by that. */
function chooseShifts(votes: { readonly count: number; readonly shift: number }[]): number[] {
  const chosen: number[] = [];
  for (const { shift } of votes.sort((a, b) => b.count - a.count)) {
    if (chosen.length === MAX_PLACES) break;
    if (chosen.every((other) => Math.abs(other - shift) > MARGIN)) chosen.push(shift);
  }
  return chosen;
}

/** The range around `shift`, the distance from the window to all ranges one behind another. */
function rangeAt(
  old: readonly Range[],
  shift: number,
  length: number,
): { readonly range: Range; readonly shift: number } | null {
  const middle = shift + length / 2;
  let base = 0;
  for (const range of old) {
    if (middle < base + range.length) {
      const from = Math.max(0, Math.min(shift - base - MARGIN, range.length - 1));
      const to = Math.max(from, Math.min(range.length, shift - base + length + MARGIN));
      return { range: { address: range.address + from, length: to - from }, shift: shift - base - from };
    }
    base += range.length;
  }
  return null;
}
