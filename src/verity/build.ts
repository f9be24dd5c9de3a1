/** Builds a Merkle tree while the data passes by, in memory that does not grow with the data. */
import { VeneerError } from '../errors.ts';
import { DIGEST_SIZE, HASH_BLOCK_SIZE } from './format.ts';
import { BlockHasher } from './hasher.ts';
import { FANOUT, type TreeShape, treeShape, type VerityParameters } from './layout.ts';

/** Where hash blocks go; `at` counts from the first hash block, in no order. The chunk is reused afterwards. */
export type WriteHashBlocks = (chunk: Buffer, at: number) => void;

/** A level that is being filled. */
interface Filling {
  readonly block: Buffer;
  used: number;
  /** Finished blocks. */
  done: number;
}

/**
 * Fill {@link space} with the next bytes and {@link take} them, until all are there; then {@link finish}.
 * Every take but the last is of whole blocks; the last block is padded with zeros.
 */
export class TreeBuilder {
  readonly shape: TreeShape;
  readonly #data: BlockHasher;
  readonly #hashBlocks: BlockHasher;
  readonly #write: WriteHashBlocks;
  readonly #levels: Filling[];
  readonly #digests: Buffer;
  #taken = 0;
  #root: Buffer | null = null;

  constructor(dataBlocks: number, parameters: VerityParameters, write: WriteHashBlocks) {
    this.shape = treeShape(dataBlocks, parameters);
    this.#data = new BlockHasher(parameters.dataBlockSize, parameters.salt);
    this.#hashBlocks = new BlockHasher(HASH_BLOCK_SIZE, parameters.salt);
    this.#digests = Buffer.alloc((this.#data.space.length / parameters.dataBlockSize) * DIGEST_SIZE);
    this.#write = write;
    this.#levels = this.shape.levels.map(() => ({
      block: Buffer.alloc(HASH_BLOCK_SIZE),
      used: 0,
      done: 0,
    }));
  }

  /** Where the next data goes, from its start. */
  get space(): Buffer {
    return this.#data.space;
  }

  take(bytes: number): void {
    const { blockSize, space } = this.#data;
    const blocks = Math.ceil(bytes / blockSize);
    space.fill(0, bytes, blocks * blockSize);
    this.#taken += blocks;
    if (this.#taken > this.shape.dataBlocks) throw miscounted(this.#taken, this.shape.dataBlocks);
    this.#data.digests(blocks, this.#digests);
    for (let at = 0; at < blocks * DIGEST_SIZE; ) at += this.#add(0, this.#digests, at, blocks * DIGEST_SIZE);
  }

  /** The root hash. */
  finish(): Buffer {
    if (this.#taken !== this.shape.dataBlocks) throw miscounted(this.#taken, this.shape.dataBlocks);
    for (let level = 0; level < this.#levels.length; level++) {
      if (this.#levels[level]!.used > 0) this.#close(level);
    }
    return this.#root!;
  }

  /** Puts digests into a level as far as its block has room; returns how many bytes. */
  #add(level: number, digests: Buffer, from: number, to: number): number {
    const filling = this.#levels[level];
    if (filling === undefined) {
      this.#root = Buffer.from(digests.subarray(from, from + DIGEST_SIZE));
      return DIGEST_SIZE;
    }
    const count = Math.min(to - from, HASH_BLOCK_SIZE - filling.used);
    digests.copy(filling.block, filling.used, from, from + count);
    filling.used += count;
    if (filling.used === FANOUT * DIGEST_SIZE) this.#close(level);
    return count;
  }

  #close(level: number): void {
    const filling = this.#levels[level]!;
    filling.block.fill(0, filling.used);
    this.#write(filling.block, this.shape.levels[level]!.at + filling.done * HASH_BLOCK_SIZE);
    filling.done++;
    filling.used = 0;
    this.#add(level + 1, this.#hashBlocks.digest(filling.block), 0, DIGEST_SIZE);
  }
}

function miscounted(found: number, expected: number): VeneerError {
  return new VeneerError(
    'verity/corrupt',
    `Cannot make a hash tree: ${found} data blocks came, ${expected} were expected`,
  );
}
