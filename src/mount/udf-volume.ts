/**
 * UDF volumes: files one behind the other, the trailer last, checked in user space before the kernel sees them.
 *
 * The kernel alone is not enough: when there is no sound anchor where `anchor=` says, it goes on to look at block
 * 256 and others, which are contents of tars, and mounts what they describe.
 */
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import type { ByteSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import { type LinearPart, makeLinear } from '../sys/device-mapper.ts';
import { attachLoop } from '../sys/loop.ts';
import { createFs, MOUNT_ATTR, mountFs, openFs, setFsFlag, setFsString } from '../sys/mount-api.ts';
import { UDF_BLOCK } from '../udf/format.ts';
import { findTrailer, mountOptions } from '../udf/trailer.ts';
import type { CheckedImage } from './check-image.ts';
import { explainMountError } from './privilege.ts';
import type { LowerImage, UdfImage } from './types.ts';

const HASH_CHUNK = 1 << 20;

export const isUdf = (image: LowerImage): image is UdfImage => 'parts' in image;

/**
 * Checks that the volume has the sizes, the anchor and, byte for byte, the metadata that were planned.
 *
 * @throws `mount/missing`, `mount/mismatch`, `mount/invalid-image`
 */
export function checkUdf(image: UdfImage, name: string): CheckedImage {
  const opened: number[] = [];
  try {
    const volume = openParts(image, name, opened);
    const trailer = explainTrailer(volume, name);
    const digest = createHash('sha256');
    const end = (trailer.origin + trailer.vdsBlock) * UDF_BLOCK;
    for (let at = (trailer.origin + trailer.firstBlock) * UDF_BLOCK; at < end; at += HASH_CHUNK) {
      digest.update(volume.read(at, Math.min(HASH_CHUNK, end - at)));
    }
    const found = `sha256:${digest.digest('hex')}`;
    if (trailer.anchorSector !== image.anchorSector || found !== image.metadataDigest) {
      throw new VeneerError(
        'mount/mismatch',
        `Cannot mount ${name}: its UDF metadata is ${found} with its anchor at ${trailer.anchorSector}, planned were ${image.metadataDigest} and ${image.anchorSector}`,
      );
    }
    return { blockSize: UDF_BLOCK, kind: 'file' };
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

function explainTrailer(volume: ByteSource, name: string): NonNullable<ReturnType<typeof findTrailer>> {
  const trailer = findTrailer(volume);
  if (trailer !== null) return trailer;
  throw new VeneerError('mount/invalid-image', `Cannot mount ${name}: it does not end in a UDF trailer`);
}

/** The parts as one source of bytes. */
function openParts(image: UdfImage, name: string, opened: number[]): ByteSource {
  let size = 0;
  const parts = image.parts.map((part) => {
    const fd = openPart(part.path, name);
    opened.push(fd);
    const { size: found } = fstatSync(fd);
    if (found !== part.size || found % UDF_BLOCK !== 0) {
      throw new VeneerError(
        'mount/mismatch',
        `Cannot mount ${name}: ${part.path} has ${found} bytes, expected ${part.size} in whole blocks`,
      );
    }
    const begin = size;
    size += found;
    return { fd, begin, end: size };
  });
  return {
    size,
    read(offset, length) {
      const bytes = Buffer.alloc(length);
      for (const { fd, begin, end } of parts) {
        const from = Math.max(offset, begin);
        const to = Math.min(offset + length, end);
        for (let at = from; at < to; ) {
          const count = readSync(fd, bytes, at - offset, to - at, at - begin);
          if (count === 0) throw new VeneerError('mount/mismatch', `Cannot mount ${name}: a file shrinks`);
          at += count;
        }
      }
      return bytes;
    },
  };
}

function openPart(path: string, name: string): number {
  try {
    return openSync(path, 'r');
  } catch (cause) {
    throw new VeneerError('mount/missing', `Cannot mount ${name}: cannot open ${path}`, { cause });
  }
}

/** A detached mount of a checked volume. Its devices go away with it. */
export function mountUdf(image: UdfImage, name: string): number {
  const opened: number[] = [];
  try {
    // first of all, so that a kernel without UDF is told by that name
    const fs = explainMountError(() => openFs('udf'), name);
    opened.push(fs);
    const device = openDevice(image, opened);
    setFsFlag(fs, 'ro');
    setFsString(fs, 'source', device);
    for (const option of mountOptions(image)) {
      const [key, value] = option.split('=') as [string, string?];
      explainMountError(() => (value === undefined ? setFsFlag(fs, key) : setFsString(fs, key, value)), name);
    }
    explainMountError(() => createFs(fs), name);
    return mountFs(fs, MOUNT_ATTR.RDONLY);
  } finally {
    for (const fd of opened.reverse()) closeSync(fd);
  }
}

function openDevice(image: UdfImage, opened: number[]): string {
  const loops = image.parts.map(({ path, size }): LinearPart => {
    const loop = attachLoop(path, UDF_BLOCK);
    opened.push(loop.fd);
    return { path: loop.path, size };
  });
  if (loops.length === 1) return loops[0]!.path;
  const linear = makeLinear(loops);
  opened.push(linear.fd);
  return linear.path;
}
