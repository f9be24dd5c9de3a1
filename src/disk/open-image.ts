/** Reads what a disk needs to know of an EROFS image file and the files of its device table. */
import { statSync } from 'node:fs';
import { EROFS_SUPER_OFFSET } from '../erofs/format.ts';
import type { Superblock } from '../erofs/superblock.ts';
import { VeneerError } from '../errors.ts';
import { readDeviceTable } from './device-table.ts';
import type { DiskDevice, DiskImage } from './image.ts';
import { SECTOR } from './segments.ts';
import { DiskSource } from './source.ts';

export interface OpenedDiskImage {
  readonly image: DiskImage;
  readonly superblock: Superblock;
}

/**
 * Reads the superblock and device table of `primary` and measures all files. Throws `disk/corrupt` when a file is
 * shorter than the image says, or their number is another.
 */
export function readDiskImage(primary: string, devices: readonly string[]): OpenedDiskImage {
  const size = statSync(primary).size;
  const source = fileOnDisk(primary, size);
  try {
    const superblock = readDeviceTable(source);
    const { blockSize, blocks } = superblock;
    if (source.read(0, EROFS_SUPER_OFFSET).some((byte) => byte !== 0)) {
      throw new VeneerError('disk/unsupported', `Cannot make a disk of ${primary}: its boot area is in use`);
    }
    checkLength(primary, size, blocks, blockSize);
    if (superblock.devices.length !== devices.length) {
      throw new VeneerError(
        'disk/corrupt',
        `Cannot make a disk of ${primary}: it wants ${superblock.devices.length} devices, ${devices.length} are given`,
        { hint: 'Name the files of its device table in order: --device layer1.tar --device layer2.tar' },
      );
    }
    const found = superblock.devices.map((slot, i): DiskDevice => {
      const path = devices[i]!;
      const bytes = statSync(path).size;
      checkLength(path, bytes, slot.blocks, blockSize);
      const tag = /^[0-9a-f]{12,}$/.test(slot.tag) ? ` ${slot.tag.slice(0, 12)}` : '';
      return { path, size: bytes, name: `layer ${i + 1}${tag}`, blocks: slot.blocks, uniaddr: slot.uniaddr };
    });
    return { image: { blockSize, primary: { path: primary, size, blocks }, devices: found }, superblock };
  } finally {
    source.close();
  }
}

/** Its last block may be cut: the length of a tar is no business of blocks. */
function checkLength(path: string, size: number, blocks: number, blockSize: number): void {
  if (size > (blocks - 1) * blockSize || blocks === 0) return;
  throw new VeneerError(
    'disk/corrupt',
    `Cannot make a disk of ${path}: it has ${size} bytes, the image says ${blocks * blockSize}`,
  );
}

/** A whole file as a disk; what fills no sector is left out. */
export function fileOnDisk(path: string, size: number): DiskSource {
  return new DiskSource([{ sectors: Math.floor(size / SECTOR), path, at: 0 }]);
}
