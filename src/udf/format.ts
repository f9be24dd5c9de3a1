/**
 * The UDF on-disk format as far as it is written here: structs and constants, named as in
 * ECMA-167 (3rd edition; `PART/SECTION` below) and in OSTA UDF 1.50. Little-endian throughout.
 */
import { defineStruct } from '../bytes/struct.ts';

/** Logical block and sector size: a tar's own record size, so that every file's data begins a block. */
export const UDF_BLOCK = 512;

/** Blocks of the header extent: system area, volume recognition sequence, anchor, descriptors; 4096-byte aligned. */
export const HEADER_BLOCKS = 280;

/** `tag`, 3/7.2 and 4/7.2: at the start of every descriptor. */
export const TAG = defineStruct('tag', 16, [
  ['TagIdentifier', 0, 2],
  ['DescriptorVersion', 2, 2],
  ['TagChecksum', 4, 1],
  ['Reserved', 5, 1],
  ['TagSerialNumber', 6, 2],
  ['DescriptorCRC', 8, 2],
  ['DescriptorCRCLength', 10, 2],
  ['TagLocation', 12, 4],
]);

/** Tag identifiers, 3/7.2.1 and 4/7.2.1. */
export const TAG_PVD = 1;
export const TAG_AVDP = 2;
export const TAG_IUVD = 4;
export const TAG_PD = 5;
export const TAG_LVD = 6;
export const TAG_USD = 7;
export const TAG_TD = 8;
export const TAG_LVID = 9;
export const TAG_FSD = 0x100;
export const TAG_FID = 0x101;
export const TAG_AED = 0x102;
export const TAG_FE = 0x105;
export const TAG_EAHD = 0x106;
/** Descriptors of NSR02, 3/7.2.2. */
export const DESCRIPTOR_VERSION = 2;

/** `AnchorVolumeDescriptorPointer`, 3/10.2. */
export const AVDP = defineStruct('AnchorVolumeDescriptorPointer', 512, [
  ['DescriptorTag', 0, 16],
  ['MainVolumeDescriptorSequenceExtent', 16, 8],
  ['ReserveVolumeDescriptorSequenceExtent', 24, 8],
  ['Reserved', 32, 480],
]);

/** `PrimaryVolumeDescriptor`, 3/10.1. */
export const PVD = defineStruct('PrimaryVolumeDescriptor', 512, [
  ['DescriptorTag', 0, 16],
  ['VolumeDescriptorSequenceNumber', 16, 4],
  ['PrimaryVolumeDescriptorNumber', 20, 4],
  ['VolumeIdentifier', 24, 32],
  ['VolumeSequenceNumber', 56, 2],
  ['MaximumVolumeSequenceNumber', 58, 2],
  ['InterchangeLevel', 60, 2],
  ['MaximumInterchangeLevel', 62, 2],
  ['CharacterSetList', 64, 4],
  ['MaximumCharacterSetList', 68, 4],
  ['VolumeSetIdentifier', 72, 128],
  ['DescriptorCharacterSet', 200, 64],
  ['ExplanatoryCharacterSet', 264, 64],
  ['VolumeAbstract', 328, 8],
  ['VolumeCopyrightNotice', 336, 8],
  ['ApplicationIdentifier', 344, 32],
  ['RecordingDateandTime', 376, 12],
  ['ImplementationIdentifier', 388, 32],
  ['ImplementationUse', 420, 64],
  ['PredecessorVolumeDescriptorSequenceLocation', 484, 4],
  ['Flags', 488, 2],
  ['Reserved', 490, 22],
]);

/** `ImplementationUseVolumeDescriptor`, 3/10.4. */
export const IUVD = defineStruct('ImplementationUseVolumeDescriptor', 512, [
  ['DescriptorTag', 0, 16],
  ['VolumeDescriptorSequenceNumber', 16, 4],
  ['ImplementationIdentifier', 20, 32],
  ['ImplementationUse', 52, 460],
]);

/** Implementation use of `*UDF LV Info`, UDF 2.2.7.2; offsets from the start of the descriptor. */
export const LV_INFO = defineStruct('LVInformation', 460, [
  ['LVICharset', 0, 64],
  ['LogicalVolumeIdentifier', 64, 128],
  ['LVInfo1', 192, 36],
  ['LVInfo2', 228, 36],
  ['LVInfo3', 264, 36],
  ['ImplementationID', 300, 32],
  ['ImplementationUse', 332, 128],
]);

/** Our own implementation use of {@link TRAILER_ID}: what the trailer was made for. */
export const TRAILER_INFO = defineStruct('veneer trailer', 460, [
  ['Version', 0, 2],
  ['Flags', 2, 2],
  ['Reserved', 4, 4],
  ['TarLength', 8, 8],
  ['TarSHA256', 16, 32],
  ['FirstBlock', 48, 4],
  ['MetadataBlocks', 52, 4],
  ['MetadataSHA256', 56, 32],
  ['Reserved2', 88, 372],
]);
export const TRAILER_VERSION = 1;
export const TRAILER_UNICODE_NAMES = 1;
export const TRAILER_LITERAL_WHITEOUTS = 2;
/** The data are several tars; `TarSHA256` is then a digest of their digests. */
export const TRAILER_FLAT = 4;
/** There is a header extent in front. */
export const TRAILER_HEADER = 8;
export const TRAILER_KNOWN_FLAGS = 15;

/** `PartitionDescriptor`, 3/10.5. */
export const PD = defineStruct('PartitionDescriptor', 512, [
  ['DescriptorTag', 0, 16],
  ['VolumeDescriptorSequenceNumber', 16, 4],
  ['PartitionFlags', 20, 2],
  ['PartitionNumber', 22, 2],
  ['PartitionContents', 24, 32],
  ['PartitionContentsUse', 56, 128],
  ['AccessType', 184, 4],
  ['PartitionStartingLocation', 188, 4],
  ['PartitionLength', 192, 4],
  ['ImplementationIdentifier', 196, 32],
  ['ImplementationUse', 228, 128],
  ['Reserved', 356, 156],
]);
/** `AccessType` read-only, 3/10.5.7. */
export const ACCESS_READ_ONLY = 1;

/** `LogicalVolumeDescriptor`, 3/10.6, with one type 1 partition map, 3/10.7.2. */
export const LVD = defineStruct('LogicalVolumeDescriptor', 446, [
  ['DescriptorTag', 0, 16],
  ['VolumeDescriptorSequenceNumber', 16, 4],
  ['DescriptorCharacterSet', 20, 64],
  ['LogicalVolumeIdentifier', 84, 128],
  ['LogicalBlockSize', 212, 4],
  ['DomainIdentifier', 216, 32],
  ['LogicalVolumeContentsUse', 248, 16],
  ['MapTableLength', 264, 4],
  ['NumberofPartitionMaps', 268, 4],
  ['ImplementationIdentifier', 272, 32],
  ['ImplementationUse', 304, 128],
  ['IntegritySequenceExtent', 432, 8],
  ['PartitionMapType', 440, 1],
  ['PartitionMapLength', 441, 1],
  ['VolumeSequenceNumber', 442, 2],
  ['PartitionNumber', 444, 2],
]);
export const PARTITION_MAP_TYPE1 = 1;
export const PARTITION_MAP_SIZE = 6;

/** `UnallocatedSpaceDescriptor`, 3/10.8, without allocation descriptors. */
export const USD = defineStruct('UnallocatedSpaceDescriptor', 24, [
  ['DescriptorTag', 0, 16],
  ['VolumeDescriptorSequenceNumber', 16, 4],
  ['NumberofAllocationDescriptors', 20, 4],
]);

/** `LogicalVolumeIntegrityDescriptor`, 3/10.10, for one partition, with UDF's implementation use (2.2.6.4). */
export const LVID = defineStruct('LogicalVolumeIntegrityDescriptor', 134, [
  ['DescriptorTag', 0, 16],
  ['RecordingDateAndTime', 16, 12],
  ['IntegrityType', 28, 4],
  ['NextIntegrityExtent', 32, 8],
  ['UniqueID', 40, 8],
  ['LogicalVolumeContentsUse', 48, 24],
  ['NumberOfPartitions', 72, 4],
  ['LengthOfImplementationUse', 76, 4],
  ['FreeSpace', 80, 4],
  ['Size', 84, 4],
  ['ImplementationID', 88, 32],
  ['NumberOfFiles', 120, 4],
  ['NumberOfDirectories', 124, 4],
  ['MinimumUDFReadRevision', 128, 2],
  ['MinimumUDFWriteRevision', 130, 2],
  ['MaximumUDFWriteRevision', 132, 2],
]);
export const LVID_IMPLEMENTATION_USE = 46;
/** `IntegrityType` close, 3/10.10.3. */
export const INTEGRITY_CLOSE = 1;

/** `FileSetDescriptor`, 4/14.1. */
export const FSD = defineStruct('FileSetDescriptor', 512, [
  ['DescriptorTag', 0, 16],
  ['RecordingDateandTime', 16, 12],
  ['InterchangeLevel', 28, 2],
  ['MaximumInterchangeLevel', 30, 2],
  ['CharacterSetList', 32, 4],
  ['MaximumCharacterSetList', 36, 4],
  ['FileSetNumber', 40, 4],
  ['FileSetDescriptorNumber', 44, 4],
  ['LogicalVolumeIdentifierCharacterSet', 48, 64],
  ['LogicalVolumeIdentifier', 112, 128],
  ['FileSetCharacterSet', 240, 64],
  ['FileSetIdentifier', 304, 32],
  ['CopyrightFileIdentifier', 336, 32],
  ['AbstractFileIdentifier', 368, 32],
  ['RootDirectoryICB', 400, 16],
  ['DomainIdentifier', 416, 32],
  ['NextExtent', 448, 16],
  ['SystemStreamDirectoryICB', 464, 16],
  ['Reserved', 480, 32],
]);

/** `FileEntry`, 4/14.9, its ICB tag (4/14.6) spelled out; extended attributes and allocation descriptors follow. */
export const FE = defineStruct('FileEntry', 176, [
  ['DescriptorTag', 0, 16],
  ['PriorRecordedNumberofDirectEntries', 16, 4],
  ['StrategyType', 20, 2],
  ['StrategyParameter', 22, 2],
  ['MaximumNumberofEntries', 24, 2],
  ['Reserved', 26, 1],
  ['FileType', 27, 1],
  ['ParentICBLocation', 28, 6],
  ['Flags', 34, 2],
  ['Uid', 36, 4],
  ['Gid', 40, 4],
  ['Permissions', 44, 4],
  ['FileLinkCount', 48, 2],
  ['RecordFormat', 50, 1],
  ['RecordDisplayAttributes', 51, 1],
  ['RecordLength', 52, 4],
  ['InformationLength', 56, 8],
  ['LogicalBlocksRecorded', 64, 8],
  ['AccessDateandTime', 72, 12],
  ['ModificationDateandTime', 84, 12],
  ['AttributeDateandTime', 96, 12],
  ['Checkpoint', 108, 4],
  ['ExtendedAttributeICB', 112, 16],
  ['ImplementationIdentifier', 128, 32],
  ['UniqueID', 160, 8],
  ['LengthofExtendedAttributes', 168, 4],
  ['LengthofAllocationDescriptors', 172, 4],
]);
/** Bytes behind a file entry in its block. */
export const FE_ROOM = UDF_BLOCK - FE.size;
/** One direct entry, 4/A.5. */
export const STRATEGY_4 = 4;

/** `FileType` of the ICB tag, 4/14.6.6. */
export const TYPE_DIRECTORY = 4;
export const TYPE_REGULAR = 5;
export const TYPE_BLOCK = 6;
export const TYPE_CHARACTER = 7;
export const TYPE_FIFO = 9;
export const TYPE_SOCKET = 10;
export const TYPE_SYMLINK = 12;

/** `Flags` of the ICB tag, 4/14.6.8: how the allocation descriptors look, and three mode bits. */
export const FLAG_AD_MASK = 7;
export const FLAG_AD_SHORT = 0;
export const FLAG_AD_IN_ICB = 3;
export const FLAG_SETUID = 0x40;
export const FLAG_SETGID = 0x80;
export const FLAG_STICKY = 0x100;

/** `FileIdentifierDescriptor`, 4/14.4; implementation use and the name follow, padded to 4 bytes. */
export const FID = defineStruct('FileIdentifierDescriptor', 38, [
  ['DescriptorTag', 0, 16],
  ['FileVersionNumber', 16, 2],
  ['FileCharacteristics', 18, 1],
  ['LengthofFileIdentifier', 19, 1],
  ['ICB', 20, 16],
  ['LengthofImplementationUse', 36, 2],
]);
/** `FileCharacteristics`, 4/14.4.3. */
export const FID_DIRECTORY = 2;
export const FID_DELETED = 4;
export const FID_PARENT = 8;

/** `long_ad`, 4/14.14.2. */
export const LONG_AD = defineStruct('long_ad', 16, [
  ['ExtentLength', 0, 4],
  ['LogicalBlockNumber', 4, 4],
  ['PartitionReferenceNumber', 8, 2],
  ['ImplementationUse', 10, 6],
]);

/** `extent_ad`, 3/7.1. */
export const EXTENT_AD = defineStruct('extent_ad', 8, [
  ['ExtentLength', 0, 4],
  ['ExtentLocation', 4, 4],
]);

/** `short_ad`, 4/14.14.1: bits 30 and 31 of the length are the type of the extent. */
export const SHORT_AD = defineStruct('short_ad', 8, [
  ['ExtentLength', 0, 4],
  ['ExtentPosition', 4, 4],
]);
export const EXTENT_LENGTH_MASK = 0x3fffffff;
export const EXTENT_RECORDED = 0;
/** Neither recorded nor allocated: reads as zeros. */
export const EXTENT_HOLE = 2;
/** The extent is an allocation extent descriptor with the descriptors that follow. */
export const EXTENT_CONTINUED = 3;
/** Longest extent of whole blocks, bytes. */
export const MAX_EXTENT = EXTENT_LENGTH_MASK - (EXTENT_LENGTH_MASK % UDF_BLOCK);

/** `AllocationExtentDescriptor`, 4/14.5; allocation descriptors follow. */
export const AED = defineStruct('AllocationExtentDescriptor', 24, [
  ['DescriptorTag', 0, 16],
  ['PreviousAllocationExtentLocation', 16, 4],
  ['LengthofAllocationDescriptors', 20, 4],
]);

/** `ExtendedAttributeHeaderDescriptor`, 4/14.10.1, and behind it the `DeviceSpecification` attribute, 4/14.10.7. */
export const DEVICE_EA = defineStruct('DeviceSpecificationExtendedAttribute', 48, [
  ['DescriptorTag', 0, 16],
  ['ImplementationAttributesLocation', 16, 4],
  ['ApplicationAttributesLocation', 20, 4],
  ['AttributeType', 24, 4],
  ['AttributeSubtype', 28, 1],
  ['Reserved', 29, 3],
  ['AttributeLength', 32, 4],
  ['ImplementationUseLength', 36, 4],
  ['MajorDeviceIdentification', 40, 4],
  ['MinorDeviceIdentification', 44, 4],
]);
export const ATTRIBUTE_DEVICE = 12;
export const DEVICE_ATTRIBUTE_SIZE = 24;
export const NO_ATTRIBUTES = 0xffffffff;

/** `pathcomponent` of a symbolic link's data, 4/14.16.1; the component's d-characters follow. */
export const PATH_COMPONENT = defineStruct('pathcomponent', 4, [
  ['ComponentType', 0, 1],
  ['LengthofComponentIdentifier', 1, 1],
  ['ComponentFileVersionNumber', 2, 2],
]);
export const COMPONENT_ROOT = 2;
export const COMPONENT_PARENT = 3;
export const COMPONENT_SELF = 4;
export const COMPONENT_NAME = 5;

/** `timestamp`, 1/7.3. */
export const TIMESTAMP = defineStruct('timestamp', 12, [
  ['TypeAndTimezone', 0, 2],
  ['Year', 2, 2],
  ['Month', 4, 1],
  ['Day', 5, 1],
  ['Hour', 6, 1],
  ['Minute', 7, 1],
  ['Second', 8, 1],
  ['Centiseconds', 9, 1],
  ['HundredsofMicroseconds', 10, 1],
  ['Microseconds', 11, 1],
]);
/** Local time with offset 0: UTC. */
export const TIMESTAMP_UTC = 0x1000;

/** `regid`, 1/7.4. */
export const REGID = defineStruct('regid', 32, [
  ['Flags', 0, 1],
  ['Identifier', 1, 23],
  ['IdentifierSuffix', 24, 8],
]);
export const DOMAIN_ID = '*OSTA UDF Compliant';
/** UDF 1.50, hard and soft write protect (UDF 2.1.4.3). */
export const DOMAIN_SUFFIX = [0x50, 0x01, 0x03] as const;
export const UDF_REVISION = 0x0150;
export const LV_INFO_ID = '*UDF LV Info';
/** UDF 1.50, then operating system class UNIX, Linux (UDF 6.3). */
export const UDF_SUFFIX = [0x50, 0x01, 0x04, 0x05] as const;
export const VENEER_ID = '*veneer';
export const TRAILER_ID = '*veneer trailer';
export const IMPLEMENTATION_SUFFIX = [0x04, 0x05] as const;
export const PARTITION_CONTENTS = '+NSR02';

/** OSTA CS0: one byte that says how many bits a character has, then the characters (UDF 2.1.1). */
export const CHARSPEC_INFO = 'OSTA Compressed Unicode';
export const CHARSPEC_SIZE = 64;
export const CS0_8_BIT = 8;
export const CS0_16_BIT = 16;

/** Volume recognition sequence, 2/8.3 and 2/9.1: descriptors of 2048 bytes from byte 32768 on. */
export const VRS_OFFSET = 32768;
export const VRS_SIZE = 2048;
export const VRS_IDS = ['BEA01', 'NSR02', 'TEA01'] as const;
/** The one place of an anchor that needs no telling, 3/8.4.2.1. */
export const STANDARD_ANCHOR = 256;
/** Least length of a volume descriptor sequence, blocks, 3/8.4.2. */
export const VDS_BLOCKS = 16;
