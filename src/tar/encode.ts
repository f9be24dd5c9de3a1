/**
 * Writes tar members: one ustar header block (POSIX.1-2024 pax, "ustar Interchange Format"), and a PAX extended header
 * before it for what the block cannot say, and only then. Same member, same bytes.
 *
 * Bytes beyond ASCII stay bytes where the block has room for them, as GNU tar writes them: a PAX record would have to
 * be UTF-8.
 */
import { displayByteString, putByteString } from '../bytes/byte-string.ts';
import { VeneerError } from '../errors.ts';
import type { EntryType, TarEntry } from './entry.ts';
import { BLOCK, sumBlock, USTAR } from './header.ts';

/** What one member says. A path may be of any length and hold any byte but NUL; a directory's needs no slash at its end. */
export type TarMember = Pick<
  TarEntry,
  | 'path'
  | 'type'
  | 'mode'
  | 'uid'
  | 'gid'
  | 'size'
  | 'mtime'
  | 'mtimeNsec'
  | 'linkPath'
  | 'devMajor'
  | 'devMinor'
> & { readonly xattrs: ReadonlyMap<string, string> | null };

/** Two blocks of zeros end an archive. */
export const END_OF_ARCHIVE_SIZE = 2 * BLOCK;

const TYPEFLAGS: Record<EntryType, string> = {
  file: '0',
  link: '1',
  symlink: '2',
  char: '3',
  block: '4',
  dir: '5',
  fifo: '6',
};
const PAX_TYPEFLAG = 'x';
const NAME_SIZE = 100;
const PREFIX_SIZE = 155;

/** Zeros that a payload of `size` bytes is filled up with to whole blocks. */
export function paddingOf(size: number): number {
  return (BLOCK - (size % BLOCK)) % BLOCK;
}

/** All header blocks of `member`, its payload comes right behind them. Throws `tar/limit` for what no tar can say. */
export function encodeHeader(member: TarMember): Buffer {
  const path = member.type === 'dir' && !member.path.endsWith('/') ? `${member.path}/` : member.path;
  checkText(path, path, 'name');
  checkText(path, member.linkPath, 'target');
  const records: string[] = [];
  const place = splitName(path);
  if (place === null) records.push(paxRecord('path', path));
  if (member.linkPath.length > NAME_SIZE) records.push(paxRecord('linkpath', member.linkPath));
  const size = member.type === 'file' ? member.size : 0;
  addNumber(records, path, 'size', size, 11);
  addNumber(records, path, 'uid', member.uid, 7);
  addNumber(records, path, 'gid', member.gid, 7);
  if (member.mtimeNsec !== 0 || !fitsOctal(member.mtime, 11)) {
    records.push(paxRecord('mtime', formatTime(member.mtime, member.mtimeNsec)));
  }
  if (member.xattrs !== null) {
    for (const name of [...member.xattrs.keys()].sort()) {
      records.push(paxRecord(`SCHILY.xattr.${encodeXattrName(name)}`, member.xattrs.get(name)!));
    }
  }
  const body = records.join('');
  const extended = body === '' ? 0 : BLOCK + body.length + paddingOf(body.length);
  const bytes = Buffer.alloc(extended + BLOCK);
  if (extended > 0) {
    const owner = { name: paxName(path), prefix: '' };
    const header = { ...PAX_HEADER, size: body.length };
    putBlock(bytes, 0, owner, PAX_TYPEFLAG, header);
    putByteString(bytes, BLOCK, body);
  }
  const own = place ?? { name: path.slice(0, NAME_SIZE), prefix: '' };
  putBlock(bytes, extended, own, TYPEFLAGS[member.type], { ...member, size });
  return bytes;
}

/** The fields of an extended header itself; its owner and time would only make equal layers differ. */
const PAX_HEADER = { mode: 0o644, uid: 0, gid: 0, mtime: 0, linkPath: '', devMajor: 0, devMinor: 0 };

interface BlockFields {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtime: number;
  readonly linkPath: string;
  readonly devMajor: number;
  readonly devMinor: number;
}

function putBlock(
  bytes: Buffer,
  at: number,
  place: { readonly name: string; readonly prefix: string },
  typeflag: string,
  fields: BlockFields,
): void {
  const field = (name: keyof typeof USTAR.at): number => at + USTAR.at[name];
  putByteString(bytes, field('name'), place.name);
  putOctal(bytes, field('mode'), 8, fields.mode & 0o7777);
  putOctal(bytes, field('uid'), 8, fields.uid);
  putOctal(bytes, field('gid'), 8, fields.gid);
  putOctal(bytes, field('size'), 12, fields.size);
  putOctal(bytes, field('mtime'), 12, fields.mtime);
  putByteString(bytes, field('typeflag'), typeflag);
  putByteString(bytes, field('linkname'), fields.linkPath.slice(0, NAME_SIZE));
  putByteString(bytes, field('magic'), 'ustar\0');
  putByteString(bytes, field('version'), '00');
  putOctal(bytes, field('devmajor'), 8, fields.devMajor);
  putOctal(bytes, field('devminor'), 8, fields.devMinor);
  putByteString(bytes, field('prefix'), place.prefix);
  // The checksum is taken with its own field as spaces, and ends in NUL and space.
  bytes.fill(0x20, field('chksum'), field('chksum') + 8);
  putOctal(bytes, field('chksum'), 7, sumBlock(bytes, at, null, 0));
}

/** `width - 1` octal digits and a NUL; zero for what does not fit, a PAX record says it then. */
function putOctal(bytes: Buffer, at: number, width: number, value: number): void {
  const shown = fitsOctal(value, width - 1) ? value : 0;
  putByteString(bytes, at, shown.toString(8).padStart(width - 1, '0'));
  bytes[at + width - 1] = 0;
}

function fitsOctal(value: number, digits: number): boolean {
  return value >= 0 && value < 8 ** digits;
}

function addNumber(records: string[], path: string, keyword: string, value: number, digits: number): void {
  if (!Number.isSafeInteger(value) || value < 0) throw unsayable(path, `its ${keyword} is ${value}`);
  if (!fitsOctal(value, digits)) records.push(paxRecord(keyword, String(value)));
}

/** Name and prefix whose join is `path`, cut at a slash; null when there is no such cut. */
function splitName(path: string): { name: string; prefix: string } | null {
  if (path.length <= NAME_SIZE) return { name: path, prefix: '' };
  if (path.length > NAME_SIZE + PREFIX_SIZE + 1) return null;
  // The first slash that leaves few enough behind it; a directory's own last one leaves nothing.
  const cut = path.indexOf('/', path.length - NAME_SIZE - 1);
  if (cut <= 0 || cut > PREFIX_SIZE || cut === path.length - 1) return null;
  return { name: path.slice(cut + 1), prefix: path.slice(0, cut) };
}

/** Under which name an old reader would unpack the extended header. */
function paxName(path: string): string {
  const parts = path.split('/').filter((part) => part !== '');
  return `PaxHeaders/${parts.at(-1) ?? '.'}`.slice(0, NAME_SIZE);
}

/** "%d %s=%s\n", the number being the length of the whole record, its own digits included. */
function paxRecord(keyword: string, value: string): string {
  const rest = keyword.length + value.length + 3;
  let length = rest + String(rest).length;
  if (String(length).length > String(rest).length) length++;
  return `${length} ${keyword}=${value}\n`;
}

/** Seconds with as many decimals as it takes; `nsec` counts forward, so -1.25 is second -2 plus 0.75. */
function formatTime(seconds: number, nsec: number): string {
  if (nsec === 0) return String(seconds);
  const [whole, part, sign] = seconds < 0 ? [-(seconds + 1), 1_000_000_000 - nsec, '-'] : [seconds, nsec, ''];
  return `${sign}${whole}.${String(part).padStart(9, '0').replace(/0+$/, '')}`;
}

/** As GNU tar spells them: a keyword would end at the first `=`. */
function encodeXattrName(name: string): string {
  return name.replace(/[%=]/g, (char) => (char === '%' ? '%25' : '%3D'));
}

function checkText(path: string, text: string, what: string): void {
  if (text.includes('\0')) throw unsayable(path, `its ${what} holds a NUL byte`);
}

function unsayable(path: string, reason: string): VeneerError {
  return new VeneerError('tar/limit', `Cannot write '${displayByteString(path)}' to a tar: ${reason}`);
}
