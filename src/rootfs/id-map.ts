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

/** The id in the container of an id on the host; null when no map has it. Without maps ids are the same on both sides. */
export function toContainer(id: number, maps: readonly IdMap[]): number | null {
  return translate(id, maps, 'host', 'container');
}

/** The id on the host of an id in the container; null when no map has it. */
export function toHost(id: number, maps: readonly IdMap[]): number | null {
  return translate(id, maps, 'container', 'host');
}

function translate(
  id: number,
  maps: readonly IdMap[],
  from: 'container' | 'host',
  to: 'container' | 'host',
): number | null {
  if (maps.length === 0) return id;
  const map = maps.find((one) => id >= one[from] && id - one[from] < one.size);
  return map === undefined ? null : map[to] + id - map[from];
}
