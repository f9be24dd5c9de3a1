/**
 * What stands before a member and belongs to it: PAX headers (`x`, `X`, `g`)
 * and GNU long names (`L`, `K`). Their own sizes are those of their header
 * blocks: a PAX `size` is about the member and never about another extension
 * in between, or two readers would see two archives.
 */
import { displayByteString } from '../bytes/byte-string.ts';
import { VeneerError } from '../errors.ts';
import type { FindingList } from '../findings.ts';
import { BLOCK, parseNumber, textEnd, USTAR } from './header.ts';
import { latin1 } from './latin1.ts';
import type { TarLimits } from './limits.ts';
import { PaxFields, PaxParser } from './pax.ts';

const LOCAL = 0x78; // x
const LOCAL_SUN = 0x58; // X
const GLOBAL = 0x67; // g
const LONG_NAME = 0x4c; // L
const LONG_LINK = 0x4b; // K

/** Global attributes cost memory with every entry that has its own beside them, and not a byte of the archive. */
const MAX_GLOBAL_XATTRS = 16;

/** Whether a typeflag is that of an extension. */
export function isExtension(type: number): boolean {
  return type === LOCAL || type === GLOBAL || type === LONG_NAME || type === LONG_LINK || type === LOCAL_SUN;
}

export class Extensions {
  /** Offset of the first extension header of the next member, or -1. */
  headerOffset = -1;
  longName: string | null = null;
  longLink: string | null = null;
  readonly #limits: TarLimits;
  readonly #log: FindingList;
  readonly #parser: PaxParser;
  readonly #local = new PaxFields();
  #hasLocal = false;
  #global: PaxFields | null = null;
  #type = 0;
  #owner = '';

  constructor(limits: TarLimits, log: FindingList) {
    this.#limits = limits;
    this.#log = log;
    this.#parser = new PaxParser(limits);
  }

  /** PAX fields of the next member, or null when nothing was said. */
  get fields(): PaxFields | null {
    return this.#hasLocal ? this.#local : this.#global;
  }

  /** Takes the header block of an extension; returns the bytes of its body. */
  begin(block: Buffer, at: number, offset: number): number {
    if (this.headerOffset < 0) this.headerOffset = offset;
    this.#type = block[at + USTAR.at.typeflag]!;
    this.#owner = latin1(block, at, textEnd(block, at, 100));
    const size = parseNumber(block, at + USTAR.at.size, 12);
    if (!(size >= 0 && size <= Number.MAX_SAFE_INTEGER)) {
      throw this.#error('tar/corrupt', 'its size field is not a size', offset);
    }
    const isName = this.#type === LONG_NAME || this.#type === LONG_LINK;
    // A long name comes with its NUL, and some writers count the padding.
    const limit = isName ? this.#limits.pathBytes + BLOCK : this.#limits.paxBytes;
    if (size > limit) throw this.#error('tar/limit', `it has ${size} bytes, the limit is ${limit}`, offset);
    return size;
  }

  /** Takes the body, `bytes[start, end)`, which stands at `offset` in the archive. */
  finish(bytes: Buffer, start: number, end: number, offset: number): void {
    switch (this.#type) {
      case LONG_NAME:
        this.longName = this.#longText(bytes, start, end, offset);
        break;
      case LONG_LINK:
        this.longLink = this.#longText(bytes, start, end, offset);
        break;
      case GLOBAL:
        this.#takeGlobal(bytes, start, end, offset);
        break;
      default:
        if (this.#hasLocal) {
          this.#log.add(
            'tar/repeated-extension',
            'a second PAX header for one entry replaces the first',
            offset,
          );
        }
        this.#local.resetTo(this.#global);
        this.#hasLocal = true;
        this.#parser.parse(bytes, start, end, this.#local, offset, this.#owner);
    }
  }

  /** Forgets what belonged to the last member; global records stay. */
  reset(): void {
    if (this.headerOffset < 0) return;
    this.headerOffset = -1;
    this.longName = null;
    this.longLink = null;
    this.#hasLocal = false;
  }

  /** A name of no bytes is none, as for Go's reader. */
  #longText(bytes: Buffer, start: number, end: number, offset: number): string | null {
    const stop = textEnd(bytes, start, end - start);
    const limit = this.#limits.pathBytes;
    if (stop - start > limit) {
      throw this.#error('tar/limit', `it has ${stop - start} bytes, the limit is ${limit}`, offset);
    }
    return stop === start ? null : latin1(bytes, start, stop);
  }

  #takeGlobal(bytes: Buffer, start: number, end: number, offset: number): void {
    if (this.#hasLocal) {
      // POSIX has no such order, and readers differ on whose values win.
      throw this.#error(
        'tar/corrupt',
        'it stands between a PAX header and the entry that one is for',
        offset,
      );
    }
    const fields = new PaxFields();
    fields.resetTo(this.#global);
    this.#parser.parse(bytes, start, end, fields, offset, this.#owner);
    if (fields.sparse !== null) {
      throw this.#error('tar/corrupt', 'a sparse map cannot hold for all entries', offset);
    }
    if ((fields.allXattrs()?.size ?? 0) > MAX_GLOBAL_XATTRS) {
      throw this.#error(
        'tar/limit',
        `it leads to more than ${MAX_GLOBAL_XATTRS} global extended attributes`,
        offset,
      );
    }
    if (fields.effective > 0) {
      this.#log.add(
        'tar/global-header',
        'a global PAX header changes all entries from here on, as POSIX has it; container runtimes ignore it',
        offset,
      );
    }
    for (const keyword of fields.oddities ?? []) {
      this.#log.add(
        'tar/pax-keyword',
        `the global PAX keyword '${displayByteString(keyword)}' is not kept`,
        offset,
      );
    }
    fields.oddities = null;
    this.#global = fields;
  }

  #error(code: 'tar/corrupt' | 'tar/limit', reason: string, offset: number): VeneerError {
    const name = displayByteString(this.#owner);
    return new VeneerError(
      code,
      `Cannot read the extension header '${name}': ${reason}, at offset ${offset}`,
    );
  }
}
