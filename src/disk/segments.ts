/** A virtual disk as a list of runs, and how files become such runs. Pure. */
import { alignUp } from '../bytes/align.ts';
import { VeneerError } from '../errors.ts';

/** What all disk formats count in. */
export const SECTOR = 512;

/** A run of the disk that stands in a file; `at` is a byte offset in it, a multiple of {@link SECTOR}. */
export interface FileSegment {
  readonly kind: 'file';
  readonly sectors: number;
  readonly path: string;
  readonly at: number;
}

/** Whole sectors that stand in no file: partition tables, the last piece of a file that does not fill a sector. */
export interface BytesSegment {
  readonly kind: 'bytes';
  readonly sectors: number;
  readonly bytes: Buffer;
}

export interface ZeroSegment {
  readonly kind: 'zero';
  readonly sectors: number;
}

export type DiskSegment = FileSegment | BytesSegment | ZeroSegment;

/** A named stretch of the disk. */
export interface DiskPart {
  readonly name: string;
  /** Sectors. */
  readonly start: number;
  readonly sectors: number;
}

export interface DiskPlan {
  readonly segments: readonly DiskSegment[];
  /** Sectors of the whole disk. */
  readonly sectors: number;
  /** What stands where, in order. */
  readonly parts: readonly DiskPart[];
}

/** A file on its way onto a disk. */
export interface DiskFile {
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** Byte where it begins in `path`; default 0. */
  readonly at?: number;
}

/** Reads the end of a file that does not fill a sector. */
export type ReadTail = (path: string, at: number, length: number) => Buffer;

/** Puts runs behind each other. */
export class SegmentList {
  readonly segments: DiskSegment[] = [];
  readonly parts: DiskPart[] = [];
  readonly #readTail: ReadTail;
  /** Sectors so far. */
  end = 0;

  constructor(readTail: ReadTail) {
    this.#readTail = readTail;
  }

  /** The file as exactly `sectors` sectors: cut when it is longer, padded with zeros when it is shorter. */
  addFile(name: string, { path, size, at = 0 }: DiskFile, sectors: number): void {
    const start = this.end;
    const whole = Math.min(Math.floor(size / SECTOR), sectors);
    if (whole > 0) this.#add({ kind: 'file', sectors: whole, path, at });
    const rest = size - whole * SECTOR;
    if (rest > 0 && whole < sectors) {
      const bytes = Buffer.alloc(SECTOR);
      this.#readTail(path, at + whole * SECTOR, rest).copy(bytes);
      this.#add({ kind: 'bytes', sectors: 1, bytes });
    }
    this.addZeros(start + sectors - this.end);
    this.parts.push({ name, start, sectors });
  }

  /** `bytes` is whole sectors. */
  addBytes(name: string, bytes: Buffer): void {
    const sectors = bytes.length / SECTOR;
    this.parts.push({ name, start: this.end, sectors });
    this.#add({ kind: 'bytes', sectors, bytes });
  }

  addZeros(sectors: number): void {
    if (sectors > 0) this.#add({ kind: 'zero', sectors });
  }

  /** Zeros up to the next multiple of `bytes`. */
  alignTo(bytes: number): void {
    this.addZeros(alignUp(this.end, bytes / SECTOR) - this.end);
  }

  /** Zeros up to `sector`, which must not be behind us. */
  padTo(sector: number, what: string): void {
    if (sector < this.end) {
      throw new VeneerError(
        'disk/corrupt',
        `Cannot lay out a disk: ${what} begins at sector ${sector}, inside what ends at ${this.end}`,
      );
    }
    this.addZeros(sector - this.end);
  }

  finish(): DiskPlan {
    return { segments: this.segments, sectors: this.end, parts: this.parts };
  }

  #add(segment: DiskSegment): void {
    this.segments.push(segment);
    this.end += segment.sectors;
  }
}
