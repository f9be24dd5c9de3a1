/** Writes what a plan says: file entries and directories, copies, the volume's descriptors, at last the anchor. */
import { createHash } from 'node:crypto';
import { alignUp } from '../bytes/align.ts';
import { putByteString } from '../bytes/byte-string.ts';
import type { ByteSink } from '../bytes/io.ts';
import { fillPiece, type ReadData } from '../tree/file-data.ts';
import {
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFREG,
  S_IFSOCK,
  type TreeNode,
} from '../tree/node.ts';
import {
  HEADER_VDS,
  makeAnchor,
  makeFileSet,
  makeIntegrity,
  makeSequence,
  putLongAd,
  putRegid,
  sealTag,
  type VolumeIdentity,
} from './descriptors.ts';
import { COPIED, type FileRun, HOLE } from './file-map.ts';
import {
  AED,
  ATTRIBUTE_DEVICE,
  DEVICE_ATTRIBUTE_SIZE,
  DEVICE_EA,
  EXTENT_CONTINUED,
  EXTENT_HOLE,
  EXTENT_RECORDED,
  FE,
  FID,
  FID_DIRECTORY,
  FID_PARENT,
  FLAG_AD_IN_ICB,
  FLAG_AD_SHORT,
  FLAG_SETGID,
  FLAG_SETUID,
  FLAG_STICKY,
  HEADER_BLOCKS,
  IMPLEMENTATION_SUFFIX,
  MAX_EXTENT,
  NO_ATTRIBUTES,
  SHORT_AD,
  STANDARD_ANCHOR,
  STRATEGY_4,
  TAG_AED,
  TAG_EAHD,
  TAG_FE,
  TAG_FID,
  TYPE_BLOCK,
  TYPE_CHARACTER,
  TYPE_DIRECTORY,
  TYPE_FIFO,
  TYPE_REGULAR,
  TYPE_SOCKET,
  TYPE_SYMLINK,
  UDF_BLOCK,
  VENEER_ID,
  VRS_IDS,
  VRS_OFFSET,
  VRS_SIZE,
} from './format.ts';
import { encodeName } from './names.ts';
import { attributeBytes, bringsIn, fidSize, IN_AED, IN_FE, type UdfInode, type UdfPlan } from './plan.ts';
import { writeTimestamp } from './timestamps.ts';
import { MAX_LINKS } from './unheld.ts';

/** Metadata goes out in pieces of this size, copies too. Bytes. */
const PIECE = 1 << 20;

const FILE_TYPES: ReadonlyMap<number, number> = new Map([
  [S_IFREG, TYPE_REGULAR],
  [S_IFDIR, TYPE_DIRECTORY],
  [S_IFLNK, TYPE_SYMLINK],
  [S_IFCHR, TYPE_CHARACTER],
  [S_IFBLK, TYPE_BLOCK],
  [S_IFIFO, TYPE_FIFO],
  [S_IFSOCK, TYPE_SOCKET],
]);

/** Hashes and counts what passes by. */
class MeteredSink implements ByteSink {
  readonly #sink: ByteSink;
  readonly #hash = createHash('sha256');

  constructor(sink: ByteSink) {
    this.#sink = sink;
  }

  write(chunk: Buffer, at: number): void {
    this.#hash.update(chunk);
    this.#sink.write(chunk, at);
  }

  digest(): Buffer {
    return this.#hash.digest();
  }
}

export interface WrittenVolume {
  /** `sha256:…` of the metadata, the volume's own descriptors not counted. */
  readonly metadataDigest: string;
  /** The header extent when the plan has one: {@link HEADER_BLOCKS} blocks for the start of the volume. */
  readonly header: Buffer | null;
}

/**
 * Writes everything behind the data, in order, the anchor last and in a write of its own: `commit` is called
 * right before it, and until it is written there is nothing to mount. `at` of the sink counts from the start of
 * the data; `read` fetches what could not be mapped.
 */
export function writeUdf(
  plan: UdfPlan,
  identity: VolumeIdentity,
  sink: ByteSink,
  read: ReadData,
  commit: () => void = () => {},
): WrittenVolume {
  const metered = new MeteredSink(sink);
  writeInodes(plan, metered);
  writeCopies(plan, metered, read);
  metered.write(makeFileSet(plan), plan.fsdBlock * UDF_BLOCK);
  const digest = metered.digest();
  sink.write(makeSequence(plan, identity, digest, plan.origin + plan.vdsBlock), plan.vdsBlock * UDF_BLOCK);
  sink.write(makeIntegrity(plan), plan.lvidBlock * UDF_BLOCK);
  commit();
  sink.write(makeAnchor(plan, plan.origin + plan.anchorBlock), plan.anchorBlock * UDF_BLOCK);
  return {
    metadataDigest: `sha256:${digest.toString('hex')}`,
    header: plan.options.header ? makeHeader(plan, identity, digest) : null,
  };
}

function makeHeader(plan: UdfPlan, identity: VolumeIdentity, metadataDigest: Buffer): Buffer {
  const bytes = Buffer.alloc(HEADER_BLOCKS * UDF_BLOCK);
  for (const [i, id] of VRS_IDS.entries()) {
    // structure type 0, standard identifier, structure version 1 (2/9.1)
    putByteString(bytes, VRS_OFFSET + i * VRS_SIZE + 1, id);
    bytes[VRS_OFFSET + i * VRS_SIZE + 1 + id.length] = 1;
  }
  makeAnchor(plan, STANDARD_ANCHOR).copy(bytes, STANDARD_ANCHOR * UDF_BLOCK);
  makeSequence(plan, identity, metadataDigest, HEADER_VDS).copy(bytes, HEADER_VDS * UDF_BLOCK);
  return bytes;
}

/** Collects consecutive blocks into large writes. */
class BlockWriter {
  readonly #sink: ByteSink;
  #bytes = Buffer.alloc(PIECE);
  #used = 0;
  /** Byte offset in the volume of the buffer's start. */
  #at: number;

  constructor(sink: ByteSink, block: number) {
    this.#sink = sink;
    this.#at = block * UDF_BLOCK;
  }

  get bytes(): Buffer {
    return this.#bytes;
  }

  /** `count` zeroed blocks behind the last ones; returns their offset in {@link bytes}. */
  take(count: number): number {
    const need = count * UDF_BLOCK;
    if (this.#used + need > this.#bytes.length) {
      this.flush();
      if (need > this.#bytes.length) this.#bytes = Buffer.alloc(need);
    }
    const at = this.#used;
    this.#bytes.fill(0, at, at + need);
    this.#used += need;
    return at;
  }

  flush(): void {
    if (this.#used > 0) this.#sink.write(this.#bytes.subarray(0, this.#used), this.#at);
    this.#at += this.#used;
    this.#used = 0;
    if (this.#bytes.length > PIECE) this.#bytes = Buffer.alloc(PIECE);
  }
}

function writeInodes(plan: UdfPlan, sink: ByteSink): void {
  const writer = new BlockWriter(sink, plan.options.firstBlock);
  writeInode(writer, plan, plan.directories[0]!);
  for (const directory of plan.directories) {
    if (directory.contentBlock >= 0) {
      const at = writer.take(Math.ceil(directory.size / UDF_BLOCK));
      writeDirectory(writer.bytes, at, plan, directory);
    }
    for (const [i, kid] of directory.kids!.entries()) {
      if (!bringsIn(directory, i)) continue;
      writeInode(writer, plan, kid);
      if (kid.target !== '' && kid.contentBlock >= 0) {
        putByteString(writer.bytes, writer.take(Math.ceil(kid.size / UDF_BLOCK)), kid.target);
      }
    }
  }
  writer.flush();
}

/** The constant part of every file entry. */
const TEMPLATE = makeTemplate();

function makeTemplate(): Buffer {
  const bytes = Buffer.alloc(FE.size);
  bytes.writeUInt16LE(STRATEGY_4, FE.at.StrategyType);
  bytes.writeUInt16LE(1, FE.at.MaximumNumberofEntries);
  bytes.writeUInt32LE(1, FE.at.Checkpoint);
  putRegid(bytes, FE.at.ImplementationIdentifier, VENEER_ID, IMPLEMENTATION_SUFFIX);
  return bytes;
}

/** File entry with what stands behind it, and further blocks of allocation descriptors. */
function writeInode(writer: BlockWriter, plan: UdfPlan, inode: UdfInode): void {
  const continuations = inode.continuations;
  const base = writer.take(1 + continuations);
  const { bytes } = writer;
  const { node } = inode;
  const { at } = FE;
  TEMPLATE.copy(bytes, base);
  const inIcb = (inode.kids !== null || inode.target !== '') && inode.contentBlock < 0;
  bytes[base + at.FileType] = FILE_TYPES.get(inode.type)!;
  bytes.writeUInt16LE((inIcb ? FLAG_AD_IN_ICB : FLAG_AD_SHORT) | modeFlags(node), base + at.Flags);
  bytes.writeUInt32LE(node.uid, base + at.Uid);
  bytes.writeUInt32LE(node.gid, base + at.Gid);
  bytes.writeUInt32LE(permissions(node), base + at.Permissions);
  bytes.writeUInt16LE(Math.min(inode.nlink, MAX_LINKS), base + at.FileLinkCount);
  putSize(bytes, base + at.InformationLength, inode.size);
  putSize(bytes, base + at.LogicalBlocksRecorded, recordedBlocks(inode));
  writeTimestamp(bytes, base + at.AccessDateandTime, node.mtime, node.mtimeNsec);
  for (const field of [at.ModificationDateandTime, at.AttributeDateandTime] as const) {
    bytes.copyWithin(base + field, base + at.AccessDateandTime, base + at.ModificationDateandTime);
  }
  // the root's is 0 (UDF 3.2.1.1)
  bytes.writeUInt32LE(inode.parent === null ? 0 : inode.block, base + at.UniqueID);
  const attributes = attributeBytes(inode);
  if (attributes > 0) writeDevice(bytes, base + FE.size, inode);
  bytes.writeUInt32LE(attributes, base + at.LengthofExtendedAttributes);

  const room = base + FE.size + attributes;
  let length = 0;
  if (inIcb) {
    length = inode.size;
    if (inode.kids !== null) writeDirectory(bytes, room, plan, inode);
    else putByteString(bytes, room, inode.target);
  } else {
    length = SHORT_AD.size * writeDescriptors(bytes, room, base, inode);
  }
  bytes.writeUInt32LE(length, base + at.LengthofAllocationDescriptors);
  sealTag(bytes, base, TAG_FE, FE.size + attributes + length, inode.block);
}

function modeFlags({ mode }: TreeNode): number {
  return (
    ((mode & 0o4000) !== 0 ? FLAG_SETUID : 0) |
    ((mode & 0o2000) !== 0 ? FLAG_SETGID : 0) |
    ((mode & 0o1000) !== 0 ? FLAG_STICKY : 0)
  );
}

/** 4/14.9.5: three groups of five bits, of which the lower three are the mode's. */
function permissions({ mode }: TreeNode): number {
  return (mode & 0o7) | ((mode & 0o70) << 2) | ((mode & 0o700) << 4);
}

function recordedBlocks(inode: UdfInode): number {
  if (inode.map !== null) return inode.map.recorded;
  return inode.contentBlock < 0 ? 0 : Math.ceil(inode.size / UDF_BLOCK);
}

/** A safe integer as 64 bits. */
function putSize(bytes: Buffer, at: number, value: number): void {
  bytes.writeUInt32LE(value % 2 ** 32, at);
  bytes.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}

function writeDevice(bytes: Buffer, base: number, inode: UdfInode): void {
  const { at } = DEVICE_EA;
  bytes.writeUInt32LE(NO_ATTRIBUTES, base + at.ImplementationAttributesLocation);
  bytes.writeUInt32LE(NO_ATTRIBUTES, base + at.ApplicationAttributesLocation);
  sealTag(bytes, base, TAG_EAHD, at.AttributeType, inode.block);
  bytes.writeUInt32LE(ATTRIBUTE_DEVICE, base + at.AttributeType);
  bytes[base + at.AttributeSubtype] = 1;
  bytes.writeUInt32LE(DEVICE_ATTRIBUTE_SIZE, base + at.AttributeLength);
  bytes.writeUInt32LE(inode.node.devMajor, base + at.MajorDeviceIdentification);
  bytes.writeUInt32LE(inode.node.devMinor, base + at.MinorDeviceIdentification);
}

/**
 * Allocation descriptors from `room` on, and in the blocks behind the file entry at `base` when they are too
 * many. Returns how many stand in the file entry.
 */
function writeDescriptors(bytes: Buffer, room: number, base: number, inode: UdfInode): number {
  const blocks = inode.continuations;
  let at = room;
  let places = blocks === 0 ? IN_FE : IN_FE - 1;
  let page = 0;
  let inFe = 0;
  let used = 0;
  const put = (type: number, length: number, block: number): void => {
    // the top two bits are the type
    bytes.writeUInt32LE(type * 2 ** 30 + length, at + SHORT_AD.at.ExtentLength);
    bytes.writeUInt32LE(block, at + SHORT_AD.at.ExtentPosition);
    at += SHORT_AD.size;
    used++;
  };
  const closePage = (): void => {
    if (page === 0) inFe = used;
    else sealPage(bytes, base + page * UDF_BLOCK, inode.block + page, used);
  };
  for (const { kind, length, block } of placedRuns(inode)) {
    for (let done = 0; done < length; done += MAX_EXTENT) {
      if (used === places) {
        put(EXTENT_CONTINUED, UDF_BLOCK, inode.block + page + 1);
        closePage();
        page++;
        at = base + page * UDF_BLOCK + AED.size;
        used = 0;
        places = page === blocks ? IN_AED : IN_AED - 1;
      }
      const hole = kind === HOLE;
      put(
        hole ? EXTENT_HOLE : EXTENT_RECORDED,
        Math.min(MAX_EXTENT, length - done),
        hole ? 0 : block + done / UDF_BLOCK,
      );
    }
  }
  closePage();
  return inFe;
}

/** The runs of an inode's content with blocks of the volume. */
function placedRuns(inode: UdfInode): readonly Pick<FileRun, 'kind' | 'length' | 'block'>[] {
  if (inode.contentBlock >= 0) return [{ kind: COPIED, length: inode.size, block: inode.contentBlock }];
  if (inode.map === null) return [];
  if (inode.map.copied === 0) return inode.map.runs;
  return inode.map.runs.map(({ kind, length, block }) => ({
    kind,
    length,
    block: kind === COPIED ? inode.copyBlock + block : block,
  }));
}

function sealPage(bytes: Buffer, base: number, block: number, used: number): void {
  bytes.writeUInt32LE(block - 1, base + AED.at.PreviousAllocationExtentLocation);
  bytes.writeUInt32LE(used * SHORT_AD.size, base + AED.at.LengthofAllocationDescriptors);
  sealTag(bytes, base, TAG_AED, AED.size + used * SHORT_AD.size, block);
}

/** All file identifiers of a directory, the parent's first. */
function writeDirectory(bytes: Buffer, start: number, plan: UdfPlan, directory: UdfInode): void {
  const first = directory.contentBlock >= 0 ? directory.contentBlock : directory.block;
  const stands = (at: number): number =>
    directory.contentBlock >= 0 ? first + Math.floor((at - start) / UDF_BLOCK) : first;
  const parent = directory.parent ?? directory;
  let at = writeFid(bytes, start, '', FID_DIRECTORY | FID_PARENT, parent, first);
  for (const [i, kid] of directory.kids!.entries()) {
    const name = encodeName(directory.names![i]!, plan.options.names);
    at = writeFid(bytes, at, name, kid.kids === null ? 0 : FID_DIRECTORY, kid, stands(at));
  }
}

/** Returns the offset behind it. */
function writeFid(
  bytes: Buffer,
  base: number,
  name: string,
  characteristics: number,
  inode: UdfInode,
  block: number,
): number {
  const size = fidSize(name.length);
  bytes.writeUInt16LE(1, base + FID.at.FileVersionNumber);
  bytes[base + FID.at.FileCharacteristics] = characteristics;
  bytes[base + FID.at.LengthofFileIdentifier] = name.length;
  putLongAd(bytes, base + FID.at.ICB, UDF_BLOCK, inode.block);
  putByteString(bytes, base + FID.size, name);
  sealTag(bytes, base, TAG_FID, size, block);
  return base + size;
}

/** Data that could not be mapped. */
function writeCopies(plan: UdfPlan, sink: ByteSink, read: ReadData): void {
  for (const inode of plan.copied) {
    let offset = 0;
    for (const { kind, length, block } of inode.map!.runs) {
      if (kind === COPIED) {
        const whole = alignUp(length, UDF_BLOCK);
        for (let done = 0; done < whole; done += PIECE) {
          const piece = Buffer.allocUnsafe(Math.min(PIECE, whole - done));
          fillPiece(inode.node, offset + done, piece, read);
          sink.write(piece, (inode.copyBlock + block) * UDF_BLOCK + done);
        }
      }
      offset += length;
    }
  }
}
