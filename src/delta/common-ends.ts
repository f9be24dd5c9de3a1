/** How many bytes two ranges have in common at their ends: most changes to large files are small. */
import type { ByteSource } from '../bytes/io.ts';
import type { AddressSpace } from './address-space.ts';
import type { Range } from './plan.ts';

const PIECE = 1 << 18;
const left = Buffer.allocUnsafeSlow(PIECE);
const right = Buffer.allocUnsafeSlow(PIECE);

/** Of `length` bytes of the target from `at`, so many are at the same place in `old`, counted from the one end. */
export function commonBytes(
  end: 'front' | 'back',
  target: ByteSource,
  at: number,
  length: number,
  space: AddressSpace,
  old: Range,
): number {
  const front = end === 'front';
  const most = Math.min(length, old.length);
  for (let done = 0; done < most; ) {
    const take = Math.min(PIECE, most - done);
    const a = target.read(front ? at + done : at + length - done - take, take, left);
    const there = front ? old.address + done : old.address + old.length - done - take;
    const b = space.read(there, take, right);
    if (a.compare(b, 0, take, 0, take) !== 0) {
      let i = 0;
      if (front) while (a[i] === b[i]) i++;
      else while (a[take - 1 - i] === b[take - 1 - i]) i++;
      return done + i;
    }
    done += take;
  }
  return most;
}
