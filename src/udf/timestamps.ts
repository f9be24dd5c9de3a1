/** ECMA-167 timestamps (1/7.3), always UTC, to the microsecond. */
import { TIMESTAMP, TIMESTAMP_UTC } from './format.ts';

const DAY = 86_400;
/** Year 1 to 9999: what `timestamp` may say. Seconds since the epoch, both inclusive. */
const FIRST_SECOND = -62_135_596_800;
const LAST_SECOND = 253_402_300_799;

/** Nanoseconds in the finest unit. */
const UNIT_NSEC = 1000;

/** Can a timestamp say this time exactly? */
export function fitsTimestamp(seconds: number, nsec: number): boolean {
  return seconds >= FIRST_SECOND && seconds <= LAST_SECOND && nsec % UNIT_NSEC === 0;
}

let lastSeconds = Number.NaN;
const lastBytes = Buffer.alloc(TIMESTAMP.size);

/** Writes a time; what is finer than a microsecond is cut off, what is out of range becomes the nearest end of it. */
export function writeTimestamp(bytes: Buffer, at: number, seconds: number, nsec: number): void {
  const within = Math.min(Math.max(seconds, FIRST_SECOND), LAST_SECOND);
  // neighbours mostly have the same time, and dates are dear
  if (within !== lastSeconds) encodeSeconds(within);
  lastBytes.copy(bytes, at);
  if (nsec === 0) return;
  const micro = Math.floor(nsec / UNIT_NSEC);
  bytes[at + TIMESTAMP.at.Centiseconds] = Math.floor(micro / 10_000);
  bytes[at + TIMESTAMP.at.HundredsofMicroseconds] = Math.floor(micro / 100) % 100;
  bytes[at + TIMESTAMP.at.Microseconds] = micro % 100;
}

function encodeSeconds(seconds: number): void {
  const date = new Date(seconds * 1000);
  lastBytes.writeUInt16LE(TIMESTAMP_UTC, TIMESTAMP.at.TypeAndTimezone);
  lastBytes.writeUInt16LE(date.getUTCFullYear(), TIMESTAMP.at.Year);
  lastBytes[TIMESTAMP.at.Month] = date.getUTCMonth() + 1;
  lastBytes[TIMESTAMP.at.Day] = date.getUTCDate();
  lastBytes[TIMESTAMP.at.Hour] = date.getUTCHours();
  lastBytes[TIMESTAMP.at.Minute] = date.getUTCMinutes();
  lastBytes[TIMESTAMP.at.Second] = date.getUTCSeconds();
  lastSeconds = seconds;
}

/** Seconds since the epoch and nanoseconds of a timestamp, its time zone ignored as being UTC. */
export function readTimestamp(bytes: Buffer, at: number): { seconds: number; nsec: number } {
  const days = daysFromCivil(
    bytes.readUInt16LE(at + TIMESTAMP.at.Year),
    bytes[at + TIMESTAMP.at.Month]!,
    bytes[at + TIMESTAMP.at.Day]!,
  );
  const clock =
    bytes[at + TIMESTAMP.at.Hour]! * 3600 +
    bytes[at + TIMESTAMP.at.Minute]! * 60 +
    bytes[at + TIMESTAMP.at.Second]!;
  const micro =
    bytes[at + TIMESTAMP.at.Centiseconds]! * 10_000 +
    bytes[at + TIMESTAMP.at.HundredsofMicroseconds]! * 100 +
    bytes[at + TIMESTAMP.at.Microseconds]!;
  return { seconds: days * DAY + clock, nsec: (micro % 1_000_000) * UNIT_NSEC };
}

/** Days since 1970-01-01 of a date of the Gregorian calendar. */
function daysFromCivil(year: number, month: number, day: number): number {
  const date = new Date(0);
  // the constructor and Date.UTC take years below 100 for 19xx
  date.setUTCFullYear(year, month - 1, day);
  return Math.floor(date.getTime() / (DAY * 1000));
}
