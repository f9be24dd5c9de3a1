/** Writes hash trees of disks and files into files. */
import { writeSync } from 'node:fs';
import { setImmediate as letOthersRun } from 'node:timers/promises';
import {
  HASH_BLOCK_SIZE,
  TreeBuilder,
  type TreeShape,
  treeUuid,
  type VerityParameters,
  type WriteHashBlocks,
  writeSuperblock,
} from '../verity/index.ts';
import type { DiskSource } from './source.ts';

/** A hash tree, with its superblock in front unless that was left out. */
export interface WrittenTree extends VerityParameters {
  /** Hex. */
  readonly rootHash: string;
  readonly dataBlocks: number;
  /** Bytes, superblock included. */
  readonly size: number;
}

export interface WriteTreeOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((done: number) => void) | undefined;
}

/** Hashes the first `dataSize` bytes of `source`; returns the root hash. */
export async function hashDisk(
  source: DiskSource,
  dataSize: number,
  parameters: VerityParameters,
  write: WriteHashBlocks,
  options: WriteTreeOptions = {},
): Promise<{ rootHash: string; shape: TreeShape }> {
  const builder = new TreeBuilder(Math.ceil(dataSize / parameters.dataBlockSize), parameters, write);
  for (let done = 0; done < dataSize; ) {
    options.signal?.throwIfAborted();
    const count = Math.min(builder.space.length, dataSize - done);
    source.readInto(builder.space.subarray(0, count), done);
    builder.take(count);
    done += count;
    options.onProgress?.(done);
    await letOthersRun();
  }
  return { rootHash: builder.finish().toString('hex'), shape: builder.shape };
}

/** Writes the tree over the first `dataSize` bytes of `source` to `fd` from `at` on, with or without superblock. */
export async function writeTree(
  source: DiskSource,
  dataSize: number,
  parameters: VerityParameters,
  { fd, at, superblock }: { fd: number; at: number; superblock: boolean },
  options: WriteTreeOptions = {},
): Promise<WrittenTree> {
  const front = superblock ? HASH_BLOCK_SIZE : 0;
  const put = (chunk: Buffer, to: number): void => {
    for (let done = 0; done < chunk.length; )
      done += writeSync(fd, chunk, done, chunk.length - done, to + done);
  };
  const write = (chunk: Buffer, to: number): void => put(chunk, at + front + to);
  const { rootHash, shape } = await hashDisk(source, dataSize, parameters, write, options);
  const { dataBlocks } = shape;
  if (superblock) put(writeSuperblock({ ...parameters, dataBlocks, uuid: treeUuid(parameters.salt) }), at);
  return { ...parameters, rootHash, dataBlocks, size: front + shape.size };
}
