/** What stands in no file: the extra file of a VMDK, and which runs of it are in there. Pure. */
import type { ByteSink } from '../bytes/io.ts';
import { EROFS_SUPER_OFFSET } from '../erofs/format.ts';
import { type DiskPlan, type DiskSegment, SECTOR } from './segments.ts';

/** A run of the disk: `sectors` of the file from `offset` on (in sectors). */
export interface DiskExtent {
  readonly sectors: number;
  readonly file: string;
  readonly offset: number;
}

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
 * Places the segments that no file holds behind `from` bytes that are there already: bytes, and zeros, for which neither
 * VMDKs (QEMU skips ZERO extents, and what follows moves up) nor every device-mapper (dm-zero is a module) have a way.
 */
export function placeExtra(plan: DiskPlan, from = 0): ExtraFile {
  const at = new Map<DiskSegment, number>();
  let size = from;
  for (const segment of plan.segments) {
    if (segment.kind === 'file') continue;
    if (segment.kind === 'zero' && segment.sectors <= SMALL_GAP) continue;
    at.set(segment, size);
    size += segment.sectors * SECTOR;
  }
  return { at, size };
}

/** A gap in pieces of the boot area. */
export function bootPieces(sectors: number): number[] {
  const pieces: number[] = [];
  for (let left = sectors; left > 0; left -= BOOT_SECTORS) pieces.push(Math.min(BOOT_SECTORS, left));
  return pieces;
}

/** Writes the bytes; zeros are left out, so give the file its length first. */
export function writeExtra(extra: ExtraFile, sink: ByteSink): void {
  for (const [segment, at] of extra.at) if (segment.kind === 'bytes') sink.write(segment.bytes, at);
}

/**
 * The disk as runs of files. `nameOf` says how it calls a file, null being the extra file; `primary` is the EROFS image
 * whose boot area stands for small gaps. Neighbours are joined.
 */
export function diskExtents(
  plan: DiskPlan,
  extra: ExtraFile,
  primary: string,
  nameOf: (path: string | null) => string,
): DiskExtent[] {
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
    else for (const sectors of bootPieces(segment.sectors)) add(sectors, nameOf(primary), 0);
  }
  return extents;
}
