/** The extra file of a disk that is made of files: what stands in none of them. */
import type { ByteSink } from '../bytes/io.ts';
import { type DiskPlan, type DiskSegment, SECTOR } from './segments.ts';
import type { VmdkExtent } from './vmdk.ts';

export interface ExtraFile {
  /** Where the bytes of each segment stand. Zeros of a VMDK are a hole in it. */
  readonly at: ReadonlyMap<DiskSegment, number>;
  /** Bytes; 0 when the disk needs no extra file. */
  readonly size: number;
}

/**
 * Places the segments that no file holds behind `from` bytes that are there already. `zeros`: whether they need a place
 * too. (QEMU skips ZERO extents, and all behind them moves up.)
 */
export function placeExtra(plan: DiskPlan, zeros: boolean, from = 0): ExtraFile {
  const at = new Map<DiskSegment, number>();
  let size = from;
  for (const segment of plan.segments) {
    if (segment.kind === 'file' || (segment.kind === 'zero' && !zeros)) continue;
    at.set(segment, size);
    size += segment.sectors * SECTOR;
  }
  return { at, size };
}

/** Writes the bytes; zeros are left out, so give the file its length first. */
export function writeExtra(extra: ExtraFile, sink: ByteSink): void {
  for (const [segment, at] of extra.at) if (segment.kind === 'bytes') sink.write(segment.bytes, at);
}

/** The extents of a VMDK; `nameOf` says how it calls a file, null being the extra file. Neighbours are joined. */
export function vmdkExtents(
  plan: DiskPlan,
  extra: ExtraFile,
  nameOf: (path: string | null) => string,
): VmdkExtent[] {
  const extents: { sectors: number; file: string; offset: number }[] = [];
  for (const segment of plan.segments) {
    const file = nameOf(segment.kind === 'file' ? segment.path : null);
    const offset = (segment.kind === 'file' ? segment.at : extra.at.get(segment)!) / SECTOR;
    const last = extents.at(-1);
    if (last !== undefined && last.file === file && last.offset + last.sectors === offset)
      last.sectors += segment.sectors;
    else extents.push({ sectors: segment.sectors, file, offset });
  }
  return extents;
}
