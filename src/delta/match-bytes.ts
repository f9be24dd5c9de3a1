/**
 * Finds the parts of one buffer in another, allowing for bytes that differ: what a new build of a program is to the
 * old one. The way of bsdiff (Percival, "Naive differences of executable code"): a run goes on at the same distance
 * as long as at least half of its bytes are equal, and another distance is taken where that gives more equal bytes.
 * Where bsdiff asks a suffix array for the longest match at each place, an index of seeds is asked for some match.
 */
import { SEED, SeedIndex } from './seed-index.ts';

/** So many more equal bytes make another distance worth an op. */
const GAIN = 8;
/** In so many bytes another distance must win. */
const WINDOW = 32;
/** After so many places without a match the steps become longer, up to so many strides. */
const PATIENCE = 1024;
const MAX_STRIDES = 32;
/** So many bytes without anything found end a run, even if it goes on at the same distance. */
const LOST = 1024;

/** Told in order; together they are all of `now`. `shift` leads from a place in `now` to that in `old`. */
export interface MatchSink {
  run(start: number, end: number, shift: number): void;
  literal(start: number, end: number): void;
}

/** `shift`: the distance to begin with, which may lead to outside of `old`. */
export function matchBytes(
  old: Uint8Array,
  now: Uint8Array,
  shift: number,
  stride: number,
  sink: MatchSink,
): void {
  new Matcher(old, now, shift, stride, sink).run();
}

class Matcher {
  readonly #old: Uint8Array;
  readonly #now: Uint8Array;
  readonly #view: DataView;
  readonly #oldView: DataView;
  readonly #stride: number;
  /** Made when it is first needed: many files differ in a few bytes only. */
  #index: SeedIndex | null = null;
  readonly #sink: MatchSink;
  /** The run that goes on: where it began, and its distance. */
  #from = 0;
  #shift: number;

  constructor(old: Uint8Array, now: Uint8Array, shift: number, stride: number, sink: MatchSink) {
    this.#old = old;
    this.#now = now;
    this.#view = new DataView(now.buffer, now.byteOffset, now.byteLength);
    this.#oldView = new DataView(old.buffer, old.byteOffset, old.byteLength);
    this.#stride = stride;
    this.#sink = sink;
    this.#shift = shift;
  }

  run(): void {
    const last = this.#now.length - SEED;
    /** Behind what was found last, and places looked at in vain since. */
    let good = this.#shift < 0 ? -LOST - 1 : 0;
    let vain = 0;
    for (let at = 0; at <= last; ) {
      const lost = at - good > LOST;
      let found = 0;
      if (!this.#worse(at)) {
        // What lies between is not worth being part of the run.
        if (lost) this.#switch(at, this.#shift);
        found = WINDOW / 2;
      } else {
        found = this.#find(at, lost);
      }
      if (found > 0) {
        at += found;
        good = at;
        vain = 0;
        continue;
      }
      at++;
      // Where nothing is alike it is not looked for at every place.
      if (++vain >= PATIENCE && vain % this.#stride === 0)
        at += Math.min(vain >> 5, MAX_STRIDES) * this.#stride;
    }
    this.#end(this.#now.length);
    this.#index?.close();
  }

  /** Whether another distance could win at all: fewer unequal bytes than it would have to save. */
  #worse(at: number): boolean {
    const now = this.#view;
    const old = this.#oldView;
    const shift = this.#shift;
    const end = at + WINDOW;
    if (at + shift < 0 || end > now.byteLength || end + shift > old.byteLength) return true;
    let unequal = 0;
    for (let i = at; i < end; i += 4) {
      const bits = now.getInt32(i, true) ^ old.getInt32(i + shift, true);
      if (bits === 0) continue;
      if ((bits & 0xff) !== 0) unequal++;
      if ((bits & 0xff00) !== 0) unequal++;
      if ((bits & 0xff_0000) !== 0) unequal++;
      if (bits >>> 24 !== 0) unequal++;
    }
    return unequal > GAIN;
  }

  /** Goes over to another distance at `at` if one is better; returns for how many bytes it is sure. */
  #find(at: number, lost: boolean): number {
    const now = this.#now;
    const old = this.#old;
    const shift = this.#shift;
    const found = this.#seeds().find(this.#view, at);
    if (found < 0 || (found - at === shift && !lost)) return 0;
    const most = Math.min(now.length - at, old.length - found);
    let length = 0;
    let equal = 0;
    for (; length < most && now[at + length] === old[found + length]; length++) {
      if (now[at + length] === old[at + length + shift]) equal++;
    }
    if (length < SEED || (!lost && length <= equal + GAIN)) return 0;
    this.#switch(at, found - at);
    return length;
  }

  #seeds(): SeedIndex {
    return (this.#index ??= new SeedIndex(this.#old, this.#stride));
  }

  /** At `at` another distance begins: decides where the old run ends and how far back the new one reaches. */
  #switch(at: number, shift: number): void {
    const forward = this.#forward(at);
    let back = this.#back(at, shift);
    let end = this.#from + forward;
    if (end > at - back) {
      // Both claim bytes: each gets those that are equal for it, cut where that is most.
      const start = at - back;
      let score = 0;
      let best = 0;
      let cut = start;
      for (let i = start; i < end; i++) {
        if (this.#now[i] === this.#old[i + this.#shift]) score++;
        if (this.#now[i] === this.#old[i + shift]) score--;
        if (score > best) {
          best = score;
          cut = i + 1;
        }
      }
      end = cut;
      back = at - cut;
    }
    this.#emit(end, at - back);
    this.#from = at - back;
    this.#shift = shift;
  }

  #end(at: number): void {
    this.#emit(this.#from + this.#forward(at), at);
  }

  #emit(end: number, next: number): void {
    if (end > this.#from) this.#sink.run(this.#from, end, this.#shift);
    if (next > end) this.#sink.literal(end, next);
  }

  /** How many bytes of the run that goes on, up to `limit`, are worth being one: the most equal against unequal. */
  #forward(limit: number): number {
    const now = this.#now;
    const old = this.#old;
    const shift = this.#shift;
    const from = this.#from;
    // The distance to begin with may lead to before the old.
    if (from + shift < 0) return 0;
    const end = Math.min(limit, old.length - shift);
    let score = 0;
    let best = 0;
    let length = 0;
    for (let i = from; i < end; ) {
      if (i + 4 <= end && this.#view.getInt32(i, true) === this.#oldView.getInt32(i + shift, true)) {
        score += 4;
        i += 4;
      } else {
        score += now[i] === old[i + shift] ? 1 : -1;
        i++;
      }
      if (score > best) {
        best = score;
        length = i - from;
      }
    }
    return length;
  }

  #back(at: number, shift: number): number {
    const now = this.#now;
    const old = this.#old;
    const end = Math.max(this.#from, -shift);
    let score = 0;
    let best = 0;
    let length = 0;
    for (let i = at; i > end; ) {
      if (i - 4 >= end && this.#view.getInt32(i - 4, true) === this.#oldView.getInt32(i - 4 + shift, true)) {
        score += 4;
        i -= 4;
      } else {
        i--;
        score += now[i] === old[i + shift] ? 1 : -1;
      }
      if (score > best) {
        best = score;
        length = at - i;
      }
    }
    return length;
  }
}
