/** Checks data on a disk against hash trees: with a superblock, without one, in another file, or not there at all. */
import { setImmediate as letOthersRun } from 'node:timers/promises';
import { alignUp } from '../bytes/align.ts';
import type { ByteSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import {
  HASH_BLOCK_SIZE,
  hasSuperblock,
  readSuperblock,
  TreeBuilder,
  TreeChecker,
  treeShape,
  treeUuid,
  type VerityParameters,
  writeSuperblock,
} from '../verity/index.ts';
import { type FoundTree, slice } from './content.ts';
import { TREE_ALIGNMENT } from './image.ts';
import type { DiskSource } from './source.ts';

/** What the checks share. */
export interface TreeCheckContext {
  readonly source: DiskSource;
  readonly problems: string[];
  readonly signal: AbortSignal | undefined;
  /** Bytes that were read. */
  count(bytes: number): void;
  /** ` at 4096 of FILE` */
  where(at: number): string;
}

/** A disk or partition that a root hash is about; `name` for messages. */
export interface ProtectedArea {
  readonly name: string;
  /** Bytes, on the disk. */
  readonly at: number;
  readonly size: number;
}

/** A hash tree in a file of its own. */
export interface TreeFile {
  readonly path: string;
  readonly source: ByteSource;
}

/** A tree that begins with a superblock, on the disk. */
export async function checkTree(
  context: TreeCheckContext,
  area: ProtectedArea,
  tree: FoundTree,
  rootHash: string,
): Promise<void> {
  const part = slice(context.source, area.at, area.size);
  const place = (at: number): string => context.where(area.at + at);
  await checkWithSuperblock(context, area, { source: part, at: tree.at, end: tree.at, place }, rootHash);
}

/** What is known of an area whose disk holds no superblock. */
export interface BareArea extends ProtectedArea {
  /** Bytes of data. */
  readonly dataSize: number;
  readonly parameters: VerityParameters;
}

/**
 * Data whose tree has no superblock behind it: the tree stands in `file`, or follows the data without a superblock, or
 * there is none, and the root hash is computed from the data.
 */
export async function checkBare(
  context: TreeCheckContext,
  area: BareArea,
  file: TreeFile | null,
  rootHash: string,
): Promise<void> {
  const { dataSize, parameters } = area;
  const blocks = Math.ceil(dataSize / parameters.dataBlockSize);
  if (file !== null) {
    const { source, path } = file;
    const place = (at: number): string => ` at ${at} of ${path}`;
    if (hasSuperblock(source, 0)) {
      try {
        await checkWithSuperblock(context, area, { source, at: 0, end: dataSize, place }, rootHash);
      } catch (error) {
        if (!(error instanceof VeneerError) || !error.code.startsWith('verity/')) throw error;
        context.problems.push(`${path}: ${error.message}`);
      }
      return;
    }
    return walk(context, area, { tree: source, blocks, parameters, place }, rootHash);
  }
  const { size } = treeShape(blocks, parameters);
  const behind = alignUp(dataSize, TREE_ALIGNMENT);
  // A tree ends its disk or partition, so the room behind the data tells what stands there.
  const room = area.size - behind;
  if (size > 0 && (room === size || room === HASH_BLOCK_SIZE + size)) {
    const treeAt = area.size - size;
    if (room > size)
      context.problems.push(
        `the verity superblock ${area.name}${context.where(area.at + behind)} was changed`,
      );
    const place = (at: number): string => context.where(area.at + treeAt + at);
    const tree = slice(context.source, area.at + treeAt, size);
    return walk(context, area, { tree, blocks, parameters, place }, rootHash);
  }
  const builder = new TreeBuilder(blocks, parameters, () => {});
  await feed(context, area.at, dataSize, builder);
  const computed = builder.finish().toString('hex');
  if (computed !== rootHash)
    context.problems.push(`the data ${area.name} has the root hash ${computed}, not ${rootHash}`);
}

interface WithSuperblock {
  readonly source: ByteSource;
  /** Of the superblock in `source`. */
  readonly at: number;
  /** The data ends there at the latest. */
  readonly end: number;
  readonly place: (at: number) => string;
}

async function checkWithSuperblock(
  context: TreeCheckContext,
  area: ProtectedArea,
  { source, at, end, place }: WithSuperblock,
  rootHash: string,
): Promise<void> {
  const { problems } = context;
  const { shape, ...parameters } = readSuperblock(source, at);
  const dataSize = parameters.dataBlocks * parameters.dataBlockSize;
  const treeAt = at + HASH_BLOCK_SIZE;
  if (dataSize > end || treeAt + shape.size > source.size) {
    problems.push(`the hash tree ${area.name} is for ${dataSize} bytes and does not fit`);
    return;
  }
  const ours = treeUuid(parameters.salt);
  const uuid = isNearly(parameters.uuid, ours) ? ours : parameters.uuid;
  if (!writeSuperblock({ ...parameters, uuid }).equals(source.read(at, HASH_BLOCK_SIZE)))
    problems.push(`the verity superblock ${area.name}${place(at)} was changed`);
  const tree = slice(source, treeAt, shape.size);
  const blocks = parameters.dataBlocks;
  await walk(
    context,
    area,
    { tree, blocks, parameters, place: (offset) => place(treeAt + offset) },
    rootHash,
  );
}

interface PlacedTree {
  /** Begins at the first hash block. */
  readonly tree: ByteSource;
  readonly blocks: number;
  readonly parameters: VerityParameters;
  readonly place: (at: number) => string;
}

async function walk(
  context: TreeCheckContext,
  area: ProtectedArea,
  { tree, blocks, parameters, place }: PlacedTree,
  rootHash: string,
): Promise<void> {
  const { size } = treeShape(blocks, parameters);
  if (tree.size < size) {
    context.problems.push(
      `the hash tree ${area.name}${place(0)} has ${tree.size} bytes, ${blocks} data blocks need ${size}`,
    );
    return;
  }
  const checker = new TreeChecker(blocks, parameters, Buffer.from(rootHash, 'hex'), tree);
  await feed(context, area.at, blocks * parameters.dataBlockSize, checker);
  for (const { what, at, length } of checker.damage) {
    const thing =
      what === 'data'
        ? `${length} bytes${context.where(area.at + at)} are`
        : `the hash tree ${area.name}${place(at)} is`;
    context.problems.push(`${thing} not what the root hash ${rootHash} says`);
  }
}

/** Hands `size` bytes of the disk from `from` on to a hasher. */
async function feed(
  { source, signal, count }: TreeCheckContext,
  from: number,
  size: number,
  hasher: { readonly space: Buffer; take(bytes: number): void },
): Promise<void> {
  for (let at = 0; at < size; ) {
    const bytes = Math.min(hasher.space.length, size - at);
    signal?.throwIfAborted();
    source.readInto(hasher.space.subarray(0, bytes), from + at);
    hasher.take(bytes);
    at += bytes;
    count(bytes);
    await letOthersRun();
  }
}

/** Ours but for a few bytes, as no other UUID is: then these bytes are damage. */
function isNearly(uuid: Buffer, ours: Buffer): boolean {
  return uuid.filter((byte, i) => byte === ours[i]).length >= uuid.length / 2;
}
