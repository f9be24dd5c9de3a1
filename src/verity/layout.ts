/** The shape of a Merkle tree: pure arithmetic. */
import { VeneerError } from '../errors.ts';
import { DIGEST_SIZE, HASH_BLOCK_SIZE, MAX_SALT } from './format.ts';

export interface VerityParameters {
  /** Bytes: 512 to 4096, a power of two. It becomes the sector size of the dm-verity device. */
  readonly dataBlockSize: number;
  /** At most 256 bytes. */
  readonly salt: Buffer;
}

/** Digests in a hash block. */
export const FANOUT = HASH_BLOCK_SIZE / DIGEST_SIZE;

/** One level of hash blocks, number 0 being the digests of the data. */
export interface TreeLevel {
  /** Hash blocks. */
  readonly blocks: number;
  /** Byte offset from the first hash block. */
  readonly at: number;
}

export interface TreeShape {
  readonly dataBlocks: number;
  /** Bottom first; empty when there is one data block, whose digest is the root hash then. */
  readonly levels: readonly TreeLevel[];
  /** Bytes of all levels. */
  readonly size: number;
}

/**
 * Where the levels stand: the top one first, each behind the other (`hash_level_block` of dm-verity-target.c).
 * Throws `verity/unsupported` for what the kernel does not take.
 */
export function treeShape(dataBlocks: number, { dataBlockSize, salt }: VerityParameters): TreeShape {
  const wrong = (reason: string): VeneerError =>
    new VeneerError('verity/unsupported', `Cannot make a hash tree: ${reason}`);
  if (dataBlockSize < 512 || dataBlockSize > 4096 || (dataBlockSize & (dataBlockSize - 1)) !== 0)
    throw wrong(`data blocks of ${dataBlockSize} bytes (512, 1024, 2048 or 4096 are possible)`);
  if (salt.length > MAX_SALT) throw wrong(`a salt of ${salt.length} bytes, at most ${MAX_SALT} are possible`);
  if (!Number.isSafeInteger(dataBlocks) || dataBlocks < 1) throw wrong(`there are ${dataBlocks} data blocks`);
  const counts: number[] = [];
  for (let below = dataBlocks; below > 1; ) {
    below = Math.ceil(below / FANOUT);
    counts.push(below);
  }
  const levels: TreeLevel[] = [];
  let at = 0;
  for (const blocks of counts.reverse()) {
    levels.unshift({ blocks, at });
    at += blocks * HASH_BLOCK_SIZE;
  }
  return { dataBlocks, levels, size: at };
}
