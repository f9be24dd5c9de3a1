/** One stretch of the target matched against ranges of the sources, in windows that bound what is held in memory. */
import type { ByteSource } from '../bytes/io.ts';
import type { AddressSpace } from './address-space.ts';
import { commonBytes } from './common-ends.ts';
import type { DeltaLevel } from './level.ts';
import { matchBytes } from './match-bytes.ts';
import type { Range } from './plan.ts';
import type { ScriptWriter } from './script.ts';
import { seedIndexBytes } from './seed-index.ts';
import { type Found, findShifts } from './shifts.ts';
import { giveBack, readInto, takeBytes } from './work-memory.ts';

/** What is matched at once of either side, at most. */
export const MATCH_WINDOW = 48 << 20;
/** Of long files so much of the target at a time. */
const STEP = 8 << 20;

/** Yields, for nothing but a pause, whenever a window is done. */
export function* matchRange(
  target: ByteSource,
  start: number,
  length: number,
  space: AddressSpace,
  like: readonly Range[],
  level: DeltaLevel,
  out: ScriptWriter,
): Generator<void> {
  const first = like[0]!;
  const prefix = commonBytes('front', target, start, length, space, first);
  out.copy(first.address, prefix);
  const left = length - prefix;
  const suffix = commonBytes('back', target, start + prefix, left, space, rest(first, prefix));
  const middle = left - suffix;
  const from = start + prefix;
  if (middle > 0) {
    const ranges = [
      { address: first.address + prefix, length: first.length - prefix - suffix },
      ...like.slice(1),
    ];
    const old = ranges.filter((range) => range.length > 0);
    if (totalLength(old) <= MATCH_WINDOW && middle <= MATCH_WINDOW) {
      matchWindow(target, from, middle, { ranges: old, shift: 0 }, space, level, out);
    } else {
      yield* matchLong(target, from, middle, space, old, level, out);
    }
  }
  out.copy(first.address + first.length - suffix, suffix);
}

/** What is left of a range behind its first `by` bytes. */
function rest({ address, length }: Range, by: number): Range {
  return { address: address + by, length: length - by };
}

/** Window by window, each against the parts of the source that most of it seems to come from. */
function* matchLong(
  target: ByteSource,
  start: number,
  length: number,
  space: AddressSpace,
  old: readonly Range[],
  level: DeltaLevel,
  out: ScriptWriter,
): Generator<void> {
  const finder = findShifts(space, old);
  const window = Buffer.allocUnsafeSlow(STEP);
  for (let done = 0; done < length; done += STEP) {
    const take = Math.min(STEP, length - done);
    const now = target.read(start + done, take, window);
    const found = finder.find(now, done);
    if (found === null) out.literal(now);
    else matchWindow(target, start + done, take, found, space, level, out);
    yield;
  }
}

function matchWindow(
  target: ByteSource,
  start: number,
  length: number,
  { ranges, shift }: Found,
  space: AddressSpace,
  level: DeltaLevel,
  out: ScriptWriter,
): void {
  const now = takeBytes(length);
  const old = takeBytes(totalLength(ranges));
  readInto(now, (count, scratch) => target.read(start, count, scratch));
  let filled = 0;
  for (const { address, length } of ranges) {
    const place = old.subarray(filled, (filled += length));
    readInto(place, (count, scratch) => space.read(address, count, scratch));
  }
  matchBytes(old, now, shift, level.stride, {
    literal: (from, to) => out.literal(now.subarray(from, to)),
    run(from, to, distance) {
      // A run may go on over the seam between two ranges.
      let first = 0;
      for (const { address, length } of ranges) {
        const begin = Math.max(from, first - distance);
        const end = Math.min(to, first + length - distance);
        if (begin < end) out.patch(now, begin, end, old, distance, address - first);
        first += length;
      }
    },
  });
  giveBack(now);
  giveBack(old);
}

/** What matching takes in memory, about. */
export function matchMemory(length: number, like: readonly Range[], { stride }: DeltaLevel): number {
  const old = Math.min(totalLength(like), MATCH_WINDOW);
  return Math.min(length, MATCH_WINDOW) + old + seedIndexBytes(old, stride);
}

function totalLength(ranges: readonly Range[]): number {
  return ranges.reduce((sum, { length }) => sum + length, 0);
}
