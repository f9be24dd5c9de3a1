/**
 * Remnants: what is kept of a data file when its layer is gone and others still point into it.
 *
 * A remnant has the size of the whole file and the bytes that are needed, at their places; the rest is holes. So
 * whoever has the file as a device takes the remnant in its stead, and no metadata image changes.
 */
import { createHash } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { ByteSource } from '../bytes/io.ts';
import { syncPath, writeNewFile } from './atomic.ts';
import { listDirectory } from './catalog.ts';
import { fileSource, openStored } from './data-files.ts';
import { treeBytes } from './debris.ts';
import { HEX64, REMNANT_DATA, REMNANT_FACTS } from './layout.ts';
import { throwIfAborted } from './locks.ts';
import { type RemnantRecord, recordText } from './records.ts';
import type { Store } from './store.ts';

export type Range = readonly [begin: number, end: number];

/** File systems give and take whole blocks of this size. */
const HOLE = 4096;
const PIECE = 1 << 20;

/** Sorted ranges, each grown to whole blocks of a file system, those that touch put together. */
export function mergeRanges(ranges: readonly Range[], size: number): Range[] {
  const merged: Range[] = [];
  for (const [begin, end] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const low = begin - (begin % HOLE);
    const high = Math.min(size, Math.ceil(end / HOLE) * HOLE);
    const last = merged.at(-1);
    if (last !== undefined && low <= last[1]) merged[merged.length - 1] = [last[0], Math.max(last[1], high)];
    else merged.push([low, high]);
  }
  return merged;
}

/** Whether every one of `inner` lies in one of `outer`; both are merged. */
export function coverRanges(outer: readonly Range[], inner: readonly Range[]): boolean {
  let at = 0;
  return inner.every(([begin, end]) => {
    while (at < outer.length && outer[at]![1] < end) at++;
    return at < outer.length && outer[at]![0] <= begin;
  });
}

/** The files that are left of layers that are gone, with the bytes that they keep. */
export function listRemnants(store: Store): { readonly remnant: string; readonly storedBytes: number }[] {
  return listDirectory(store.layout.remnants)
    .filter((name) => HEX64.test(name))
    .sort()
    .map((hex) => ({
      remnant: `sha256:${hex}`,
      storedBytes: treeBytes(store.layout.remnant(`sha256:${hex}`)),
    }));
}

/** Writes a remnant of an open file into a directory that has no final name yet; a crash leaves debris there. */
export async function writeRemnant(
  dir: string,
  source: ByteSource,
  facts: { readonly digest: string; readonly ranges: readonly Range[] },
  options: { readonly fsync: boolean; readonly signal: AbortSignal | undefined },
): Promise<RemnantRecord> {
  const path = join(dir, REMNANT_DATA);
  const hash = createHash('sha256');
  const fd = openSync(path, 'wx', 0o444);
  try {
    ftruncateSync(fd, source.size);
    const scratch = Buffer.allocUnsafe(PIECE);
    for (const [begin, end] of facts.ranges) {
      for (let at = begin; at < end; ) {
        throwIfAborted(options.signal);
        const bytes = source.read(at, Math.min(PIECE, end - at), scratch);
        hash.update(bytes);
        for (let done = 0; done < bytes.length; )
          done += writeSync(fd, bytes, done, bytes.length - done, at + done);
        at += bytes.length;
      }
    }
  } finally {
    closeSync(fd);
  }
  if (options.fsync) await syncPath(path);
  const content = `sha256:${hash.digest('hex')}`;
  const record: RemnantRecord = { version: 1, size: source.size, ...facts, content };
  await writeNewFile(join(dir, REMNANT_FACTS), recordText(record), options);
  return record;
}

/** The bytes of all ranges, one after the other. */
export function openRanges(path: string, ranges: readonly Range[]): { source: ByteSource; close(): void } {
  const fd = openStored(path);
  const file = fileSource(fd, path);
  const starts: number[] = [];
  let size = 0;
  for (const [begin, end] of ranges) {
    starts.push(size);
    size += end - begin;
  }
  return {
    source: {
      size,
      read(offset, length) {
        const bytes = Buffer.allocUnsafe(length);
        let range = starts.findLastIndex((start) => start <= offset);
        for (let done = 0; done < length; range++) {
          const [begin, end] = ranges[range]!;
          const skipped = offset + done - starts[range]!;
          const take = Math.min(length - done, end - begin - skipped);
          file.read(begin + skipped, take).copy(bytes, done);
          done += take;
        }
        return bytes;
      },
    },
    close: () => closeSync(fd),
  };
}
