/**
 * A reference tar writer for tests: makes any tar, also broken ones. Shares no
 * code with src/tar. Strings are byte strings (one char = one byte).
 */

export const BLOCK = 512;
/** The two blocks of zeros. */
export const END = Buffer.alloc(2 * BLOCK);
/** What members get when the case does not say. */
export const DEFAULT_MTIME = 1_700_000_000;

export type Dialect = 'ustar' | 'gnu' | 'v7' | 'star';

/** One header block, field by field. Numbers too large for octal become base-256. */
export interface HeaderFields {
  readonly name?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: number;
  readonly mtime?: number;
  /** Typeflag, one char. */
  readonly type?: string;
  readonly linkname?: string;
  readonly dialect?: Dialect;
  readonly devMajor?: number;
  readonly devMinor?: number;
  readonly prefix?: string;
  readonly checksum?: 'unsigned' | 'signed' | 'wrong';
  /** Last word on the block, before the checksum. */
  patch?(block: Buffer): void;
}

/** A numeric field: octal and a NUL where it fits, else base-256. Numbers may be negative or beyond 2^53 (bigint). */
export function putNumber(block: Buffer, at: number, width: number, value: number | bigint): void {
  const octal = value >= 0 ? value.toString(8) : '';
  if (value >= 0 && octal.length < width) {
    block.write(`${octal.padStart(width - 1, '0')}\0`, at, 'latin1');
    return;
  }
  let rest = BigInt(value);
  for (let i = width - 1; i >= 0; i--) {
    block[at + i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  block[at] = value < 0 ? block[at]! | 0x80 : (block[at]! & 0x7f) | 0x80;
}

function putText(block: Buffer, at: number, width: number, text: string): void {
  if (text.length > width) throw new Error(`${text.length} bytes do not fit a field of ${width}`);
  block.write(text, at, 'latin1');
}

/** Writes the checksum field over whatever the block holds. */
export function putChecksum(block: Buffer, kind: 'unsigned' | 'signed' | 'wrong' = 'unsigned'): void {
  block.fill(' ', 148, 156);
  let sum = 0;
  for (const byte of block) sum += kind === 'signed' && byte > 127 ? byte - 256 : byte;
  if (kind === 'wrong') sum++;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
}

export function makeHeader(fields: HeaderFields): Buffer {
  const block = Buffer.alloc(BLOCK);
  const type = fields.type ?? '0';
  putText(block, 0, 100, fields.name ?? '');
  putNumber(block, 100, 8, fields.mode ?? 0o644);
  putNumber(block, 108, 8, fields.uid ?? 0);
  putNumber(block, 116, 8, fields.gid ?? 0);
  putNumber(block, 124, 12, fields.size ?? 0);
  putNumber(block, 136, 12, fields.mtime ?? DEFAULT_MTIME);
  putText(block, 156, 1, type);
  putText(block, 157, 100, fields.linkname ?? '');
  const dialect = fields.dialect ?? 'ustar';
  if (dialect !== 'v7') block.write(dialect === 'gnu' ? 'ustar  \0' : 'ustar\x0000', 257, 'latin1');
  if (type === '3' || type === '4') {
    putNumber(block, 329, 8, fields.devMajor ?? 0);
    putNumber(block, 337, 8, fields.devMinor ?? 0);
  }
  putText(block, 345, 155, fields.prefix ?? '');
  if (dialect === 'star') block.write('tar\0', 508, 'latin1');
  fields.patch?.(block);
  putChecksum(block, fields.checksum);
  return block;
}

/** Data and its padding to a whole block. */
export function padded(data: Buffer | string): Buffer {
  const bytes = typeof data === 'string' ? Buffer.from(data, 'latin1') : data;
  const rest = bytes.length % BLOCK;
  return rest === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(BLOCK - rest)]);
}

/** One "%d %s=%s\n" record. */
export function paxRecord(keyword: string, value: string): string {
  const body = ` ${keyword}=${value}\n`;
  let length = body.length + 1;
  while (String(length).length + body.length !== length) length = String(length).length + body.length;
  return `${length}${body}`;
}

export type PaxRecords = ReadonlyArray<readonly [keyword: string, value: string]>;

/** An extended header with its body; `records` may be the raw body. */
export function paxHeader(
  records: PaxRecords | string,
  type: 'x' | 'g' | 'X' = 'x',
  fields: HeaderFields = {},
): Buffer {
  const body =
    typeof records === 'string' ? records : records.map(([key, value]) => paxRecord(key, value)).join('');
  const name = type === 'g' ? 'GlobalHead.1.1' : 'PaxHeaders/member';
  return Buffer.concat([makeHeader({ name, type, size: body.length, ...fields }), padded(body)]);
}

/** GNU's long name (`L`) or long link target (`K`). */
export function gnuLong(type: 'L' | 'K', text: string, fields: HeaderFields = {}): Buffer {
  const body = `${text}\0`;
  const header = makeHeader({
    name: '././@LongLink',
    mode: 0,
    mtime: 0,
    type,
    size: body.length,
    dialect: 'gnu',
    ...fields,
  });
  return Buffer.concat([header, padded(body)]);
}

/** A member to be written as its dialect allows: long names and such get the extension they need. */
export interface MemberOptions extends Omit<HeaderFields, 'name' | 'size' | 'type' | 'linkname'> {
  readonly mtimeNsec?: number;
  readonly xattrs?: Readonly<Record<string, string>>;
  /** More PAX records, behind those that the options above need. */
  readonly pax?: PaxRecords;
  /** Size field of the header when it is not that of the data. */
  readonly size?: number;
}

function makeMember(
  type: string,
  path: string,
  options: MemberOptions,
  link = '',
  data: Buffer | string = '',
): Buffer {
  const { mtimeNsec, xattrs, pax, ...fields } = options;
  const parts: Buffer[] = [];
  const records: (readonly [string, string])[] = [];
  let name = path;
  let linkname = link;
  if (fields.dialect === 'gnu' || fields.dialect === 'v7') {
    if (name.length > 100) {
      parts.push(gnuLong('L', name));
      name = name.slice(0, 100);
    }
    if (linkname.length > 100) {
      parts.push(gnuLong('K', linkname));
      linkname = linkname.slice(0, 100);
    }
  } else {
    if (name.length > 100) {
      records.push(['path', name]);
      name = name.slice(0, 100);
    }
    if (linkname.length > 100) {
      records.push(['linkpath', linkname]);
      linkname = linkname.slice(0, 100);
    }
  }
  if (mtimeNsec !== undefined) {
    records.push(['mtime', formatTime(fields.mtime ?? DEFAULT_MTIME, mtimeNsec)]);
  }
  for (const [key, value] of Object.entries(xattrs ?? {})) records.push([`SCHILY.xattr.${key}`, value]);
  if (pax !== undefined) records.push(...pax);
  if (records.length > 0) parts.push(paxHeader(records));
  parts.push(makeHeader({ size: data.length, ...fields, name, linkname, type }), padded(data));
  return Buffer.concat(parts);
}

/** A PAX time from floor seconds and forward nanoseconds. */
export function formatTime(seconds: number, nanoseconds: number): string {
  const fraction = (nanos: number): string => (nanos === 0 ? '' : `.${String(nanos).padStart(9, '0')}`);
  if (seconds >= 0) return `${seconds}${fraction(nanoseconds)}`;
  if (nanoseconds === 0) return String(seconds);
  return `-${-seconds - 1}${fraction(1_000_000_000 - nanoseconds)}`;
}

export function file(path: string, data: Buffer | string = '', options: MemberOptions = {}): Buffer {
  return makeMember('0', path, options, '', data);
}

export function dir(path: string, options: MemberOptions = {}): Buffer {
  return makeMember('5', path.endsWith('/') ? path : `${path}/`, { mode: 0o755, ...options });
}

export function symlink(path: string, target: string, options: MemberOptions = {}): Buffer {
  return makeMember('2', path, { mode: 0o777, ...options }, target);
}

/** A hard link; `data` is what POSIX.1-2001 lets it carry. */
export function hardLink(
  path: string,
  target: string,
  options: MemberOptions = {},
  data: Buffer | string = '',
): Buffer {
  return makeMember('1', path, options, target, data);
}

export function device(
  path: string,
  kind: 'char' | 'block',
  major: number,
  minor: number,
  options: MemberOptions = {},
): Buffer {
  return makeMember(kind === 'char' ? '3' : '4', path, {
    mode: 0o600,
    ...options,
    devMajor: major,
    devMinor: minor,
  });
}

export function fifo(path: string, options: MemberOptions = {}): Buffer {
  return makeMember('6', path, options);
}

/** A member of any typeflag. */
export function member(
  type: string,
  path: string,
  data: Buffer | string = '',
  options: MemberOptions = {},
): Buffer {
  return makeMember(type, path, options, '', data);
}

export function whiteout(path: string, options: MemberOptions = {}): Buffer {
  const slash = path.lastIndexOf('/') + 1;
  return file(`${path.slice(0, slash)}.wh.${path.slice(slash)}`, '', options);
}

export function opaque(directory: string, options: MemberOptions = {}): Buffer {
  return file(`${directory}/.wh..wh..opq`, '', options);
}

export interface Run {
  readonly offset: number;
  readonly data: Buffer | string;
}

export type SparseForm = 'old-gnu' | '0.0' | '0.1' | '1.0';

/** A sparse file in one of GNU tar's four forms. Like GNU tar, the map ends with an empty run at the end of the file. */
export function sparseFile(
  path: string,
  realSize: number,
  runs: readonly Run[],
  form: SparseForm,
  options: MemberOptions & { readonly endMark?: boolean } = {},
): Buffer {
  const { endMark = true, ...rest } = options;
  const map: (readonly [number, number])[] = runs.map((run) => [run.offset, run.data.length]);
  if (endMark) map.push([realSize, 0]);
  const data = Buffer.concat(
    runs.map((run) => (typeof run.data === 'string' ? Buffer.from(run.data, 'latin1') : run.data)),
  );
  const stored = rest.size ?? data.length;
  switch (form) {
    case 'old-gnu':
      return oldGnuSparse(path, realSize, map, data, stored, rest);
    case '0.0': {
      const records: [string, string][] = [
        ['GNU.sparse.size', String(realSize)],
        ['GNU.sparse.numblocks', String(map.length)],
      ];
      for (const [offset, length] of map) {
        records.push(['GNU.sparse.offset', String(offset)], ['GNU.sparse.numbytes', String(length)]);
      }
      return makeMember('0', path, { ...rest, pax: [...records, ...(rest.pax ?? [])] }, '', data);
    }
    case '0.1': {
      const records: PaxRecords = [
        ['GNU.sparse.size', String(realSize)],
        ['GNU.sparse.numblocks', String(map.length)],
        ['GNU.sparse.name', path],
        ['GNU.sparse.map', map.flat().join(',')],
      ];
      const outer = { ...rest, pax: [...records, ...(rest.pax ?? [])] };
      return makeMember('0', `GNUSparseFile.1/${path.slice(-60)}`, outer, '', data);
    }
    case '1.0': {
      const records: PaxRecords = [
        ['GNU.sparse.major', '1'],
        ['GNU.sparse.minor', '0'],
        ['GNU.sparse.name', path],
        ['GNU.sparse.realsize', String(realSize)],
      ];
      const text = padded(`${[map.length, ...map.flat()].join('\n')}\n`);
      const outer = { ...rest, pax: [...records, ...(rest.pax ?? [])] };
      return makeMember('0', `GNUSparseFile.1/${path.slice(-60)}`, outer, '', Buffer.concat([text, data]));
    }
  }
}

function oldGnuSparse(
  path: string,
  realSize: number,
  map: readonly (readonly [number, number])[],
  data: Buffer,
  stored: number,
  options: MemberOptions,
): Buffer {
  const header = makeMember('S', path, {
    ...options,
    dialect: 'gnu',
    size: stored,
    patch(block) {
      putRuns(block, 386, map.slice(0, 4));
      block[482] = map.length > 4 ? 1 : 0;
      putNumber(block, 483, 12, realSize);
      options.patch?.(block);
    },
  });
  const blocks: Buffer[] = [header];
  for (let from = 4; from < map.length; from += 21) {
    const block = Buffer.alloc(BLOCK);
    putRuns(block, 0, map.slice(from, from + 21));
    block[504] = map.length > from + 21 ? 1 : 0;
    blocks.push(block);
  }
  return Buffer.concat([...blocks, padded(data)]);
}

function putRuns(block: Buffer, at: number, runs: readonly (readonly [number, number])[]): void {
  for (const [i, [offset, length]] of runs.entries()) {
    putNumber(block, at + i * 24, 12, offset);
    putNumber(block, at + i * 24 + 12, 12, length);
  }
}

/** Members, then the end of the archive. */
export function archive(...members: Buffer[]): Buffer {
  return Buffer.concat([...members, END]);
}
