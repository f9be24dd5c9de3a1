/** Files that hold much of the same, whatever they are called: told by places that their content chooses. */
import { Cutter } from './cutter.ts';

/** One place in so many bytes, as a power of two. */
const CUT_BITS = 7;
/** Of so many bytes of a file, from its beginning. */
export const SKETCH_BYTES = 4 << 20;
/** Names of places that a sketch has at most: the smallest, so that like files choose the same. */
const MAX_FEATURES = 64;
/** Files that one place may be in: what is in more of them tells nothing. */
const MAX_SHARERS = 8;

function sketch(bytes: Uint8Array): number[] {
  const keys = new Set<number>();
  new Cutter(CUT_BITS).cut(bytes, (key) => keys.add(key));
  if (keys.size <= MAX_FEATURES) return [...keys];
  return [...keys].sort((a, b) => a - b).slice(0, MAX_FEATURES);
}

export class SketchIndex<T> {
  readonly #sharers = new Map<number, T[]>();

  add(bytes: Uint8Array, one: T): void {
    for (const key of sketch(bytes)) {
      const sharers = this.#sharers.get(key);
      if (sharers === undefined) this.#sharers.set(key, [one]);
      else if (sharers.length < MAX_SHARERS) sharers.push(one);
    }
  }

  /** Those with the most in common, at least an eighth of what the sketch has; at most `limit`. */
  find(bytes: Uint8Array, limit: number): T[] {
    const keys = sketch(bytes);
    const votes = new Map<T, number>();
    for (const key of keys) {
      for (const one of this.#sharers.get(key) ?? []) votes.set(one, (votes.get(one) ?? 0) + 1);
    }
    return [...votes]
      .filter(([, count]) => count * 8 >= keys.length)
      .sort(([, a], [, b]) => b - a)
      .slice(0, limit)
      .map(([one]) => one);
  }
}
