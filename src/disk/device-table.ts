/** Superblock and device table of an EROFS image, without reading all of it. */
import { type ByteSource, bufferSource } from '../bytes/io.ts';
import { ImageBytes } from '../erofs/image-bytes.ts';
import { readSuperblock, type Superblock } from '../erofs/superblock.ts';
import { VeneerError } from '../errors.ts';

/** Room for two thousand devices. */
const HEAD = 1 << 18;

/** Throws `erofs/corrupt` for what is no EROFS image. */
export function readDeviceTable(source: ByteSource): Superblock {
  try {
    return readSuperblock(new ImageBytes(bufferSource(source.read(0, Math.min(HEAD, source.size)))));
  } catch (error) {
    if (source.size <= HEAD || !(error instanceof VeneerError) || error.code !== 'erofs/corrupt') throw error;
    return readSuperblock(new ImageBytes(source));
  }
}
