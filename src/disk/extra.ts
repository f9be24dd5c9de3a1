/** What stands in no file: the extra file of a VMDK, and which runs of it are in there. Pure. */
import type { ByteSink } from '../bytes/io.ts';
import { EROFS_SUPER_OFFSET } from '../erofs/format.ts';
import { type DiskPlan, type DiskSegment, SECTOR } from './segments.ts';
import type { VmdkExtent } from './vmdk.ts';

export interface ExtraFile {
  /** Byte where each segment stands. Zeros are a hole there. */
  readonly at: ReadonlyMap<DiskSegment, number>;
  /** Bytes; 0 when no extra file is needed. */
  readonly size: number;
}

/** The boot area of every EROFS image is zero (checked by readDiskImage): these sectors of it stand for gaps. */
const BOOT_SECTORS = EROFS_SUPER_OFFSET / SECTOR;
/** Gaps up to this are made of the boot area; each piece is an extent, and QEMU opens a file for each. */
const SMALL_GAP = 4 * BOOT_SECTORS;

/**
 * Places the segments that no file holds behind `from` bytes that are there already. `gaps`: `in-place` when zeros need
 * a place too, because the format has none (QEMU skips ZERO extents of a VMDK, and what follows moves up).
 */
export function placeExtra(plan: DiskPlan, gaps: 'in-place' | 'free', from = 0): ExtraFile {
  const at = new Map<DiskSegment, number>();
  let size = from;
  for (const segment of plan.segments) {
    if (segment.kind === 'file') continue;
    if (segment.kind === 'zero' && (gaps === 'free' || segment.sectors <= SMALL_GAP)) continue;
    at.set(segment, size);
    size += segment.sectors * SECTOR;
  }
  return { at, size };
}

/** Writes the bytes; zeros are left out, so give the file its length first. */
export function writeExtra(extra: ExtraFile, sink: ByteSink): void {
  for (const [segment, at] of extra.at) if (segment.kind === 'bytes') sink.write(segment.bytes, at);
}

/**
 * The extents of a VMDK. `nameOf` says how it calls a file, null being the extra file; `primary` is the EROFS image
 * whose boot area stands for small gaps. Neighbours are joined.
 */
export function vmdkExtents(
  plan: DiskPlan,
  extra: ExtraFile,
  primary: string,
  nameOf: (path: string | null) => string,
): VmdkExtent[] {
  const extents: { sectors: number; file: string; offset: number }[] = [];
  const add = (sectors: number, file: string, at: number): void => {
    const offset = at / SECTOR;
    const last = extents.at(-1);
    if (last !== undefined && last.file === file && last.offset + last.sectors === offset)
      last.sectors += sectors;
    else extents.push({ sectors, file, offset });
  };
  for (const segment of plan.segments) {
    const placed = extra.at.get(segment);
    if (segment.kind === 'file') add(segment.sectors, nameOf(segment.path), segment.at);
    else if (placed !== undefined) add(segment.sectors, nameOf(null), placed);
    else {
      for (let done = 0; done < segment.sectors; done += BOOT_SECTORS)
        add(Math.min(BOOT_SECTORS, segment.sectors - done), nameOf(primary), 0);
    }
  }
  return extents;
}
