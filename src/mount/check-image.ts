/**
 * Device order and identity, checked before the kernel sees anything: it compares only the number of
 * devices, mounts swapped ones without a word and then returns wrong data.
 */
import { closeSync, fstatSync, openSync, readFileSync, readSync, type Stats } from 'node:fs';
import { alignUp } from '../bytes/align.ts';
import {
  DEVICE_SLOT,
  EROFS_SUPER_MAGIC,
  EROFS_SUPER_OFFSET,
  INCOMPAT_DEVICE_TABLE,
  SUPERBLOCK,
} from '../erofs/format.ts';
import { VeneerError } from '../errors.ts';
import type { ErofsImage } from './types.ts';

/** What the superblock says. */
export interface CheckedImage {
  /** Bytes. */
  readonly blockSize: number;
  /** What all files of the image are. */
  readonly kind: 'file' | 'block';
}

type FileKind = CheckedImage['kind'];

/** Smallest and largest `blkszbits` that any kernel takes: 512 bytes to 64 KiB pages. */
const MIN_BLOCK_BITS = 9;
const MAX_BLOCK_BITS = 16;

/**
 * Checks an image against its files.
 *
 * @param name what messages call it, such as `layer 3 of 10`
 * @throws `mount/missing` a file is not there; `mount/invalid-image` the primary is no EROFS image or is cut;
 *   `mount/mismatch` a device has another size, tag or number than the image was made for
 */
export function checkImage(image: ErofsImage, name: string): CheckedImage {
  const fd = openFile(image.primary, name);
  try {
    const primary = measure(fd, image.primary, name);
    const block = readBytes(fd, EROFS_SUPER_OFFSET, SUPERBLOCK.size);
    if (block === null || block.getUint32(SUPERBLOCK.at.magic, true) !== EROFS_SUPER_MAGIC) {
      throw invalid(image.primary, name, 'it is not an EROFS image');
    }
    const bits = block.getUint8(SUPERBLOCK.at.blkszbits);
    if (bits < MIN_BLOCK_BITS || bits > MAX_BLOCK_BITS) {
      throw invalid(image.primary, name, `its block size is 2^${bits} bytes`);
    }
    const blockSize = 2 ** bits;
    const needed = block.getUint32(SUPERBLOCK.at.blocks, true) * blockSize;
    if (primary.size < needed) {
      throw invalid(image.primary, name, `it has ${primary.size} of ${needed} bytes`);
    }
    checkDeviceCount(image, name, block);
    const slots = block.getUint16(SUPERBLOCK.at.devt_slotoff, true) * DEVICE_SLOT.size;
    image.devices.forEach((device, index) => {
      const slot = readBytes(fd, slots + index * DEVICE_SLOT.size, DEVICE_SLOT.size);
      if (slot === null)
        throw invalid(image.primary, name, `its device table ends before device ${index + 1}`);
      const kind = checkDevice(device, index, name, slot, blockSize);
      if (kind !== primary.kind) {
        throw new VeneerError(
          'mount/mismatch',
          `Cannot mount ${name}: ${image.primary} is a ${primary.kind}, ${device.path} is a ${kind}`,
          { hint: 'An image and its devices must all be files or all be block devices.' },
        );
      }
    });
    return { blockSize, kind: primary.kind };
  } finally {
    closeSync(fd);
  }
}

function checkDeviceCount(image: ErofsImage, name: string, block: DataView): void {
  const hasTable = (block.getUint32(SUPERBLOCK.at.feature_incompat, true) & INCOMPAT_DEVICE_TABLE) !== 0;
  const count = hasTable ? block.getUint16(SUPERBLOCK.at.extra_devices, true) : 0;
  if (count === image.devices.length) return;
  throw new VeneerError(
    'mount/mismatch',
    `Cannot mount ${name}: ${image.primary} wants ${count} devices, ${image.devices.length} are given`,
    { hint: REMAKE },
  );
}

function checkDevice(
  device: ErofsImage['devices'][number],
  index: number,
  name: string,
  slot: DataView,
  blockSize: number,
): FileKind {
  const label = `device ${index + 1} of ${name}`;
  const fd = openFile(device.path, label);
  try {
    const { kind, size } = measure(fd, device.path, label);
    const needed = slot.getUint32(DEVICE_SLOT.at.blocks, true) * blockSize;
    // a tar may end inside its last block: what stands behind its end-of-archive blocks has any length
    if (size !== device.size || alignUp(size, blockSize) < needed) {
      throw new VeneerError(
        'mount/mismatch',
        `Cannot mount ${label}: ${device.path} has ${size} bytes, expected ${Math.max(device.size, needed)}`,
        { hint: REMAKE },
      );
    }
    const tag = readTag(slot);
    if (device.tag !== undefined && device.tag !== tag) {
      throw new VeneerError(
        'mount/mismatch',
        `Cannot mount ${label}: the image was made for ${tag || 'an untagged device'}, given is ${device.tag} (${device.path})`,
        { hint: REMAKE },
      );
    }
    return kind;
  } finally {
    closeSync(fd);
  }
}

const REMAKE = 'The store may be damaged: run `veneer fsck`, or pull the image again.';

/** The slot's tag without its padding, as a byte string. */
function readTag(slot: DataView): string {
  const { tag, blocks } = DEVICE_SLOT.at;
  const bytes = Buffer.from(slot.buffer, slot.byteOffset + tag, blocks - tag);
  const end = bytes.indexOf(0);
  return bytes.toString('latin1', 0, end === -1 ? bytes.length : end);
}

function openFile(path: string, name: string): number {
  try {
    return openSync(path, 'r');
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code;
    if (reason === 'ENOENT' || reason === 'ENOTDIR') {
      throw new VeneerError('mount/missing', `Cannot mount ${name}: ${path} does not exist`, {
        hint: REMAKE,
        cause,
      });
    }
    throw new VeneerError('mount/invalid-image', `Cannot mount ${name}: cannot open ${path} (${reason})`, {
      cause,
    });
  }
}

function measure(fd: number, path: string, name: string): { kind: FileKind; size: number } {
  const stats = fstatSync(fd);
  if (stats.isFile()) return { kind: 'file', size: stats.size };
  if (stats.isBlockDevice()) return { kind: 'block', size: readBlockSize(stats) };
  throw invalid(path, name, 'it is neither a file nor a block device');
}

/** Bytes of a block device; sysfs counts sectors of 512 bytes whatever the device's own are. */
function readBlockSize(stats: Stats): number {
  const device = stats.rdev;
  const major = (device >>> 8) & 0xfff;
  const minor = (device & 0xff) | ((device >>> 12) & 0xfff00);
  return Number(readFileSync(`/sys/dev/block/${major}:${minor}/size`, 'utf8')) * 512;
}

function readBytes(fd: number, offset: number, length: number): DataView | null {
  const bytes = new Uint8Array(length);
  const got = readSync(fd, bytes, 0, length, offset);
  return got === length ? new DataView(bytes.buffer) : null;
}

function invalid(path: string, name: string, reason: string): VeneerError {
  return new VeneerError('mount/invalid-image', `Cannot mount ${name}: ${path}: ${reason}`, { hint: REMAKE });
}
