/** The parts that descriptors are made of, and the descriptors of the volume as a whole. */
import { putByteString } from '../bytes/byte-string.ts';
import { crcItuT } from '../bytes/crc-itu-t.ts';
import {
  ACCESS_READ_ONLY,
  AVDP,
  CHARSPEC_INFO,
  CS0_8_BIT,
  DESCRIPTOR_VERSION,
  DOMAIN_ID,
  DOMAIN_SUFFIX,
  EXTENT_AD,
  FSD,
  HEADER_BLOCKS,
  IMPLEMENTATION_SUFFIX,
  INTEGRITY_CLOSE,
  IUVD,
  LONG_AD,
  LV_INFO,
  LV_INFO_ID,
  LVD,
  LVID,
  LVID_IMPLEMENTATION_USE,
  PARTITION_CONTENTS,
  PARTITION_MAP_SIZE,
  PARTITION_MAP_TYPE1,
  PD,
  PVD,
  REGID,
  TAG,
  TAG_AVDP,
  TAG_FSD,
  TAG_IUVD,
  TAG_LVD,
  TAG_LVID,
  TAG_PD,
  TAG_PVD,
  TAG_TD,
  TAG_USD,
  TRAILER_FLAT,
  TRAILER_HEADER,
  TRAILER_ID,
  TRAILER_INFO,
  TRAILER_LITERAL_WHITEOUTS,
  TRAILER_UNICODE_NAMES,
  TRAILER_VERSION,
  UDF_BLOCK,
  UDF_REVISION,
  UDF_SUFFIX,
  USD,
  VDS_BLOCKS,
  VENEER_ID,
} from './format.ts';
import type { UdfPlan } from './plan.ts';
import { writeTimestamp } from './timestamps.ts';

/** What the volume was made for; goes into its descriptors. */
export interface VolumeIdentity {
  /** Bytes of the data in front of the metadata, a header not counted: of the tar, or of all tars. */
  readonly tarLength: number;
  /** `sha256:…` of the tar; of a flat volume, of its tars' digests (see {@link flatDigest}). */
  readonly digest: string;
}

const LABEL = 'veneer';
/** The trailer's own descriptors carry no clock. */
const NO_TIME = 0;

/** Fills in a descriptor's tag when the rest of it is written. `length`: bytes of the descriptor, tag included. */
export function sealTag(bytes: Buffer, at: number, identifier: number, length: number, block: number): void {
  const crcLength = length - TAG.size;
  bytes.writeUInt16LE(identifier, at + TAG.at.TagIdentifier);
  bytes.writeUInt16LE(DESCRIPTOR_VERSION, at + TAG.at.DescriptorVersion);
  bytes.writeUInt16LE(crcItuT(bytes, at + TAG.size, at + length), at + TAG.at.DescriptorCRC);
  bytes.writeUInt16LE(crcLength, at + TAG.at.DescriptorCRCLength);
  bytes.writeUInt32LE(block, at + TAG.at.TagLocation);
  bytes[at + TAG.at.TagChecksum] = sumTag(bytes, at);
}

/** `TagChecksum`, 3/7.2.3: all bytes of the tag but itself. */
export function sumTag(bytes: Buffer, at: number): number {
  let sum = 0;
  for (let i = 0; i < TAG.size; i++) if (i !== TAG.at.TagChecksum) sum += bytes[at + i]!;
  return sum & 0xff;
}

export function putRegid(bytes: Buffer, at: number, identifier: string, suffix: readonly number[]): void {
  putByteString(bytes, at + REGID.at.Identifier, identifier);
  for (const [i, byte] of suffix.entries()) bytes[at + REGID.at.IdentifierSuffix + i] = byte;
}

/** `long_ad` in the only partition. */
export function putLongAd(bytes: Buffer, at: number, length: number, block: number): void {
  bytes.writeUInt32LE(length, at + LONG_AD.at.ExtentLength);
  bytes.writeUInt32LE(block, at + LONG_AD.at.LogicalBlockNumber);
}

function putExtent(bytes: Buffer, at: number, blocks: number, block: number): void {
  bytes.writeUInt32LE(blocks * UDF_BLOCK, at + EXTENT_AD.at.ExtentLength);
  bytes.writeUInt32LE(block, at + EXTENT_AD.at.ExtentLocation);
}

/** `dstring`, 1/7.2.12: characters in CS0, and in the last byte how many bytes they take. */
function putDstring(bytes: Buffer, at: number, width: number, text: string): void {
  bytes[at] = CS0_8_BIT;
  putByteString(bytes, at + 1, text);
  bytes[at + width - 1] = text.length + 1;
}

/** `charspec` of CS0, 1/7.2.1. */
function putCharspec(bytes: Buffer, at: number): void {
  putByteString(bytes, at + 1, CHARSPEC_INFO);
}

/** `sector` is where it will stand. */
export function makeAnchor(plan: UdfPlan, sector: number): Buffer {
  const bytes = Buffer.alloc(UDF_BLOCK);
  const reserve = plan.origin + plan.vdsBlock;
  const main = plan.options.header ? HEADER_VDS : reserve;
  putExtent(bytes, AVDP.at.MainVolumeDescriptorSequenceExtent, VDS_BLOCKS, main);
  putExtent(bytes, AVDP.at.ReserveVolumeDescriptorSequenceExtent, VDS_BLOCKS, reserve);
  sealTag(bytes, 0, TAG_AVDP, AVDP.size, sector);
  return bytes;
}

/** The main sequence of a standard volume stands right behind its anchor. */
export const HEADER_VDS = 257;

export function makeFileSet(plan: UdfPlan): Buffer {
  const bytes = Buffer.alloc(UDF_BLOCK);
  const { at } = FSD;
  writeTimestamp(bytes, at.RecordingDateandTime, NO_TIME, 0);
  bytes.writeUInt16LE(3, at.InterchangeLevel);
  bytes.writeUInt16LE(3, at.MaximumInterchangeLevel);
  bytes.writeUInt32LE(1, at.CharacterSetList);
  bytes.writeUInt32LE(1, at.MaximumCharacterSetList);
  putCharspec(bytes, at.LogicalVolumeIdentifierCharacterSet);
  putDstring(bytes, at.LogicalVolumeIdentifier, 128, LABEL);
  putCharspec(bytes, at.FileSetCharacterSet);
  putDstring(bytes, at.FileSetIdentifier, 32, LABEL);
  putLongAd(bytes, at.RootDirectoryICB, UDF_BLOCK, plan.directories[0]!.block);
  putRegid(bytes, at.DomainIdentifier, DOMAIN_ID, DOMAIN_SUFFIX);
  sealTag(bytes, 0, TAG_FSD, FSD.size, plan.fsdBlock);
  return bytes;
}

/** A volume descriptor sequence for the sectors from `sector` on: {@link VDS_BLOCKS} of them. */
export function makeSequence(
  plan: UdfPlan,
  identity: VolumeIdentity,
  metadataDigest: Buffer,
  sector: number,
): Buffer {
  const bytes = Buffer.alloc(VDS_BLOCKS * UDF_BLOCK);
  const makers = [
    () => putPrimary(bytes, 0, identity),
    (at: number) => putLogicalVolume(bytes, at, plan),
    (at: number) => putPartition(bytes, at, plan),
    () => ({ tag: TAG_USD, size: USD.size }),
    (at: number) => putVolumeInformation(bytes, at),
    (at: number) => putTrailerInformation(bytes, at, plan, identity, metadataDigest),
  ];
  for (const [i, make] of makers.entries()) {
    const at = i * UDF_BLOCK;
    const { tag, size } = make(at);
    bytes.writeUInt32LE(i, at + PVD.at.VolumeDescriptorSequenceNumber);
    sealTag(bytes, at, tag, size, sector + i);
  }
  sealTag(bytes, makers.length * UDF_BLOCK, TAG_TD, UDF_BLOCK, sector + makers.length);
  return bytes;
}

interface Made {
  readonly tag: number;
  readonly size: number;
}

function putPrimary(bytes: Buffer, base: number, identity: VolumeIdentity): Made {
  const { at } = PVD;
  putDstring(bytes, base + at.VolumeIdentifier, 32, LABEL);
  bytes.writeUInt16LE(1, base + at.VolumeSequenceNumber);
  bytes.writeUInt16LE(1, base + at.MaximumVolumeSequenceNumber);
  bytes.writeUInt16LE(2, base + at.InterchangeLevel);
  bytes.writeUInt16LE(2, base + at.MaximumInterchangeLevel);
  bytes.writeUInt32LE(1, base + at.CharacterSetList);
  bytes.writeUInt32LE(1, base + at.MaximumCharacterSetList);
  // its first 16 characters are the volume's unique number (UDF 2.2.2.5): what blkid calls the UUID
  const number = identity.digest.slice(identity.digest.indexOf(':') + 1).slice(0, 16);
  putDstring(bytes, base + at.VolumeSetIdentifier, 128, `${number}${LABEL}`);
  putCharspec(bytes, base + at.DescriptorCharacterSet);
  putCharspec(bytes, base + at.ExplanatoryCharacterSet);
  putRegid(bytes, base + at.ApplicationIdentifier, VENEER_ID, []);
  writeTimestamp(bytes, base + at.RecordingDateandTime, NO_TIME, 0);
  putRegid(bytes, base + at.ImplementationIdentifier, VENEER_ID, IMPLEMENTATION_SUFFIX);
  return { tag: TAG_PVD, size: PVD.size };
}

function putLogicalVolume(bytes: Buffer, base: number, plan: UdfPlan): Made {
  const { at } = LVD;
  putCharspec(bytes, base + at.DescriptorCharacterSet);
  putDstring(bytes, base + at.LogicalVolumeIdentifier, 128, LABEL);
  bytes.writeUInt32LE(UDF_BLOCK, base + at.LogicalBlockSize);
  putRegid(bytes, base + at.DomainIdentifier, DOMAIN_ID, DOMAIN_SUFFIX);
  putLongAd(bytes, base + at.LogicalVolumeContentsUse, UDF_BLOCK, plan.fsdBlock);
  bytes.writeUInt32LE(PARTITION_MAP_SIZE, base + at.MapTableLength);
  bytes.writeUInt32LE(1, base + at.NumberofPartitionMaps);
  putRegid(bytes, base + at.ImplementationIdentifier, VENEER_ID, IMPLEMENTATION_SUFFIX);
  putExtent(bytes, base + at.IntegritySequenceExtent, 2, plan.origin + plan.lvidBlock);
  bytes[base + at.PartitionMapType] = PARTITION_MAP_TYPE1;
  bytes[base + at.PartitionMapLength] = PARTITION_MAP_SIZE;
  bytes.writeUInt16LE(1, base + at.VolumeSequenceNumber);
  return { tag: TAG_LVD, size: LVD.size };
}

function putPartition(bytes: Buffer, base: number, plan: UdfPlan): Made {
  const { at } = PD;
  bytes.writeUInt16LE(1, base + at.PartitionFlags);
  putRegid(bytes, base + at.PartitionContents, PARTITION_CONTENTS, []);
  bytes.writeUInt32LE(ACCESS_READ_ONLY, base + at.AccessType);
  bytes.writeUInt32LE(plan.origin, base + at.PartitionStartingLocation);
  bytes.writeUInt32LE(plan.vdsBlock, base + at.PartitionLength);
  putRegid(bytes, base + at.ImplementationIdentifier, VENEER_ID, IMPLEMENTATION_SUFFIX);
  return { tag: TAG_PD, size: PD.size };
}

function putVolumeInformation(bytes: Buffer, base: number): Made {
  putRegid(bytes, base + IUVD.at.ImplementationIdentifier, LV_INFO_ID, UDF_SUFFIX);
  const use = base + IUVD.at.ImplementationUse;
  putCharspec(bytes, use + LV_INFO.at.LVICharset);
  putDstring(bytes, use + LV_INFO.at.LogicalVolumeIdentifier, 128, LABEL);
  putRegid(bytes, use + LV_INFO.at.ImplementationID, VENEER_ID, IMPLEMENTATION_SUFFIX);
  return { tag: TAG_IUVD, size: IUVD.size };
}

function putTrailerInformation(
  bytes: Buffer,
  base: number,
  plan: UdfPlan,
  identity: VolumeIdentity,
  metadataDigest: Buffer,
): Made {
  const { options } = plan;
  putRegid(bytes, base + IUVD.at.ImplementationIdentifier, TRAILER_ID, IMPLEMENTATION_SUFFIX);
  const use = base + IUVD.at.ImplementationUse;
  const { at } = TRAILER_INFO;
  bytes.writeUInt16LE(TRAILER_VERSION, use + at.Version);
  const flags =
    (options.names === 'unicode' ? TRAILER_UNICODE_NAMES : 0) |
    (options.whiteouts === 'literal' ? TRAILER_LITERAL_WHITEOUTS : 0) |
    (plan.sources.length > 1 ? TRAILER_FLAT : 0) |
    (options.header ? TRAILER_HEADER : 0);
  bytes.writeUInt16LE(flags, use + at.Flags);
  bytes.writeBigUInt64LE(BigInt(identity.tarLength), use + at.TarLength);
  bytes.write(identity.digest.slice(identity.digest.indexOf(':') + 1), use + at.TarSHA256, 32, 'hex');
  bytes.writeUInt32LE(options.firstBlock, use + at.FirstBlock);
  bytes.writeUInt32LE(plan.vdsBlock - options.firstBlock, use + at.MetadataBlocks);
  metadataDigest.copy(bytes, use + at.MetadataSHA256);
  return { tag: TAG_IUVD, size: IUVD.size };
}

/** The integrity descriptor and its terminator: two blocks. */
export function makeIntegrity(plan: UdfPlan): Buffer {
  const bytes = Buffer.alloc(2 * UDF_BLOCK);
  const { at } = LVID;
  writeTimestamp(bytes, at.RecordingDateAndTime, NO_TIME, 0);
  bytes.writeUInt32LE(INTEGRITY_CLOSE, at.IntegrityType);
  // the next free unique number: we number by block
  bytes.writeBigUInt64LE(BigInt(plan.blocks), at.UniqueID);
  bytes.writeUInt32LE(1, at.NumberOfPartitions);
  bytes.writeUInt32LE(LVID_IMPLEMENTATION_USE, at.LengthOfImplementationUse);
  bytes.writeUInt32LE(plan.vdsBlock, at.Size);
  putRegid(bytes, at.ImplementationID, VENEER_ID, IMPLEMENTATION_SUFFIX);
  bytes.writeUInt32LE(plan.files, at.NumberOfFiles);
  bytes.writeUInt32LE(plan.directories.length, at.NumberOfDirectories);
  for (const field of [
    at.MinimumUDFReadRevision,
    at.MinimumUDFWriteRevision,
    at.MaximumUDFWriteRevision,
  ] as const) {
    bytes.writeUInt16LE(UDF_REVISION, field);
  }
  sealTag(bytes, 0, TAG_LVID, LVID.size, plan.origin + plan.lvidBlock);
  sealTag(bytes, UDF_BLOCK, TAG_TD, UDF_BLOCK, plan.origin + plan.lvidBlock + 1);
  return bytes;
}

/** Blocks that {@link HEADER_BLOCKS} must have room for. */
export const HEADER_USED = HEADER_VDS + VDS_BLOCKS;
if (HEADER_USED > HEADER_BLOCKS) throw new Error('the header extent is too short for its descriptors');
