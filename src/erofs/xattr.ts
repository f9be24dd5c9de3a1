/**
 * Extended attributes of an image: which entries are shared between inodes,
 * what each inode's area looks like, and the name filter (kernel 6.6).
 */
import { alignUp } from '../bytes/align.ts';
import { putByteString } from '../bytes/byte-string.ts';
import { xxh32 } from '../bytes/xxh32.ts';
import { VeneerError } from '../errors.ts';
import { XATTR_ENTRY, XATTR_FILTER_SEED, XATTR_IBODY, XATTR_PREFIXES } from './format.ts';

/** `i_xattr_icount` is 16 bits wide and counts 4-byte units behind the header. */
const MAX_AREA = XATTR_IBODY.size + 4 * 0xfffe;
/** `h_shared_count` is 8 bits wide. */
const MAX_SHARED = 0xff;

/** One distinct (name, value), however many inodes carry it. */
export interface XattrEntry {
  readonly index: number;
  /** The name behind the prefix, a byte string. */
  readonly suffix: string;
  readonly value: string;
  /** Bytes on disk, padding included. */
  readonly size: number;
  /** Bit of the name in the filter. */
  readonly filterBit: number;
  users: number;
  /** Position in the shared area in units of 4 bytes; -1 while it is not shared. */
  sharedId: number;
}

/** Splits a full name into the on-disk prefix index and the rest; null for a namespace that EROFS cannot hold. */
function splitXattrName(name: string): { index: number; suffix: string } | null {
  for (const [index, prefix] of XATTR_PREFIXES) {
    if (prefix.endsWith('.') ? name.startsWith(prefix) && name.length > prefix.length : name === prefix) {
      return { index, suffix: name.slice(prefix.length) };
    }
  }
  return null;
}

/** Puts an on-disk name back together; null when the index is unknown. */
export function joinXattrName(index: number, suffix: string): string | null {
  for (const [known, prefix] of XATTR_PREFIXES) {
    if (known === index) return prefix.endsWith('.') ? prefix + suffix : prefix;
  }
  return null;
}

/** Collects the attributes of all inodes, then lays them out. Deterministic: order of first use. */
export class XattrTable {
  readonly #entries = new Map<string, XattrEntry>();
  #sharedSize = 0;

  /** Entries of one inode, in name order. `path` is for the error only. */
  intern(xattrs: ReadonlyMap<string, string>, path: () => string): XattrEntry[] {
    const list: XattrEntry[] = [];
    for (const [name, value] of xattrs) {
      const key = `${name}\0${value}`;
      let entry = this.#entries.get(key);
      if (entry === undefined) {
        entry = makeEntry(name, value, path);
        this.#entries.set(key, entry);
      }
      entry.users++;
      list.push(entry);
    }
    return list;
  }

  /** Shares what more than one inode uses; call once, after all `intern`s. */
  settle(): void {
    for (const entry of this.#entries.values()) {
      if (entry.users > 1) {
        entry.sharedId = this.#sharedSize / 4;
        this.#sharedSize += entry.size;
      }
    }
  }

  /** True when any inode has attributes. */
  get used(): boolean {
    return this.#entries.size > 0;
  }

  /** Bytes of the shared area. */
  get sharedSize(): number {
    return this.#sharedSize;
  }

  /** Writes the shared area at `base`. */
  writeShared(bytes: Buffer, base: number): void {
    for (const entry of this.#entries.values()) {
      if (entry.sharedId >= 0) writeEntry(bytes, base + entry.sharedId * 4, entry);
    }
  }
}

function makeEntry(name: string, value: string, path: () => string): XattrEntry {
  const split = splitXattrName(name);
  if (split === null || split.suffix.length > 0xff || value.length > 0xffff) {
    const reason =
      split === null
        ? 'no such namespace on disk'
        : `${split.suffix.length} bytes of name, ${value.length} of value`;
    throw new VeneerError('erofs/limit', `Cannot store xattr ${name} of ${path()} in EROFS: ${reason}`);
  }
  return {
    ...split,
    value,
    size: alignUp(XATTR_ENTRY.size + split.suffix.length + value.length, 4),
    filterBit: xxh32(split.suffix, XATTR_FILTER_SEED + split.index) & 31,
    users: 0,
    sharedId: -1,
  };
}

/** Bytes of an inode's area: header, shared ids, inline entries. */
export function xattrAreaBytes(entries: readonly XattrEntry[], path: () => string): number {
  let size = XATTR_IBODY.size;
  let shared = 0;
  for (const entry of entries) {
    if (entry.sharedId >= 0 && shared < MAX_SHARED) {
      shared++;
      size += 4;
    } else {
      size += entry.size;
    }
  }
  if (size > MAX_AREA) {
    throw new VeneerError(
      'erofs/limit',
      `Cannot store the xattrs of ${path()} in EROFS: ${size} bytes, at most ${MAX_AREA}`,
    );
  }
  return size;
}

/** Writes an inode's area at `base`. */
export function writeXattrArea(
  bytes: Buffer,
  view: DataView,
  base: number,
  entries: readonly XattrEntry[],
): void {
  let filter = 0xffffffff;
  let shared = 0;
  let at = base + XATTR_IBODY.size;
  for (const entry of entries) {
    filter &= ~(1 << entry.filterBit);
    if (entry.sharedId >= 0 && shared < MAX_SHARED) {
      view.setUint32(at, entry.sharedId, true);
      at += 4;
      shared++;
    }
  }
  // the entries behind the ids: those that are not shared, or no longer fit the count
  let counted = 0;
  for (const entry of entries) {
    if (entry.sharedId >= 0 && counted < MAX_SHARED) counted++;
    else at = writeEntry(bytes, at, entry);
  }
  view.setUint32(base + XATTR_IBODY.at.name_filter, filter >>> 0, true);
  view.setUint8(base + XATTR_IBODY.at.shared_count, shared);
}

function writeEntry(bytes: Buffer, at: number, entry: XattrEntry): number {
  bytes[at + XATTR_ENTRY.at.name_len] = entry.suffix.length;
  bytes[at + XATTR_ENTRY.at.name_index] = entry.index;
  bytes[at + XATTR_ENTRY.at.value_size] = entry.value.length & 0xff;
  bytes[at + XATTR_ENTRY.at.value_size + 1] = entry.value.length >> 8;
  putByteString(bytes, putByteString(bytes, at + XATTR_ENTRY.size, entry.suffix), entry.value);
  return at + entry.size;
}
