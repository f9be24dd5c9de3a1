/** Reads a disk whose bytes are spread over files. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import type { ByteSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import { type DiskPlan, SECTOR } from './segments.ts';
import type { SparseExtent } from './sparse.ts';

/** A run of a disk: in a file, or zeros. `at` in bytes. */
export interface DiskRun {
  readonly sectors: number;
  readonly path: string | null;
  readonly at: number;
  /** What stands in no file. */
  readonly bytes?: Buffer;
  /** The file is a sparse extent, and `at` counts in what it shows. */
  readonly sparse?: boolean;
}

/** A disk as it will be. */
export function planRuns({ segments }: DiskPlan): DiskRun[] {
  return segments.map((segment) => {
    const { sectors } = segment;
    if (segment.kind === 'file') return { sectors, path: segment.path, at: segment.at };
    return { sectors, path: null, at: 0, ...(segment.kind === 'bytes' ? { bytes: segment.bytes } : {}) };
  });
}

/** Files are opened when they are first read. What stands behind a file's end is an error that names it. */
export class DiskSource implements ByteSource {
  readonly size: number;
  readonly #runs: readonly DiskRun[];
  /** Byte where each run begins. */
  readonly #starts: number[] = [];
  readonly #open = new Map<string, number>();
  readonly #sparse: ReadonlyMap<string, SparseExtent>;

  /** `sparse`: the open files of runs that are sparse extents; they are closed with the rest. */
  constructor(runs: readonly DiskRun[], sparse: ReadonlyMap<string, SparseExtent> = new Map()) {
    this.#runs = runs;
    this.#sparse = sparse;
    let at = 0;
    for (const { sectors } of runs) {
      this.#starts.push(at);
      at += sectors * SECTOR;
    }
    this.size = at;
  }

  read(offset: number, length: number): Buffer {
    const into = Buffer.alloc(length);
    this.readInto(into, offset);
    return into;
  }

  /** Fills `into` from `offset` on. Throws `disk/corrupt` outside of the disk and of its files. */
  readInto(into: Buffer, offset: number): void {
    if (offset < 0 || offset + into.length > this.size) {
      throw new VeneerError(
        'disk/corrupt',
        `Cannot read ${into.length} bytes at ${offset} of a disk of ${this.size}`,
      );
    }
    let index = this.#find(offset);
    for (let done = 0; done < into.length; index++) {
      const run = this.#runs[index]!;
      const inRun = offset + done - this.#starts[index]!;
      const count = Math.min(into.length - done, run.sectors * SECTOR - inRun);
      const piece = into.subarray(done, done + count);
      if (run.bytes !== undefined) run.bytes.copy(piece, 0, inRun);
      else if (run.path === null) piece.fill(0);
      else if (run.sparse === true) this.#sparse.get(run.path)!.readInto(piece, run.at + inRun);
      else this.#readFile(run.path, piece, run.at + inRun);
      done += count;
    }
  }

  /** The file that holds a byte of the disk, and where; null for zeros and sparse extents. */
  locate(offset: number): { path: string; at: number } | null {
    const index = this.#find(offset);
    const { path, at, sparse } = this.#runs[index]!;
    return path === null || sparse === true ? null : { path, at: at + offset - this.#starts[index]! };
  }

  close(): void {
    for (const fd of this.#open.values()) closeSync(fd);
    this.#open.clear();
    for (const extent of this.#sparse.values()) extent.close();
  }

  #find(offset: number): number {
    let low = 0;
    let high = this.#starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#starts[middle]! <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #readFile(path: string, into: Buffer, at: number): void {
    let fd = this.#open.get(path);
    if (fd === undefined) this.#open.set(path, (fd = openSync(path, 'r')));
    for (let done = 0; done < into.length; ) {
      const count = readSync(fd, into, done, into.length - done, at + done);
      if (count === 0) {
        throw new VeneerError(
          'disk/corrupt',
          `Cannot read ${path} at ${at + done}: it ends at ${fstatSync(fd).size}`,
        );
      }
      done += count;
    }
  }
}
