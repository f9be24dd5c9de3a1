/**
 * Reads a volume that {@link writeUdf} wrote back into a tree. Everything is checked before it is used: the
 * bytes may be anybody's.
 */
import type { ByteSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import {
  type Extent,
  type FileTree,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  TreeNode,
} from '../tree/node.ts';
import { joinPath, showPath } from '../tree/path.ts';
import { OPAQUE_MARKER, parseWhiteout, WHITEOUT_PREFIX } from '../tree/whiteout.ts';
import { MAX_DESCRIPTORS } from './file-map.ts';
import {
  AED,
  ATTRIBUTE_DEVICE,
  DEVICE_EA,
  EXTENT_CONTINUED,
  EXTENT_HOLE,
  EXTENT_LENGTH_MASK,
  EXTENT_RECORDED,
  FE,
  FE_ROOM,
  FID,
  FID_DELETED,
  FID_PARENT,
  FLAG_AD_IN_ICB,
  FLAG_AD_MASK,
  FLAG_AD_SHORT,
  FLAG_SETGID,
  FLAG_SETUID,
  FLAG_STICKY,
  FSD,
  LONG_AD,
  LVD,
  PD,
  SHORT_AD,
  TAG_AED,
  TAG_FE,
  TAG_FID,
  TAG_FSD,
  TAG_LVD,
  TAG_PD,
  TYPE_BLOCK,
  TYPE_CHARACTER,
  TYPE_DIRECTORY,
  TYPE_FIFO,
  TYPE_REGULAR,
  TYPE_SOCKET,
  TYPE_SYMLINK,
  UDF_BLOCK,
  VDS_BLOCKS,
} from './format.ts';
import { decodeName, decodeTarget } from './names.ts';
import { readTimestamp } from './timestamps.ts';
import { findTrailer, type Trailer, tagIsSound } from './trailer.ts';

const TYPES: ReadonlyMap<number, number> = new Map([
  [TYPE_REGULAR, S_IFREG],
  [TYPE_DIRECTORY, S_IFDIR],
  [TYPE_SYMLINK, S_IFLNK],
  [TYPE_CHARACTER, S_IFCHR],
  [TYPE_BLOCK, S_IFBLK],
  [TYPE_FIFO, S_IFIFO],
  [TYPE_SOCKET, S_IFSOCK],
]);

/** Names of one volume, all directories together. */
const MAX_NAMES = 64_000_000;
const MAX_DEPTH = 4096;

/** A run of content: `block` -1 is a hole. */
export interface UdfRun {
  readonly offset: number;
  readonly length: number;
  readonly block: number;
}

/** A file entry as it stands on disk. */
export interface UdfEntry {
  readonly block: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  readonly size: number;
  readonly recorded: number;
  readonly mtime: number;
  readonly mtimeNsec: number;
  readonly devMajor: number;
  readonly devMinor: number;
  /** Content that stands in the file entry itself, else null. */
  readonly inline: Buffer | null;
  readonly runs: readonly UdfRun[];
  /** Blocks of further allocation descriptors. */
  readonly continuations: number;
}

export class UdfReader {
  readonly trailer: Trailer;
  readonly rootBlock: number;
  readonly #source: ByteSource;
  /** Blocks of the partition. */
  readonly #blocks: number;

  /**
   * `source`: the whole volume. Throws `udf/no-trailer` when it does not end in a trailer, `udf/corrupt` when
   * that or the volume's descriptors are damaged.
   */
  constructor(source: ByteSource) {
    const trailer = findTrailer(source);
    if (trailer === null) {
      throw new VeneerError('udf/no-trailer', 'Cannot read the volume: it does not end in a UDF trailer', {
        hint: 'veneer index --format udf TAR appends one',
      });
    }
    this.trailer = trailer;
    this.#source = source;
    this.#blocks = trailer.vdsBlock;
    const sequence = source.read((trailer.origin + trailer.vdsBlock) * UDF_BLOCK, VDS_BLOCKS * UDF_BLOCK);
    this.#checkPartition(sequence);
    this.rootBlock = this.#findRoot(sequence);
  }

  /** The descriptor `identifier` of the sequence, where it stands in `sequence`. */
  #findDescriptor(sequence: Buffer, identifier: number, what: string): number {
    const { origin, vdsBlock } = this.trailer;
    for (let i = 0; i < VDS_BLOCKS; i++) {
      if (tagIsSound(sequence, i * UDF_BLOCK, identifier, origin + vdsBlock + i)) return i * UDF_BLOCK;
    }
    throw new VeneerError('udf/corrupt', `Cannot read the volume: it has no ${what} descriptor`);
  }

  #checkPartition(sequence: Buffer): void {
    const at = this.#findDescriptor(sequence, TAG_PD, 'partition');
    const start = sequence.readUInt32LE(at + PD.at.PartitionStartingLocation);
    const length = sequence.readUInt32LE(at + PD.at.PartitionLength);
    if (start !== this.trailer.origin || length !== this.#blocks) {
      throw new VeneerError(
        'udf/unsupported',
        `Cannot read the volume: its partition is ${length} sectors from ${start} on, not ${this.#blocks} from ${this.trailer.origin} on`,
      );
    }
  }

  #findRoot(sequence: Buffer): number {
    const at = this.#findDescriptor(sequence, TAG_LVD, 'logical volume');
    const use = at + LVD.at.LogicalVolumeContentsUse;
    const block = sequence.readUInt32LE(use + LONG_AD.at.LogicalBlockNumber);
    const bytes = this.#readBlocks(block, 1, 'the file set');
    if (!tagIsSound(bytes, 0, TAG_FSD, block)) {
      throw new VeneerError('udf/corrupt', `Cannot read the file set at block ${block}: it is damaged`);
    }
    return bytes.readUInt32LE(FSD.at.RootDirectoryICB + LONG_AD.at.LogicalBlockNumber);
  }

  #readBlocks(block: number, count: number, what: string): Buffer {
    if (block + count > this.#blocks) {
      throw new VeneerError(
        'udf/corrupt',
        `Cannot read ${what}: blocks ${block} to ${block + count} are past the partition's ${this.#blocks}`,
      );
    }
    return this.#source.read((this.trailer.origin + block) * UDF_BLOCK, count * UDF_BLOCK);
  }

  /** Throws `udf/corrupt`, `udf/unsupported`. */
  readEntry(block: number): UdfEntry {
    const fail = (reason: string): never => {
      throw new VeneerError('udf/corrupt', `Cannot read the file entry at block ${block}: ${reason}`);
    };
    const bytes = this.#readBlocks(block, 1, 'a file entry');
    if (!tagIsSound(bytes, 0, TAG_FE, block)) fail('its tag is wrong');
    const { at } = FE;
    const flags = bytes.readUInt16LE(at.Flags);
    const attributes = bytes.readUInt32LE(at.LengthofExtendedAttributes);
    const descriptors = bytes.readUInt32LE(at.LengthofAllocationDescriptors);
    if (attributes + descriptors > FE_ROOM) fail('its parts are longer than its block');
    const type = TYPES.get(bytes[at.FileType]!) ?? fail(`file type ${bytes[at.FileType]} is not known`);
    const size = Number(bytes.readBigUInt64LE(at.InformationLength));
    if (!Number.isSafeInteger(size)) fail(`${size} bytes are out of range`);
    const mtime = readTimestamp(bytes, at.ModificationDateandTime);
    const area = bytes.subarray(FE.size + attributes, FE.size + attributes + descriptors);
    const kind = flags & FLAG_AD_MASK;
    if (kind !== FLAG_AD_SHORT && kind !== FLAG_AD_IN_ICB) fail(`allocation descriptors of type ${kind}`);
    if (kind === FLAG_AD_IN_ICB && size !== descriptors) fail('its content has another length than it says');
    const { runs, continuations } =
      kind === FLAG_AD_SHORT ? this.#readRuns(area, size, fail) : { runs: [], continuations: 0 };
    const device =
      type === S_IFCHR || type === S_IFBLK ? readDevice(bytes, attributes, fail) : { major: 0, minor: 0 };
    return {
      block,
      mode: type | readMode(bytes.readUInt32LE(at.Permissions), flags),
      uid: bytes.readUInt32LE(at.Uid),
      gid: bytes.readUInt32LE(at.Gid),
      nlink: bytes.readUInt16LE(at.FileLinkCount),
      size,
      recorded: Number(bytes.readBigUInt64LE(at.LogicalBlocksRecorded)),
      mtime: mtime.seconds,
      mtimeNsec: mtime.nsec,
      devMajor: device.major,
      devMinor: device.minor,
      inline: kind === FLAG_AD_IN_ICB ? Buffer.from(area) : null,
      runs,
      continuations,
    };
  }

  #readRuns(
    first: Buffer,
    size: number,
    fail: (reason: string) => never,
  ): { runs: UdfRun[]; continuations: number } {
    const runs: UdfRun[] = [];
    let offset = 0;
    let continuations = 0;
    let count = 0;
    for (let area: Buffer | null = first; area !== null; ) {
      let next: Buffer | null = null;
      for (let at = 0; at + SHORT_AD.size <= area.length; at += SHORT_AD.size) {
        const word = area.readUInt32LE(at + SHORT_AD.at.ExtentLength);
        const block = area.readUInt32LE(at + SHORT_AD.at.ExtentPosition);
        const length = word & EXTENT_LENGTH_MASK;
        const type = word >>> 30;
        if (length === 0) break;
        if (++count > 2 * MAX_DESCRIPTORS) fail('it has too many extents');
        if (type === EXTENT_CONTINUED) {
          continuations++;
          next = this.#readContinuation(block, fail);
          break;
        }
        if (type !== EXTENT_RECORDED && type !== EXTENT_HOLE) fail(`extents of type ${type}`);
        if (length % UDF_BLOCK !== 0 && offset + length !== size) fail('an extent ends inside a block');
        if (type === EXTENT_RECORDED && block + Math.ceil(length / UDF_BLOCK) > this.#blocks) {
          fail(`${length} bytes at block ${block} are past the end of the partition`);
        }
        runs.push({ offset, length, block: type === EXTENT_HOLE ? -1 : block });
        offset += length;
      }
      area = next;
    }
    if (offset !== size) fail(`${size} bytes, its extents have ${offset}`);
    return { runs, continuations };
  }

  #readContinuation(block: number, fail: (reason: string) => never): Buffer {
    const bytes = this.#readBlocks(block, 1, 'allocation descriptors');
    if (!tagIsSound(bytes, 0, TAG_AED, block))
      fail(`its allocation descriptors at block ${block} are damaged`);
    const length = bytes.readUInt32LE(AED.at.LengthofAllocationDescriptors);
    if (AED.size + length > UDF_BLOCK) fail('its allocation descriptors are longer than a block');
    return bytes.subarray(AED.size, AED.size + length);
  }

  /** The bytes of a directory or symlink. */
  readContent(entry: UdfEntry): Buffer {
    if (entry.inline !== null) return entry.inline;
    const pieces = entry.runs.map(({ length, block }) => {
      if (block < 0) {
        throw new VeneerError(
          'udf/corrupt',
          `Cannot read the file entry at block ${entry.block}: it has holes`,
        );
      }
      return this.#readBlocks(block, Math.ceil(length / UDF_BLOCK), 'content').subarray(0, length);
    });
    return pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
  }

  /** Calls `onName` for every name of a directory but its parent's. */
  readDirectory(entry: UdfEntry, onName: (name: string, block: number) => void): void {
    const bytes = this.readContent(entry);
    for (let at = 0; at < bytes.length; ) {
      const length = at + FID.size > bytes.length ? 0 : bytes[at + FID.at.LengthofFileIdentifier]!;
      const begin =
        at + FID.size + (length === 0 ? 0 : bytes.readUInt16LE(at + FID.at.LengthofImplementationUse));
      if (begin + length > bytes.length || !tagIsSound(bytes, at, TAG_FID, null)) {
        throw new VeneerError(
          'udf/corrupt',
          `Cannot read the directory at block ${entry.block}: the entry at ${at} is damaged`,
        );
      }
      const characteristics = bytes[at + FID.at.FileCharacteristics]!;
      if ((characteristics & (FID_PARENT | FID_DELETED)) === 0) {
        const name = decodeName(bytes.toString('latin1', begin, begin + length), this.trailer.names);
        if (name === null || name === '' || name === '.' || name === '..' || /[/\0]/.test(name)) {
          throw new VeneerError(
            'udf/corrupt',
            `Cannot read the directory at block ${entry.block}: the entry at ${at} has no possible name`,
          );
        }
        onName(name, bytes.readUInt32LE(at + FID.at.ICB + LONG_AD.at.LogicalBlockNumber));
      }
      at = (begin + length + 3) & ~3;
    }
  }

  /** The whole tree; its one source is the volume. What UDF has no place for is not in it. */
  readTree(): FileTree {
    const { trailer } = this;
    const nodes = new Map<number, TreeNode>();
    const root = this.#makeNode(this.readEntry(this.rootBlock));
    if (root.children === null)
      throw new VeneerError('udf/corrupt', 'Cannot read the volume: its root is no directory');
    const pending = [{ node: root, block: this.rootBlock, path: '', depth: 0 }];
    const entered = new Set([this.rootBlock]);
    let names = 0;
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const { node, block, path, depth } = next;
      if (depth > MAX_DEPTH)
        throw new VeneerError('udf/limit', `Cannot read ${showPath(path)}: it is too deep`);
      this.readDirectory(this.readEntry(block), (name, at) => {
        if (++names > MAX_NAMES) throw new VeneerError('udf/limit', 'Cannot read the volume: too many names');
        if (trailer.whiteouts === 'literal' && takeWhiteout(node, name)) return;
        let child = nodes.get(at);
        if (child === undefined) {
          child = this.#makeNode(this.readEntry(at));
          if (child.children === null) nodes.set(at, child);
          else if (entered.has(at)) {
            throw new VeneerError('udf/corrupt', `Cannot read ${showPath(path)}: '${name}' is above itself`);
          } else {
            entered.add(at);
            pending.push({ node: child, block: at, path: joinPath(path, name), depth: depth + 1 });
          }
        }
        node.children!.set(name, child);
      });
    }
    const size = (trailer.anchorSector + 1) * UDF_BLOCK;
    const sources = [{ kind: 'tar' as const, digest: trailer.digest, size, alignment: UDF_BLOCK }];
    return { root, sources, findings: [] };
  }

  #makeNode(entry: UdfEntry): TreeNode {
    const node = new TreeNode(entry.mode);
    node.uid = entry.uid;
    node.gid = entry.gid;
    node.mtime = entry.mtime;
    node.mtimeNsec = entry.mtimeNsec;
    node.devMajor = entry.devMajor;
    node.devMinor = entry.devMinor;
    if (isType(entry, S_IFLNK)) {
      const target = decodeTarget(this.readContent(entry).toString('latin1'), this.trailer.names);
      if (target === null) {
        throw new VeneerError(
          'udf/corrupt',
          `Cannot read the link at block ${entry.block}: its target is damaged`,
        );
      }
      node.target = target;
      node.size = target.length;
    } else if (isType(entry, S_IFREG)) {
      node.size = entry.size;
      placeData(node, entry, this.trailer.origin);
    }
    return node;
  }
}

const isType = (entry: UdfEntry, type: number): boolean => (entry.mode & S_IFMT) === type;

/** Takes a `.wh.` name for what it says; false for any other name. */
function takeWhiteout(directory: TreeNode, name: string): boolean {
  if (!name.startsWith(WHITEOUT_PREFIX)) return false;
  if (name === OPAQUE_MARKER) {
    directory.opaque = true;
    return true;
  }
  const whiteout = parseWhiteout(name);
  if (whiteout.kind !== 'remove') return false;
  directory.whiteouts ??= new Set();
  directory.whiteouts.add(whiteout.name);
  return true;
}

function placeData(node: TreeNode, entry: UdfEntry, origin: number): void {
  const extents: Extent[] = [];
  for (const { offset, length, block } of entry.runs) {
    if (block < 0) continue;
    const at = (origin + block) * UDF_BLOCK;
    const last = extents.at(-1);
    if (last !== undefined && last.offset + last.length === offset && last.at + last.length === at) {
      extents[extents.length - 1] = { ...last, length: last.length + length };
    } else {
      extents.push({ offset, length, source: 0, at });
    }
  }
  const [first] = extents;
  if (first === undefined) return;
  if (extents.length === 1 && first.offset === 0 && first.length === node.size) {
    node.source = 0;
    node.at = first.at;
  } else {
    node.extents = extents;
  }
}

function readMode(permissions: number, flags: number): number {
  return (
    (permissions & 0o7) |
    ((permissions >> 2) & 0o70) |
    ((permissions >> 4) & 0o700) |
    ((flags & FLAG_SETUID) !== 0 ? 0o4000 : 0) |
    ((flags & FLAG_SETGID) !== 0 ? 0o2000 : 0) |
    ((flags & FLAG_STICKY) !== 0 ? 0o1000 : 0)
  );
}

function readDevice(
  bytes: Buffer,
  attributes: number,
  fail: (reason: string) => never,
): { major: number; minor: number } {
  const { at } = DEVICE_EA;
  const base = FE.size;
  if (attributes !== DEVICE_EA.size || bytes.readUInt32LE(base + at.AttributeType) !== ATTRIBUTE_DEVICE) {
    fail('a device without its number');
  }
  return {
    major: bytes.readUInt32LE(base + at.MajorDeviceIdentification),
    minor: bytes.readUInt32LE(base + at.MinorDeviceIdentification),
  };
}
