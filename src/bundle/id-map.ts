/** Mappings of user and group ids between a container and the host (user_namespaces(7)). */
import { VeneerError } from '../errors.ts';

export interface IdMap {
  readonly container: number;
  readonly host: number;
  /** How many ids, from those on. */
  readonly size: number;
}

const MAX_ID = 2 ** 32 - 1;

/** `CONTAINER:HOST[:SIZE]`; without a size one id. `flag` names it in messages. Throws `cli/usage`. */
export function parseIdMap(text: string, flag: string): IdMap {
  const parts = text.split(':');
  const [container, host, size = 1] = parts.map((part) =>
    /^\d{1,10}$/.test(part) ? Number(part) : Number.NaN,
  );
  const fits = [container, host, size].every((id) => id !== undefined && id <= MAX_ID);
  if (fits && (parts.length === 2 || parts.length === 3)) return { container: container!, host: host!, size };
  throw new VeneerError(
    'cli/usage',
    `Cannot use --${flag} ${JSON.stringify(text)}: not CONTAINER:HOST[:SIZE]`,
  );
}
