/**
 * PAX extended headers: "%d %s=%s\n" records (POSIX.1-2024 pax, "pax Extended
 * Header"), local (`x`, Sun's `X`) and global (`g`).
 *
 * Of two records with one keyword the last wins; an empty value deletes, also
 * what a global header said, and the header block's own field shows again (as
 * GNU tar and Go's archive/tar read it). An extended attribute with an empty
 * value is one, though: that is how it is written.
 * `hdrcharset` is ignored: bytes stay bytes.
 */
import { displayByteString } from '../bytes/byte-string.ts';
import { VeneerError } from '../errors.ts';
import { latin1 } from './latin1.ts';
import { type TarLimits, XATTR_NAME_MAX, XATTR_SIZE_MAX } from './limits.ts';
import { SparseRecords } from './sparse-records.ts';

const NO_BYTES = Buffer.alloc(0);
const SPACE = 0x20;
const EQUALS = 0x3d;
const NEWLINE = 0x0a;
const ZERO = 0x30;

/** Unknown keywords that one header can have reported. */
const MAX_ODDITIES = 64;

/**
 * Keywords that say nothing about the tree: times the image spec does not
 * keep, names beside the numeric ids, comments, and the inode numbers and
 * such of the file system the archive was made on.
 */
const SILENT = new Set([
  'atime',
  'ctime',
  'uname',
  'gname',
  'comment',
  'charset',
  'hdrcharset',
  'LIBARCHIVE.creationtime',
  'LIBARCHIVE.symlinktype',
  'SCHILY.archtype',
  'SCHILY.dev',
  'SCHILY.devminorbits',
  'SCHILY.filetype',
  'SCHILY.ino',
  'SCHILY.nlink',
  'SCHILY.release',
  'SCHILY.tarfiletype',
]);

/** What extended headers say about the next entry. A class so that all share one shape. */
export class PaxFields {
  path: string | null = null;
  linkPath: string | null = null;
  /** Bytes stored; -1 when not given, and so below. */
  size = -1;
  uid = -1;
  gid = -1;
  hasMtime = false;
  mtime = 0;
  mtimeNsec = 0;
  devMajor = -1;
  devMinor = -1;
  /** `SCHILY.xattr.*`: raw values. Never changed once handed on; {@link addXattr} copies first. */
  xattrs: Map<string, string> | null = null;
  /** `LIBARCHIVE.xattr.*`: the same attributes once more, encoded; used where the other is missing. */
  encodedXattrs: Map<string, string> | null = null;
  sparse: SparseRecords | null = null;
  /** Keywords that the tree cannot hold, for findings; null when none. */
  oddities: string[] | null = null;
  /** Records that change an entry. */
  effective = 0;
  #xattrsShared = false;
  #encodedShared = false;

  /** Starts again from what the global headers say. */
  resetTo(global: PaxFields | null): void {
    this.path = global === null ? null : global.path;
    this.linkPath = global === null ? null : global.linkPath;
    this.size = global === null ? -1 : global.size;
    this.uid = global === null ? -1 : global.uid;
    this.gid = global === null ? -1 : global.gid;
    this.hasMtime = global?.hasMtime ?? false;
    this.mtime = global === null ? 0 : global.mtime;
    this.mtimeNsec = global === null ? 0 : global.mtimeNsec;
    this.devMajor = global === null ? -1 : global.devMajor;
    this.devMinor = global === null ? -1 : global.devMinor;
    this.xattrs = global === null ? null : global.xattrs;
    this.encodedXattrs = global === null ? null : global.encodedXattrs;
    this.#xattrsShared = true;
    this.#encodedShared = true;
    this.sparse = null;
    this.oddities = null;
    this.effective = 0;
  }

  addXattr(name: string, value: string): void {
    if (this.#xattrsShared || this.xattrs === null) this.xattrs = new Map(this.xattrs);
    this.#xattrsShared = false;
    this.xattrs.set(name, value);
  }

  addEncodedXattr(name: string, value: string): void {
    if (this.#encodedShared || this.encodedXattrs === null) this.encodedXattrs = new Map(this.encodedXattrs);
    this.#encodedShared = false;
    this.encodedXattrs.set(name, value);
  }

  /** The entry's attributes, or null. The map may be shared by the entries of one global header: not to be written to. */
  allXattrs(): Map<string, string> | null {
    if (this.encodedXattrs === null) return this.xattrs;
    if (this.xattrs === null) return this.encodedXattrs;
    const all = new Map(this.encodedXattrs);
    for (const [name, value] of this.xattrs) all.set(name, value);
    return all;
  }
}

/** Parses the body of extended headers. Holds no more than the header it is at. */
export class PaxParser {
  readonly #limits: TarLimits;
  #bytes: Buffer = NO_BYTES;
  /** Of the record: its value in `#bytes`, and its place in the archive. */
  #at = 0;
  #end = 0;
  #offset = 0;
  #owner = '';

  constructor(limits: TarLimits) {
    this.#limits = limits;
  }

  /**
   * Parses the records in `bytes[start, end)` into `fields`. `offset` is where
   * `start` stands in the archive, `owner` the extended header's own name;
   * both for errors.
   */
  parse(bytes: Buffer, start: number, end: number, fields: PaxFields, offset: number, owner: string): void {
    this.#bytes = bytes;
    this.#owner = owner;
    let at = start;
    while (at < end) {
      this.#offset = offset + at - start;
      // GNU tar ends the list at a NUL: padding that the size field counts in.
      if (bytes[at] === 0) {
        for (let i = at; i < end; i++) if (bytes[i] !== 0) throw this.#corrupt('data behind the last record');
        break;
      }
      let length = 0;
      let i = at;
      for (; i < end; i++) {
        const digit = bytes[i]! - ZERO;
        if (digit >>> 0 > 9) break;
        length = length * 10 + digit;
        if (length > end - at) throw this.#corrupt('a record is longer than the header');
      }
      if (i === at || bytes[i] !== SPACE) throw this.#corrupt('a record has no length');
      const keyStart = i + 1;
      const next = at + length;
      if (next <= keyStart) throw this.#corrupt('a record is shorter than its own length field');
      if (bytes[next - 1] !== NEWLINE) throw this.#corrupt('a record does not end in a newline');
      let keyEnd = keyStart;
      while (keyEnd < next - 1 && bytes[keyEnd] !== EQUALS) keyEnd++;
      if (keyEnd === next - 1) throw this.#corrupt('a record has no equal sign');
      if (keyEnd === keyStart) throw this.#corrupt('a record has no keyword');
      this.#at = keyEnd + 1;
      this.#end = next - 1;
      this.#apply(latin1(bytes, keyStart, keyEnd), fields);
      at = next;
    }
    this.#bytes = NO_BYTES;
  }

  #apply(key: string, fields: PaxFields): void {
    const empty = this.#at === this.#end;
    switch (key) {
      case 'atime':
      case 'ctime':
        return;
      case 'path':
        fields.path = empty ? null : this.#text(key);
        break;
      case 'linkpath':
        fields.linkPath = empty ? null : this.#text(key);
        break;
      case 'size':
        fields.size = empty ? -1 : this.#count(key);
        break;
      case 'uid':
        fields.uid = empty ? -1 : this.#count(key);
        break;
      case 'gid':
        fields.gid = empty ? -1 : this.#count(key);
        break;
      case 'mtime':
        fields.hasMtime = !empty;
        if (!empty && !parseTime(this.#bytes, this.#at, this.#end, fields)) {
          throw this.#corrupt("'mtime' is not a time");
        }
        break;
      case 'SCHILY.devmajor':
        fields.devMajor = empty ? -1 : this.#count(key);
        break;
      case 'SCHILY.devminor':
        fields.devMinor = empty ? -1 : this.#count(key);
        break;
      default:
        if (!this.#applyPrefixed(key, fields)) {
          if (!empty && !SILENT.has(key)) addOddity(fields, key);
          return;
        }
    }
    fields.effective++;
  }

  /** Keywords that are families; false when `key` is of none. */
  #applyPrefixed(key: string, fields: PaxFields): boolean {
    if (key.startsWith('SCHILY.xattr.')) {
      const name = this.#xattrName(decodeXattrKeyword(key.slice(13)));
      fields.addXattr(name, this.#xattrValue(this.#value()));
      return true;
    }
    if (key.startsWith('LIBARCHIVE.xattr.')) {
      const name = this.#xattrName(decodeUrl(key.slice(17)));
      const value = Buffer.from(this.#value(), 'base64').toString('latin1');
      fields.addEncodedXattr(name, this.#xattrValue(value));
      return true;
    }
    if (!key.startsWith('GNU.sparse.')) return false;
    const sparse = (fields.sparse ??= new SparseRecords());
    switch (sparse.add(key.slice(11), this.#value(), this.#limits.sparseSegments)) {
      case 'limit':
        throw this.#tooMuch(`'${key}' names more runs of data than the limit allows`);
      case 'nul':
        throw this.#corrupt(`'${key}' holds a NUL`);
      case 'malformed':
        throw this.#corrupt(`'${key}' makes no sense`);
      case 'unknown':
        return false;
      case null:
        return true;
    }
  }

  #value(): string {
    return latin1(this.#bytes, this.#at, this.#end);
  }

  #text(keyword: string): string {
    const length = this.#end - this.#at;
    const limit = this.#limits.pathBytes;
    if (length > limit) throw this.#tooMuch(`'${keyword}' is ${length} bytes long, the limit is ${limit}`);
    const text = this.#value();
    if (text.includes('\0')) throw this.#corrupt(`'${keyword}' holds a NUL`);
    return text;
  }

  #count(keyword: string): number {
    const value = parseCount(this.#bytes, this.#at, this.#end);
    if (value < 0) throw this.#corrupt(`'${keyword}' is not a number it can be`);
    return value;
  }

  #xattrName(name: string): string {
    if (name === '' || name.includes('\0')) throw this.#corrupt('the name of an extended attribute is none');
    if (name.length > XATTR_NAME_MAX) {
      throw this.#tooMuch(`the name of an extended attribute is ${name.length} bytes long, the limit is 255`);
    }
    return name;
  }

  #xattrValue(value: string): string {
    if (value.length > XATTR_SIZE_MAX) {
      throw this.#tooMuch(`an extended attribute has ${value.length} bytes, the limit is 65536`);
    }
    return value;
  }

  #corrupt(reason: string): VeneerError {
    return new VeneerError('tar/corrupt', this.#message(reason));
  }

  #tooMuch(reason: string): VeneerError {
    return new VeneerError('tar/limit', this.#message(reason));
  }

  #message(reason: string): string {
    return `Cannot read the PAX header '${displayByteString(this.#owner)}': ${reason}, at offset ${this.#offset}`;
  }
}

function addOddity(fields: PaxFields, key: string): void {
  const oddities = (fields.oddities ??= []);
  if (oddities.length < MAX_ODDITIES) oddities.push(key.slice(0, 100));
}

/** Decimal digits only; -1 when `bytes[at, end)` is anything else or beyond a safe integer. */
function parseCount(bytes: Uint8Array, at: number, end: number): number {
  let value = 0;
  for (let i = at; i < end; i++) {
    const digit = bytes[i]! - ZERO;
    if (digit >>> 0 > 9) return -1;
    value = value * 10 + digit;
    if (value > Number.MAX_SAFE_INTEGER) return -1;
  }
  return value;
}

/**
 * A PAX time: "-?digits[.digits]". Digits beyond nanoseconds are cut so that
 * the time never gets later (as GNU tar does), and the fraction of a negative
 * time counts down, so -1.25 is second -2 plus 0.75.
 */
function parseTime(bytes: Uint8Array, start: number, end: number, fields: PaxFields): boolean {
  const negative = bytes[start] === 0x2d;
  let at = negative ? start + 1 : start;
  const digitsStart = at;
  let seconds = 0;
  for (; at < end; at++) {
    const digit = bytes[at]! - ZERO;
    if (digit >>> 0 > 9) break;
    seconds = seconds * 10 + digit;
    if (seconds > Number.MAX_SAFE_INTEGER - 1) return false;
  }
  if (at === digitsStart) return false;
  let nanos = 0;
  let beyond = false;
  if (at < end) {
    if (bytes[at] !== 0x2e) return false;
    at++;
    let unit = 100_000_000;
    for (; at < end; at++) {
      const digit = bytes[at]! - ZERO;
      if (digit >>> 0 > 9) return false;
      if (unit >= 1) nanos += digit * unit;
      else if (digit !== 0) beyond = true;
      unit = unit === 1 ? 0 : unit / 10;
    }
  }
  if (negative) {
    if (beyond) nanos++;
    seconds = nanos > 0 ? -seconds - 1 : -seconds;
    if (nanos > 0) nanos = 1_000_000_000 - nanos;
  }
  fields.mtime = seconds === 0 ? 0 : seconds;
  fields.mtimeNsec = nanos;
  return true;
}

/** GNU tar writes `=` and `%` of an attribute's name as %3D and %25, because a keyword ends at the first `=`. */
function decodeXattrKeyword(name: string): string {
  return name.includes('%') ? name.replace(/%3D|%25/g, (code) => (code === '%3D' ? '=' : '%')) : name;
}

function decodeUrl(text: string): string {
  return text.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}
