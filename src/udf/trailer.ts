/**
 * Finds the trailer behind a tar and says what it claims. Nothing of it is believed: `veneer` only compares a
 * trailer with the one it would write itself, or with a digest it kept.
 */
import { createHash } from 'node:crypto';
import { crcItuT } from '../bytes/crc-itu-t.ts';
import type { ByteSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import { sumTag } from './descriptors.ts';
import {
  AVDP,
  EXTENT_AD,
  HEADER_BLOCKS,
  IUVD,
  REGID,
  TAG,
  TAG_AVDP,
  TAG_IUVD,
  TAG_TD,
  TRAILER_FLAT,
  TRAILER_HEADER,
  TRAILER_ID,
  TRAILER_INFO,
  TRAILER_KNOWN_FLAGS,
  TRAILER_LITERAL_WHITEOUTS,
  TRAILER_UNICODE_NAMES,
  TRAILER_VERSION,
  UDF_BLOCK,
  VDS_BLOCKS,
} from './format.ts';
import type { NameEncoding } from './names.ts';

/** What a trailer says of itself. */
export interface Trailer {
  readonly names: NameEncoding;
  readonly whiteouts: 'sidecar' | 'literal';
  readonly flat: boolean;
  readonly header: boolean;
  /** Bytes in front of it, as they were before their padding to whole blocks. */
  readonly tarLength: number;
  /** `sha256:…` */
  readonly digest: string;
  /** Sector where the partition begins: behind the header, if there is one. All other blocks count from there. */
  readonly origin: number;
  readonly firstBlock: number;
  /** Blocks from the first on that {@link metadataDigest} covers: all but descriptors of the volume. */
  readonly metadataBlocks: number;
  readonly metadataDigest: string;
  /** First block of the volume descriptor sequence. */
  readonly vdsBlock: number;
  /** The last sector of the volume: what `anchor=` wants. */
  readonly anchorSector: number;
}

/** Checks a descriptor's tag: identifier, place, checksum and CRC. `block` null: wherever it is. */
export function tagIsSound(bytes: Buffer, at: number, identifier: number, block: number | null): boolean {
  if (at + TAG.size > bytes.length) return false;
  if (bytes.readUInt16LE(at + TAG.at.TagIdentifier) !== identifier) return false;
  if (block !== null && bytes.readUInt32LE(at + TAG.at.TagLocation) !== block) return false;
  if (bytes[at + TAG.at.TagChecksum] !== sumTag(bytes, at)) return false;
  const begin = at + TAG.size;
  const end = begin + bytes.readUInt16LE(at + TAG.at.DescriptorCRCLength);
  return end <= bytes.length && crcItuT(bytes, begin, end) === bytes.readUInt16LE(at + TAG.at.DescriptorCRC);
}

/**
 * The trailer that `source` ends in, or null when it ends in none of ours. Throws `udf/corrupt` when there is
 * one that contradicts itself, `udf/unsupported` for one of a later version.
 */
export function findTrailer(source: ByteSource): Trailer | null {
  const { size } = source;
  const anchorSector = Math.floor(size / UDF_BLOCK) - 1;
  if (size % UDF_BLOCK !== 0 || anchorSector < VDS_BLOCKS) return null;
  const anchor = source.read(anchorSector * UDF_BLOCK, UDF_BLOCK);
  if (!tagIsSound(anchor, 0, TAG_AVDP, anchorSector)) return null;
  // the reserve sequence: the main one of a volume with a header extent stands in that
  const extent = AVDP.at.ReserveVolumeDescriptorSequenceExtent;
  const length = anchor.readUInt32LE(extent + EXTENT_AD.at.ExtentLength);
  const vdsSector = anchor.readUInt32LE(extent + EXTENT_AD.at.ExtentLocation);
  if (length !== VDS_BLOCKS * UDF_BLOCK || vdsSector + VDS_BLOCKS > anchorSector) return null;
  const sequence = source.read(vdsSector * UDF_BLOCK, length);
  for (let i = 0; i < VDS_BLOCKS; i++) {
    const at = i * UDF_BLOCK;
    if (tagIsSound(sequence, at, TAG_TD, vdsSector + i)) return null;
    if (!tagIsSound(sequence, at, TAG_IUVD, vdsSector + i)) continue;
    if (identifierAt(sequence, at + IUVD.at.ImplementationIdentifier) !== TRAILER_ID) continue;
    return readTrailer(sequence, at + IUVD.at.ImplementationUse, vdsSector, anchorSector);
  }
  return null;
}

/** The identifier of a `regid`, without its padding. */
export function identifierAt(bytes: Buffer, at: number): string {
  const begin = at + REGID.at.Identifier;
  return bytes.toString('latin1', begin, at + REGID.at.IdentifierSuffix).replace(/\0+$/, '');
}

function readTrailer(bytes: Buffer, base: number, vdsSector: number, anchorSector: number): Trailer {
  const { at } = TRAILER_INFO;
  const version = bytes.readUInt16LE(base + at.Version);
  const flags = bytes.readUInt16LE(base + at.Flags);
  if (version !== TRAILER_VERSION || (flags & ~TRAILER_KNOWN_FLAGS) !== 0) {
    throw new VeneerError(
      'udf/unsupported',
      `Cannot read the trailer: version ${version} with flags 0x${flags.toString(16)} is not known`,
      { hint: 'A newer veneer wrote it; --strip takes it off when that veneer runs it.' },
    );
  }
  const tarLength = Number(bytes.readBigUInt64LE(base + at.TarLength));
  const firstBlock = bytes.readUInt32LE(base + at.FirstBlock);
  const metadataBlocks = bytes.readUInt32LE(base + at.MetadataBlocks);
  const origin = (flags & TRAILER_HEADER) !== 0 ? HEADER_BLOCKS : 0;
  const vdsBlock = vdsSector - origin;
  if (Math.ceil(tarLength / UDF_BLOCK) !== firstBlock || firstBlock + metadataBlocks !== vdsBlock) {
    throw new VeneerError(
      'udf/corrupt',
      `Cannot read the trailer: ${tarLength} bytes of data, metadata from block ${firstBlock} to ${vdsBlock} and ${metadataBlocks} blocks of it do not fit together`,
    );
  }
  return {
    names: (flags & TRAILER_UNICODE_NAMES) !== 0 ? 'unicode' : 'bytes',
    whiteouts: (flags & TRAILER_LITERAL_WHITEOUTS) !== 0 ? 'literal' : 'sidecar',
    flat: (flags & TRAILER_FLAT) !== 0,
    header: (flags & TRAILER_HEADER) !== 0,
    tarLength,
    digest: hexDigest(bytes, base + at.TarSHA256),
    firstBlock,
    metadataBlocks,
    metadataDigest: hexDigest(bytes, base + at.MetadataSHA256),
    origin,
    vdsBlock,
    anchorSector,
  };
}

const hexDigest = (bytes: Buffer, at: number): string => `sha256:${bytes.toString('hex', at, at + 32)}`;

/** What identifies the data of a flat volume: a digest of its tars' digests, bottom first. */
export function flatDigest(digests: readonly string[]): string {
  const hash = createHash('sha256');
  for (const digest of digests) hash.update(`${digest}\n`);
  return `sha256:${hash.digest('hex')}`;
}

/** `mount -o` options for a volume with this anchor. */
export function mountOptions(trailer: Pick<Trailer, 'anchorSector' | 'names'>): string[] {
  const charset = trailer.names === 'bytes' ? standardOptions('bytes') : ['utf8'];
  return ['novrs', `anchor=${trailer.anchorSector}`, `bs=${UDF_BLOCK}`, ...charset];
}

/** What a standard volume wants: Unicode is what the kernel takes names for when nothing is said. */
export function standardOptions(names: NameEncoding): string[] {
  return names === 'bytes' ? ['iocharset=iso8859-1'] : [];
}
