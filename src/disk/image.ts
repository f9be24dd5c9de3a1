/** An EROFS image and its devices as one disk. Pure: sizes come in, runs come out. */
import { VeneerError } from '../errors.ts';
import { type DiskFile, type DiskPlan, type ReadTail, SECTOR, SegmentList } from './segments.ts';

/** Data device of a metadata image, as its slot says. */
export interface DiskDevice extends DiskFile {
  /** What its part of the disk is called. */
  readonly name: string;
  /** Blocks of the image. The slot's number counts, not the file's size. */
  readonly blocks: number;
  /** Block where it begins when all stand behind each other. */
  readonly uniaddr: number;
}

export interface DiskImage {
  /** Bytes. */
  readonly blockSize: number;
  /** The metadata image: `blocks` of its superblock. */
  readonly primary: DiskFile & { readonly blocks: number };
  /** In the order of the device table. */
  readonly devices: readonly DiskDevice[];
}

/** Verity superblock and hash tree stand on this boundary behind what they protect. */
export const TREE_ALIGNMENT = 4096;

/** Sectors of the flat disk, up to the next boundary of a tree's data blocks. */
export function flatSectors(image: DiskImage): number {
  const perBlock = image.blockSize / SECTOR;
  let end = image.primary.blocks;
  for (const { uniaddr, blocks } of image.devices) end = Math.max(end, uniaddr + blocks);
  return end * perBlock;
}

/**
 * One flat device: the image first, each device where its slot's `uniaddr` says, the hash tree (with its superblock)
 * behind it. Throws `disk/unsupported` for an image whose devices have no such addresses.
 */
export function planFlat(image: DiskImage, tree: DiskFile | null, readTail: ReadTail): DiskPlan {
  const list = new SegmentList(readTail);
  layFlat(list, image);
  if (tree !== null) {
    list.alignTo(TREE_ALIGNMENT);
    list.addFile('hash tree', tree, tree.size / SECTOR);
  }
  return list.finish();
}

function layFlat(list: SegmentList, image: DiskImage): void {
  const perBlock = image.blockSize / SECTOR;
  list.addFile('fsmeta', image.primary, image.primary.blocks * perBlock);
  const devices = [...image.devices].sort((a, b) => a.uniaddr - b.uniaddr);
  for (const device of devices) {
    if (device.uniaddr === 0) {
      throw new VeneerError(
        'disk/unsupported',
        `Cannot put ${device.path} on one disk: the image gives it no place there`,
        { hint: 'Use --gpt, or make the image anew with "veneer merge".' },
      );
    }
    list.padTo(device.uniaddr * perBlock, device.name);
    list.addFile(device.name, device, device.blocks * perBlock);
  }
}
