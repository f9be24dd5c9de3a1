/**
 * The tar scan: bytes in, in any cut, one {@link TarEntry} a member out.
 *
 * Where readers disagree, we are with GNU tar, or refuse:
 * - A hard link (or directory, symlink, device, FIFO) that states a size:
 *   POSIX.1-1988 and ustar say it has no data, POSIX.1-2001 lets a link have
 *   some, GNU tar and Go's reader never expect any, libarchive guesses. We look
 *   at the next block: a header or zeros means no data (then all readers that
 *   do not trip see the same members), anything else is its data. Either way
 *   the next member is found, and a finding says what was done.
 * - One block of zeros alone ends the archive, as for GNU tar and libarchive;
 *   the finding `tar/lone-zero-block` says so. What follows the end is ignored.
 * - A GNU long name and a PAX path that differ are an error.
 * - The runs of a sparse file stand gapless, as for Go's reader and libarchive.
 * - A file with a slash behind its name is a directory, as in v7.
 */
import type { Finding } from '../errors.ts';
import { VeneerError } from '../errors.ts';
import { FindingList } from '../findings.ts';
import type { TarEntry } from './entry.ts';
import { Extensions, isExtension } from './extensions.ts';
import { BLOCK, checksumMatches, OLD_GNU, parseNumber, sumBlock, USTAR } from './header.ts';
import { DEFAULT_LIMITS, type TarLimits } from './limits.ts';
import { MemberDecoder } from './member.ts';
import {
  countData,
  isAmbiguous,
  makeSegments,
  readExtensionDescriptors,
  readHeaderDescriptors,
  SparseTextMap,
} from './sparse.ts';

export interface TarScanOptions {
  /** Called once per member, in archive order. The entry is the callee's to keep; `xattrs` is not to be written to. */
  onEntry(entry: TarEntry): void;
  /** Data bytes of the last entry, `buffer[start, end)`, in order; of sparse files the data runs only. */
  onPayload?(buffer: Buffer, start: number, end: number): void;
  limits?: Partial<TarLimits>;
}

/** What the next byte is. From HEADER on it begins, or continues, a block that is looked at whole. */
const SKIPPED = 0;
const PAYLOAD = 1;
const EXTENSION = 2;
const ENDED = 3;
const HEADER = 4;
const AFTER_ZEROS = 5;
const OLD_SPARSE = 6;
const TEXT_SPARSE = 7;

export class TarScanner {
  readonly #options: TarScanOptions;
  readonly #limits: TarLimits;
  readonly #log: FindingList;
  readonly #extensions: Extensions;
  readonly #decoder: MemberDecoder;
  #state = HEADER;
  /** Offset of the next byte to be looked at; what `#carry` and `#body` hold is not yet counted. */
  #offset = 0;
  #entries = 0;
  /** Bytes to go in SKIPPED, PAYLOAD and EXTENSION; what to skip after the latter two. */
  #left = 0;
  #tail = 0;
  /** The part of a block that the last chunk ended with. */
  readonly #carry: Buffer;
  readonly #carryWords: Int32Array;
  #carried = 0;
  /** The part of an extension's body that the last chunk ended with. */
  #body = Buffer.alloc(0);
  #bodyFilled = 0;
  /** An entry whose payload the next block decides on, or whose sparse map goes on. */
  #pending: TarEntry | null = null;
  #pairs: number[] = [];
  #textMap: SparseTextMap | null = null;
  #stored = 0;
  #segments = 0;

  constructor(options: TarScanOptions) {
    this.#options = options;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#log = new FindingList('tar', this.#limits.findings);
    this.#extensions = new Extensions(this.#limits, this.#log);
    this.#decoder = new MemberDecoder(this.#limits, this.#log, this.#extensions);
    const memory = new ArrayBuffer(BLOCK);
    this.#carry = Buffer.from(memory);
    this.#carryWords = new Int32Array(memory);
  }

  /** Bytes taken so far. */
  get offset(): number {
    return this.#offset + this.#carried + (this.#state === EXTENSION ? this.#bodyFilled : 0);
  }

  get findings(): Finding[] {
    return this.#log.list();
  }

  /** Entries handed on so far. */
  get entries(): number {
    return this.#entries;
  }

  /** Whether the end of the archive was seen: what follows is ignored. */
  get ended(): boolean {
    return this.#state === ENDED;
  }

  /** Bytes that nobody wants to see: `skip` up to so many instead of writing them. */
  get skippable(): number {
    if (this.#state === SKIPPED) return this.#left;
    return this.#state === ENDED ? Number.MAX_SAFE_INTEGER - this.#offset : 0;
  }

  /** Passes over `n` bytes, at most {@link skippable}, as if they had been written. */
  skip(n: number): void {
    if (!(n >= 0 && n <= this.skippable)) {
      throw new RangeError(`Cannot skip ${n} bytes: ${this.skippable} may be skipped`);
    }
    this.#offset += n;
    if (this.#state === SKIPPED) this.#skipOn(this.#left - n);
  }

  /** Takes the next bytes, in any cut. The chunk is not kept. */
  write(chunk: Buffer): void {
    this.#feed(chunk, 0, chunk.length);
  }

  /** Says that there are no more bytes. Throws `tar/truncated` when something is missing. */
  end(): void {
    switch (this.#state) {
      case ENDED:
        break;
      case HEADER:
      case AFTER_ZEROS:
        if (this.#carried > 0) throw this.#truncated('in a header block');
        if (this.#pending !== null) this.#settle(this.#pending, false);
        if (this.#extensions.headerOffset >= 0) throw this.#truncated('behind an extension header');
        if (this.#state === AFTER_ZEROS) {
          this.#log.add('tar/lone-zero-block', 'one block of zeros ends the archive, not two', this.#offset);
        } else {
          this.#log.add('tar/no-end', 'the archive ends without its two blocks of zeros', this.#offset);
        }
        break;
      default:
        throw this.#truncated(
          this.#state === EXTENSION ? 'in an extension header' : 'in the data of an entry',
        );
    }
    this.#state = ENDED;
  }

  #feed(chunk: Buffer, start: number, end: number): void {
    let at = start;
    let words: Int32Array | null = null;
    // Position of the first aligned word of the chunk, relative to `chunk`.
    const aligned = (4 - (chunk.byteOffset % 4)) % 4;
    while (at < end) {
      const rest = end - at;
      switch (this.#state) {
        case SKIPPED: {
          const n = Math.min(this.#left, rest);
          at += n;
          this.#offset += n;
          this.#skipOn(this.#left - n);
          break;
        }
        case PAYLOAD: {
          const n = Math.min(this.#left, rest);
          this.#options.onPayload!(chunk, at, at + n);
          at += n;
          this.#offset += n;
          this.#left -= n;
          if (this.#left === 0) this.#skipOn(this.#tail);
          break;
        }
        case EXTENSION:
          at += this.#takeBody(chunk, at, rest);
          break;
        case ENDED:
          this.#offset += rest;
          return;
        default:
          if (this.#carried === 0 && rest >= BLOCK) {
            let taken: boolean;
            if ((at - aligned) % 4 === 0) {
              words ??= new Int32Array(
                chunk.buffer,
                chunk.byteOffset + aligned,
                (chunk.length - aligned) >>> 2,
              );
              taken = this.#takeBlock(chunk, at, words, (at - aligned) / 4);
            } else {
              taken = this.#takeBlock(chunk, at, null, 0);
            }
            if (taken) {
              at += BLOCK;
              this.#offset += BLOCK;
            }
          } else {
            const n = Math.min(BLOCK - this.#carried, rest);
            chunk.copy(this.#carry, this.#carried, at, at + n);
            this.#carried += n;
            at += n;
            if (this.#carried === BLOCK) {
              this.#carried = 0;
              if (this.#takeBlock(this.#carry, 0, this.#carryWords, 0)) this.#offset += BLOCK;
              // The block is data now, and data takes it whole: this goes one level deep.
              else this.#feed(this.#carry, 0, BLOCK);
            }
          }
      }
    }
  }

  /** Takes one whole block; false when it turned out to be payload and must be fed again. */
  #takeBlock(block: Buffer, at: number, words: Int32Array | null, word: number): boolean {
    switch (this.#state) {
      case OLD_SPARSE:
        this.#continueOldSparse(readExtensionDescriptors(block, at, this.#pairs), this.#offset);
        return true;
      case TEXT_SPARSE:
        this.#continueTextSparse(block, at);
        return true;
    }
    const sum = sumBlock(block, at, words, word);
    if (this.#state === AFTER_ZEROS) {
      if (sum !== 0) {
        this.#log.add(
          'tar/lone-zero-block',
          'one block of zeros ends the archive; what follows it is ignored, as by GNU tar',
          this.#offset,
        );
      }
      this.#state = ENDED;
      return true;
    }
    const isHeader = sum !== 0 && checksumMatches(block, at, sum);
    if (this.#pending !== null) {
      const hasData = sum !== 0 && !isHeader;
      this.#settle(this.#pending, hasData);
      if (hasData) return false;
    }
    if (sum === 0) {
      if (this.#extensions.headerOffset >= 0) {
        this.#log.add('tar/dangling-extension', 'an extension header has no entry behind it', this.#offset);
        this.#extensions.reset();
      }
      this.#state = AFTER_ZEROS;
      return true;
    }
    if (!isHeader) {
      const details = this.#offset === 0 ? { hint: 'Is this an uncompressed tar archive?' } : {};
      throw new VeneerError(
        'tar/corrupt',
        `Cannot read the tar header: its checksum is wrong, at offset ${this.#offset}`,
        details,
      );
    }
    if (isExtension(block[at + USTAR.at.typeflag]!)) {
      const size = this.#extensions.begin(block, at, this.#offset);
      this.#left = size;
      this.#tail = paddingOf(size);
      this.#bodyFilled = 0;
      if (size > 0) this.#state = EXTENSION;
      else this.#extensions.finish(block, at, at, this.#offset + BLOCK);
    } else {
      this.#takeMember(block, at);
    }
    return true;
  }

  #takeMember(block: Buffer, at: number): void {
    const decoder = this.#decoder;
    const sequel = decoder.decode(block, at, this.#offset);
    const fields = this.#extensions.fields;
    const sparse = fields === null ? null : fields.sparse;
    this.#extensions.reset();
    const entry = decoder.entry;
    switch (sequel) {
      case 'data':
        this.#emit(entry!);
        this.#beginPayload(decoder.stored, decoder.stored);
        break;
      case 'skip':
        this.#beginPayload(0, decoder.stored);
        break;
      case 'doubtful':
        this.#pending = entry;
        break;
      case 'old-sparse': {
        const size = parseNumber(block, at + OLD_GNU.at.realsize, 12);
        if (!(size >= 0 && size <= Number.MAX_SAFE_INTEGER)) {
          throw decoder.error('tar/corrupt', 'its real size is not a size');
        }
        entry!.size = size;
        this.#beginSparse(entry!, decoder.stored, []);
        this.#state = OLD_SPARSE;
        this.#continueOldSparse(readHeaderDescriptors(block, at, this.#pairs), this.#offset);
        break;
      }
      case 'text-sparse':
        entry!.size = sparse!.realSize;
        this.#beginSparse(entry!, decoder.stored, sparse!.pairs ?? []);
        if (sparse!.mapInPayload) {
          this.#textMap = new SparseTextMap(this.#limits.sparseSegments - this.#segments);
          this.#state = TEXT_SPARSE;
        } else {
          this.#finishSparse(this.#offset + BLOCK);
        }
        break;
    }
  }

  #emit(entry: TarEntry): void {
    if (++this.#entries > this.#limits.entries) {
      throw this.#decoder.error('tar/limit', `the archive has more than ${this.#limits.entries} entries`);
    }
    this.#options.onEntry(entry);
  }

  /** `wanted` bytes of data out of `stored`, then padding. */
  #beginPayload(wanted: number, stored: number): void {
    const whole = stored + paddingOf(stored);
    if (wanted > 0 && this.#options.onPayload !== undefined) {
      this.#left = wanted;
      this.#tail = whole - wanted;
      this.#state = PAYLOAD;
    } else {
      this.#skipOn(whole);
    }
  }

  #skipOn(left: number): void {
    this.#left = left;
    this.#state = left > 0 ? SKIPPED : HEADER;
  }

  /** Ends the doubt about an entry that states a size and cannot, or need not, have data. */
  #settle(entry: TarEntry, hasData: boolean): void {
    this.#pending = null;
    const stated = entry.payloadSize;
    // Of the others POSIX says that a size means nothing: directories often have one.
    if (hasData || entry.type === 'link') {
      const what = hasData ? 'is followed by them' : 'is followed by none';
      this.#log.add(
        'tar/unexpected-size',
        `an entry of type ${entry.type} states ${stated} bytes of data and ${what}`,
        entry.headerOffset,
        entry.path,
      );
    }
    if (!hasData) entry.payloadSize = 0;
    if (entry.type === 'link') entry.size = entry.payloadSize;
    this.#emit(entry);
    if (hasData) this.#beginPayload(stated, stated);
  }

  #takeBody(chunk: Buffer, at: number, rest: number): number {
    const missing = this.#left - this.#bodyFilled;
    if (this.#bodyFilled === 0 && rest >= missing) {
      this.#finishBody(chunk, at, missing);
      return missing;
    }
    if (this.#body.length < this.#left) this.#body = Buffer.allocUnsafeSlow(this.#left);
    const n = Math.min(missing, rest);
    chunk.copy(this.#body, this.#bodyFilled, at, at + n);
    this.#bodyFilled += n;
    if (n === missing) this.#finishBody(this.#body, 0, this.#left);
    return n;
  }

  #finishBody(bytes: Buffer, at: number, size: number): void {
    this.#extensions.finish(bytes, at, at + size, this.#offset);
    this.#offset += size;
    this.#skipOn(this.#tail);
  }

  #beginSparse(entry: TarEntry, stored: number, pairs: number[]): void {
    this.#pending = entry;
    this.#stored = stored;
    this.#pairs = pairs;
  }

  #continueOldSparse(result: ReturnType<typeof readHeaderDescriptors>, offset: number): void {
    if (typeof result === 'object') throw this.#decoder.error('tar/corrupt', result.reason);
    this.#checkSegmentLimit(this.#pairs.length / 2);
    if (result === 'complete') this.#finishSparse(offset + BLOCK);
  }

  #continueTextSparse(block: Buffer, at: number): void {
    if (this.#stored < BLOCK)
      throw this.#decoder.error('tar/corrupt', 'its sparse map is longer than its data');
    this.#stored -= BLOCK;
    const map = this.#textMap!;
    const result = map.add(block, at);
    if (result === 'malformed') throw this.#decoder.error('tar/corrupt', 'its sparse map makes no sense');
    if (result === 'limit') this.#checkSegmentLimit(Number.POSITIVE_INFINITY);
    if (result !== 'complete') return;
    this.#textMap = null;
    this.#pairs = map.pairs;
    this.#finishSparse(this.#offset + BLOCK);
  }

  #checkSegmentLimit(more: number): void {
    if (this.#segments + more > this.#limits.sparseSegments) {
      const limit = this.#limits.sparseSegments;
      throw this.#decoder.error(
        'tar/limit',
        `the archive's sparse files have more than ${limit} runs of data`,
      );
    }
  }

  /** The map is complete; the data stands at `source`. */
  #finishSparse(source: number): void {
    const entry = this.#pending!;
    this.#pending = null;
    const segments = makeSegments(this.#pairs, entry.size, this.#stored, source);
    if (isAmbiguous(this.#pairs)) {
      this.#log.add(
        'tar/sparse-unaligned',
        'a run of its sparse map ends inside a block; the next is read from right behind it, not from the next block as by GNU tar',
        entry.headerOffset,
        entry.path,
      );
    }
    this.#pairs = [];
    if (typeof segments === 'string') throw this.#decoder.error('tar/corrupt', segments);
    this.#checkSegmentLimit(segments.length);
    this.#segments += segments.length;
    const used = countData(segments);
    if (used < this.#stored) {
      this.#log.add(
        'tar/sparse-rest',
        `${this.#stored - used} bytes of data are in no run of the sparse map`,
        entry.headerOffset,
        entry.path,
      );
    }
    entry.sparse = segments;
    entry.payloadOffset = source;
    entry.payloadSize = this.#stored;
    this.#emit(entry);
    this.#beginPayload(used, this.#stored);
  }

  #truncated(where: string): VeneerError {
    return this.#decoder.error('tar/truncated', `the archive ends ${where}`, this.offset);
  }
}

/** Bytes from the end of a payload to the end of its last block. */
function paddingOf(size: number): number {
  const rest = size % BLOCK;
  return rest === 0 ? 0 : BLOCK - rest;
}
