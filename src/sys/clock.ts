/** clock_gettime(2): Node's own clock of the day has milliseconds. */
import { check } from './error.ts';
import { libc } from './libc.ts';

// <time.h>
const CLOCK_REALTIME = 0;

const time = new BigInt64Array(2);
const bytes = new Uint8Array(time.buffer);

/** Nanoseconds since 1970. */
export function readClock(): bigint {
  check(libc('clock_gettime')(CLOCK_REALTIME, bytes), 'read the clock');
  return time[0]! * 1_000_000_000n + time[1]!;
}
