/** Tells the compression of a blob by its first bytes, whatever its media type says. */
import { VeneerError } from '../errors.ts';
import { ZSTD_MAGIC, ZSTD_SKIPPABLE_MAGIC, ZSTD_SKIPPABLE_MASK } from './zstd-frames.ts';

export type Compression = 'gzip' | 'zstd' | 'none';

/** So many bytes are enough for {@link detectCompression}. */
export const DETECT_BYTES = 6;

const FOREIGN: readonly (readonly [name: string, magic: string])[] = [
  ['bzip2', '425a68'],
  ['xz', 'fd377a585a00'],
  ['lz4', '04224d18'],
];

/** `head`: the first {@link DETECT_BYTES} bytes, or all there are. Throws `compress/unsupported` for formats that OCI layers do not use. */
export function detectCompression(head: Uint8Array): Compression {
  if (head.length >= 2 && head[0] === 0x1f && head[1] === 0x8b) return 'gzip';
  if (head.length >= 4) {
    const magic = (head[0]! | (head[1]! << 8) | (head[2]! << 16) | (head[3]! << 24)) >>> 0;
    if (magic === ZSTD_MAGIC || (magic & ZSTD_SKIPPABLE_MASK) >>> 0 === ZSTD_SKIPPABLE_MAGIC) return 'zstd';
  }
  const hex = Buffer.from(head).toString('hex');
  for (const [name, magic] of FOREIGN) {
    if (hex.startsWith(magic)) {
      throw new VeneerError('compress/unsupported', `Cannot read layer: it is compressed with ${name}`, {
        hint: 'Layers are gzip, zstd or uncompressed.',
      });
    }
  }
  return 'none';
}
