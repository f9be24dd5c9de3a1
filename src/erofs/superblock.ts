/** Reads and checks the superblock and the device table. */
import { crc32c } from '../bytes/crc32c.ts';
import { VeneerError } from '../errors.ts';
import {
  COMPAT_SB_CHKSUM,
  DEVICE_SLOT,
  EROFS_SUPER_MAGIC,
  EROFS_SUPER_OFFSET,
  INCOMPAT_DEVICE_TABLE,
  INCOMPAT_READABLE,
  SUPERBLOCK,
} from './format.ts';
import { type ImageBytes, s64, u16, u32 } from './image-bytes.ts';

/** A device slot: a file or disk that holds data of the image. */
export interface DeviceSlot {
  /** What `tag` says, trailing NULs cut; in our images the hex digest of the device's bytes. */
  readonly tag: string;
  readonly blocks: number;
  readonly uniaddr: number;
}

export interface Superblock {
  readonly blockSize: number;
  readonly rootNid: number;
  /** Number of inodes, as it says. */
  readonly inodes: number;
  readonly epoch: number;
  readonly epochNsec: number;
  readonly blocks: number;
  readonly metaBlock: number;
  readonly xattrBlock: number;
  /** Hex, 32 digits. */
  readonly uuid: string;
  readonly volumeName: string;
  readonly featureCompat: number;
  readonly featureIncompat: number;
  readonly devices: readonly DeviceSlot[];
}

/** Throws `erofs/corrupt` for what is no EROFS image, `erofs/unsupported` for features that the reader does not know. */
export function readSuperblock(image: ImageBytes): Superblock {
  const base = image.locate(EROFS_SUPER_OFFSET, SUPERBLOCK.size, 'the superblock');
  const { bytes } = image;
  const { at } = SUPERBLOCK;
  if (u32(bytes, base + at.magic) !== EROFS_SUPER_MAGIC) {
    throw new VeneerError('erofs/corrupt', `Cannot read EROFS image: no magic at ${EROFS_SUPER_OFFSET}`);
  }
  const blockBits = bytes[base + at.blkszbits]!;
  const featureIncompat = u32(bytes, base + at.feature_incompat);
  const unknown = featureIncompat & ~INCOMPAT_READABLE;
  const unsupported = (what: string): VeneerError =>
    new VeneerError('erofs/unsupported', `Cannot read EROFS image: ${what}`, {
      hint: 'Only uncompressed images without long xattr prefixes, fragments and 48-bit addresses are read.',
    });
  if (blockBits < 9 || blockBits > 16) throw unsupported(`blocks of 2^${blockBits} bytes`);
  if (unknown !== 0) throw unsupported(`incompatible features 0x${unknown.toString(16)}`);
  if (bytes[base + at.dirblkbits] !== 0) throw unsupported('directory blocks of their own size');
  const blockSize = 2 ** blockBits;
  const featureCompat = u32(bytes, base + at.feature_compat);
  const superblock = {
    blockSize,
    rootNid: u16(bytes, base + at.rootnid),
    inodes: s64(bytes, base + at.inos, 'the number of inodes'),
    epoch: s64(bytes, base + at.epoch, 'the epoch'),
    epochNsec: u32(bytes, base + at.fixed_nsec) % 1_000_000_000,
    blocks: u32(bytes, base + at.blocks),
    metaBlock: u32(bytes, base + at.meta_blkaddr),
    xattrBlock: u32(bytes, base + at.xattr_blkaddr),
    uuid: bytes.toString('hex', base + at.uuid, base + at.uuid + 16),
    volumeName: bytes
      .toString('latin1', base + at.volume_name, base + at.volume_name + 16)
      .replace(/\0.*$/s, ''),
    featureCompat,
    featureIncompat,
  };
  const devices =
    (featureIncompat & INCOMPAT_DEVICE_TABLE) !== 0
      ? readDevices(image, u16(bytes, base + at.extra_devices), u16(bytes, base + at.devt_slotoff))
      : [];
  if ((featureCompat & COMPAT_SB_CHKSUM) !== 0) checkChecksum(image, blockSize);
  return { ...superblock, devices };
}

function readDevices(image: ImageBytes, count: number, slotOffset: number): DeviceSlot[] {
  const devices: DeviceSlot[] = [];
  for (let i = 0; i < count; i++) {
    const base = image.locate((slotOffset + i) * DEVICE_SLOT.size, DEVICE_SLOT.size, `device slot ${i + 1}`);
    const { bytes } = image;
    const tagAt = base + DEVICE_SLOT.at.tag;
    devices.push({
      tag: bytes.toString('latin1', tagAt, tagAt + 64).replace(/\0.*$/s, ''),
      blocks: u32(bytes, base + DEVICE_SLOT.at.blocks),
      uniaddr: u32(bytes, base + DEVICE_SLOT.at.uniaddr),
    });
  }
  return devices;
}

/** crc32c over the rest of the block that the superblock begins in, the field itself as zero. */
function checkChecksum(image: ImageBytes, blockSize: number): void {
  const length = blockSize > EROFS_SUPER_OFFSET ? blockSize - EROFS_SUPER_OFFSET : blockSize;
  const base = image.locate(EROFS_SUPER_OFFSET, length, 'the superblock');
  const block = Buffer.from(image.bytes.subarray(base, base + length));
  const stored = u32(block, SUPERBLOCK.at.checksum);
  block.fill(0, SUPERBLOCK.at.checksum, SUPERBLOCK.at.checksum + 4);
  const computed = crc32c(block);
  if (stored !== computed) {
    throw new VeneerError(
      'erofs/corrupt',
      `Cannot read EROFS image: superblock checksum is ${stored.toString(16)}, computed ${computed.toString(16)}`,
    );
  }
}
