/** What stands on a disk: partitions, EROFS images with their devices, hash trees, UDF volumes of ours. */
import { alignUp } from '../bytes/align.ts';
import type { ByteSource } from '../bytes/io.ts';
import { EROFS_SUPER_MAGIC, EROFS_SUPER_OFFSET } from '../erofs/format.ts';
import type { Superblock } from '../erofs/superblock.ts';
import { VeneerError } from '../errors.ts';
import { findTrailer, type Trailer } from '../udf/index.ts';
import { hasSuperblock, readSuperblock } from '../verity/index.ts';
import { readDeviceTable } from './device-table.ts';
import { readGpt } from './gpt.ts';
import { TREE_ALIGNMENT } from './image.ts';
import { SECTOR } from './segments.ts';

/** A hash tree behind what it protects; offsets are bytes from the start of the disk or partition. */
export interface FoundTree {
  readonly at: number;
  readonly dataBlockSize: number;
  readonly dataBlocks: number;
  /** Hex. */
  readonly salt: string;
  /** Bytes of the tree without its superblock. */
  readonly size: number;
}

/** An EROFS image, and its devices where they stand when it is flat. */
export interface FoundErofs {
  readonly blockSize: number;
  readonly blocks: number;
  readonly uuid: string;
  readonly devices: readonly { readonly tag: string; readonly at: number; readonly size: number }[];
  /** Bytes up to the end of the last device that is on this disk. */
  readonly size: number;
}

export interface FoundArea {
  readonly kind: 'erofs' | 'data';
  readonly erofs: FoundErofs | null;
  readonly tree: FoundTree | null;
}

export interface FoundPartition extends FoundArea {
  readonly number: number;
  readonly name: string;
  /** Bytes. */
  readonly at: number;
  readonly size: number;
}

export interface DiskContent {
  /** What the whole disk is when it has no partitions. */
  readonly whole: FoundArea | null;
  readonly partitions: readonly FoundPartition[];
  /** What the UDF volume says of itself when the whole disk is one of ours. */
  readonly udf: Trailer | null;
  /** What is wrong, as sentences. */
  readonly problems: readonly string[];
}

/** A stretch of a disk. */
export function slice(source: ByteSource, at: number, size: number): ByteSource {
  return {
    size,
    read(offset, length) {
      if (offset < 0 || length < 0 || offset + length > size)
        throw new VeneerError('disk/corrupt', `Cannot read ${length} bytes at ${offset} of ${size}`);
      return source.read(at + offset, length);
    },
  };
}

/** Looks at a disk without reading its data. What is damaged is a problem in the result, not an error. */
export function findContent(disk: ByteSource): DiskContent {
  const problems: string[] = [];
  const attempt = <T>(work: () => T | null): T | null => {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof VeneerError)) throw error;
      problems.push(error.message);
      return null;
    }
  };
  const table = attempt(() => readGpt(disk));
  if (table === null) {
    const area = findArea(disk, attempt);
    const udf = area.erofs === null ? attempt(() => findTrailer(disk)) : null;
    return { whole: area, partitions: [], udf, problems };
  }
  problems.push(...table.problems);
  const devices = new Map<number, number>();
  const partitions = table.partitions.map(({ name, start, sectors }, i): FoundPartition => {
    const at = start * SECTOR;
    const size = sectors * SECTOR;
    const part = slice(disk, at, size);
    const area = findArea(part, attempt, devices.get(i));
    // The partitions behind a metadata image are its devices.
    area.erofs?.devices.forEach(({ size: bytes }, device) => void devices.set(i + 1 + device, bytes));
    return { number: i + 1, name, at, size, ...area };
  });
  return { whole: null, partitions, udf: null, problems };
}

type Attempt = <T>(work: () => T | null) => T | null;

/** `dataSize`: bytes of raw data that the stretch is known to begin with. */
function findArea(source: ByteSource, attempt: Attempt, dataSize?: number): FoundArea {
  const hasMagic =
    source.size >= EROFS_SUPER_OFFSET + SECTOR &&
    source.read(EROFS_SUPER_OFFSET, 4).readUInt32LE() === EROFS_SUPER_MAGIC;
  const superblock = hasMagic ? attempt(() => readDeviceTable(source)) : null;
  const erofs = superblock === null ? null : describeErofs(superblock, source.size);
  const end = dataSize ?? erofs?.size;
  const tree = end === undefined ? null : attempt(() => findTree(source, alignUp(end, TREE_ALIGNMENT)));
  return { kind: erofs === null ? 'data' : 'erofs', erofs, tree };
}

function describeErofs({ blockSize, blocks, uuid, devices }: Superblock, room: number): FoundErofs {
  let size = blocks * blockSize;
  const slots = devices.map((slot) => {
    const at = slot.uniaddr * blockSize;
    const bytes = slot.blocks * blockSize;
    if (slot.uniaddr !== 0 && at + bytes <= room) size = Math.max(size, at + bytes);
    return { tag: slot.tag, at, size: bytes };
  });
  return { blockSize, blocks, uuid, devices: slots, size };
}

function findTree(source: ByteSource, at: number): FoundTree | null {
  if (!hasSuperblock(source, at)) return null;
  const { dataBlockSize, dataBlocks, salt, shape } = readSuperblock(source, at);
  return { at, dataBlockSize, dataBlocks, salt: salt.toString('hex'), size: shape.size };
}
