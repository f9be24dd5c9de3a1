/** Who a container runs as: the user of an image's config, looked up in its own passwd(5) and group(5). */
import { VeneerError } from '../errors.ts';

export interface ContainerUser {
  readonly uid: number;
  readonly gid: number;
  readonly additionalGids: readonly number[];
  /** Empty when nothing says it. */
  readonly home: string;
}

export const ROOT_USER: ContainerUser = { uid: 0, gid: 0, additionalGids: [], home: '' };

/** Ids that runtimes take: those of a signed 32-bit number. */
const MAX_ID = 2 ** 31 - 1;

/**
 * Finds `user` or `user:group`, names or numbers; "" is the user 0. A number need not stand in the files. An explicit
 * group takes the user's additional ones away. `passwd` and `group` are the texts of the files, "" for none. Throws
 * `oci/invalid` for a name that is not there, or a number that is no id.
 */
export function findUser(spec: string, passwd: string, group: string): ContainerUser {
  const [userName = '', groupName = ''] = spec.split(':');
  const uid = userName === '' ? 0 : asNumber(userName);
  const row = rowsOf(passwd).find(
    ([name, , id, gid]) => isId(id) && isId(gid) && (uid === null ? name === userName : Number(id) === uid),
  );
  if (row === undefined && uid === null) throw noUser(spec, `there is no user ${userName}`);
  const user: ContainerUser =
    row === undefined
      ? { ...ROOT_USER, uid: checkId(uid!, spec) }
      : { uid: Number(row[2]), gid: Number(row[3]), additionalGids: [], home: row[5] ?? '' };
  const groups = rowsOf(group).filter(([, , id]) => isId(id));
  if (groupName === '') {
    const mine =
      row === undefined ? [] : groups.filter(([, , , list = '']) => list.split(',').includes(row[0]!));
    return { ...user, additionalGids: mine.map(([, , id]) => Number(id)) };
  }
  const gid = asNumber(groupName);
  const found = groups.find(([name, , id]) => (gid === null ? name === groupName : Number(id) === gid));
  if (found === undefined && gid === null) throw noUser(spec, `there is no group ${groupName}`);
  return { ...user, gid: found === undefined ? checkId(gid!, spec) : Number(found[2]) };
}

function rowsOf(text: string): string[][] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(':'));
}

const asNumber = (text: string): number | null => (/^[+-]?\d+$/.test(text) ? Number(text) : null);

const isId = (text: string | undefined): boolean =>
  text !== undefined && /^\d{1,10}$/.test(text) && Number(text) <= MAX_ID;

function checkId(id: number, spec: string): number {
  if (id >= 0 && id <= MAX_ID) return id;
  throw noUser(spec, `${id} is not between 0 and ${MAX_ID}`);
}

function noUser(spec: string, reason: string): VeneerError {
  return new VeneerError(
    'oci/invalid',
    `Cannot find the user ${JSON.stringify(spec.slice(0, 200))}: ${reason.slice(0, 200)}`,
  );
}
