/** Carries out steps of a plan that need the bytes of both sides. */
import type { ByteSource } from '../bytes/io.ts';
import type { AddressSpace } from './address-space.ts';
import type { DeltaLevel } from './level.ts';
import { matchRange } from './match-range.ts';
import type { Step } from './plan.ts';
import { type Script, ScriptWriter } from './script.ts';

/** A script that holds more is given out before the steps are done: what is in memory at a time is bounded. */
const SCRIPT_BYTES = 4 << 20;

/** The steps follow one another in the target. Together the scripts are all of them; the last is returned. */
export function* carryOut(
  steps: readonly Step[],
  target: ByteSource,
  space: AddressSpace,
  level: DeltaLevel,
): Generator<Script, Script> {
  const out = new ScriptWriter(space.startSet);
  for (const step of steps) {
    const { kind, start, length } = step;
    if (kind === 'copy') out.copy(step.address, length);
    else if (kind === 'literal') out.literal(target.read(start, length));
    else if (kind === 'near')
      out.patch(target.read(start, length), 0, length, space.read(step.address, length), 0, step.address);
    else {
      for (const _ of matchRange(target, start, length, space, step.like, level, out)) {
        if (out.size >= SCRIPT_BYTES) yield out.take();
      }
    }
    if (out.size >= SCRIPT_BYTES) yield out.take();
  }
  return out.take();
}
