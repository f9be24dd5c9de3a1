/** The time to note in what is made: now, or SOURCE_DATE_EPOCH (reproducible-builds.org/specs/source-date-epoch). */
import { VeneerError } from '../errors.ts';
import { shortTime } from '../oci/encode-json.ts';

/** RFC 3339, UTC. Throws `cli/usage` when the variable is no number of seconds that a date can have. */
export function sourceDate(env: Readonly<Record<string, string | undefined>>): string {
  const epoch = env.SOURCE_DATE_EPOCH;
  if (epoch === undefined || epoch === '') return shortTime(new Date().toISOString());
  const seconds = /^[+-]?\d{1,16}$/.test(epoch) ? Number(epoch) : Number.NaN;
  const date = new Date(seconds * 1000);
  const year = date.getUTCFullYear();
  // RFC 3339 has years of four digits.
  if (Number.isNaN(year) || year < 0 || year > 9999)
    throw new VeneerError(
      'cli/usage',
      `Cannot use SOURCE_DATE_EPOCH=${epoch.slice(0, 40)}: not a number of seconds since 1970`,
    );
  return shortTime(date.toISOString());
}
