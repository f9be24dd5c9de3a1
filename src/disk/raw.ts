/** Writes a disk as one file. */
import { closeSync, fsyncSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { setImmediate as letOthersRun } from 'node:timers/promises';
import { VeneerError } from '../errors.ts';
import { BlockSharer } from '../sys/block-sharer.ts';
import { type DiskPlan, type FileSegment, SECTOR } from './segments.ts';

const CHUNK = 1 << 20;
/** Holes are made of runs of zeros that are at least this long and aligned to it. */
const HOLE = 65536;
const ZEROS = Buffer.alloc(HOLE);

export interface RawReport {
  /** Bytes that share blocks with the files they come from. */
  cloned: number;
  /** Bytes that were written. */
  copied: number;
}

export interface RawOptions {
  readonly signal?: AbortSignal;
  /** Bytes of the disk that are done. */
  readonly onProgress?: (done: number) => void;
}

/**
 * Writes `plan` to the empty file `fd`. Blocks are shared with the source files where the file system can (they must
 * stand on its block boundaries, see docs/decisions/0051), else copied; zeros become holes.
 * The end is made durable; a crash before leaves part of the file.
 */
export async function writeRaw(fd: number, plan: DiskPlan, options: RawOptions = {}): Promise<RawReport> {
  const report: RawReport = { cloned: 0, copied: 0 };
  const writer = new RawWriter(fd, report, options);
  let at = 0;
  for (const segment of plan.segments) {
    if (segment.kind === 'file') await writer.file(segment, at);
    else if (segment.kind === 'bytes') writer.bytes(segment.bytes, at);
    at += segment.sectors * SECTOR;
    options.onProgress?.(at);
  }
  ftruncateSync(fd, plan.sectors * SECTOR);
  fsyncSync(fd);
  return report;
}

class RawWriter {
  readonly #fd: number;
  readonly #report: RawReport;
  readonly #options: RawOptions;
  readonly #buffer = Buffer.allocUnsafe(CHUNK);
  readonly #sharer = new BlockSharer();

  constructor(fd: number, report: RawReport, options: RawOptions) {
    this.#fd = fd;
    this.#report = report;
    this.#options = options;
  }

  async file({ path, at: from, sectors }: FileSegment, to: number): Promise<void> {
    const length = sectors * SECTOR;
    const source = openSync(path, 'r');
    try {
      let done = this.#sharer.share(source, from, length, this.#fd, to);
      this.#report.cloned += done;
      while (done < length) {
        this.#options.signal?.throwIfAborted();
        const want = Math.min(CHUNK, length - done);
        const count = readSync(source, this.#buffer, 0, want, from + done);
        if (count === 0)
          throw new VeneerError('disk/corrupt', `Cannot read ${path} at ${from + done}: it ends there`);
        this.bytes(this.#buffer.subarray(0, count), to + done);
        done += count;
        this.#options.onProgress?.(to + done);
        await letOthersRun();
      }
    } finally {
      closeSync(source);
    }
  }

  /** Writes what is not zero. */
  bytes(bytes: Buffer, to: number): void {
    let from = 0;
    while (from < bytes.length) {
      let end = this.#nextHole(bytes, from, to);
      for (let at = from; at < end; ) at += writeSync(this.#fd, bytes, at, end - at, to + at);
      this.#report.copied += end - from;
      while (end < bytes.length && isHole(bytes, end)) end += HOLE;
      from = end;
    }
  }

  #nextHole(bytes: Buffer, from: number, to: number): number {
    for (let at = from + ((HOLE - ((to + from) % HOLE)) % HOLE); at < bytes.length; at += HOLE) {
      if (isHole(bytes, at)) return at;
    }
    return bytes.length;
  }
}

/** A whole unit of zeros; one that is cut by the end of the buffer is written. */
function isHole(bytes: Buffer, at: number): boolean {
  return at + HOLE <= bytes.length && ZEROS.compare(bytes, at, at + HOLE) === 0;
}
