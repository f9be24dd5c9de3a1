/** Checks data against a Merkle tree and the tree against its root hash, and tells which of both is wrong where. */
import type { ByteSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import { DIGEST_SIZE, HASH_BLOCK_SIZE } from './format.ts';
import { BlockHasher } from './hasher.ts';
import { FANOUT, type TreeShape, treeShape, type VerityParameters } from './layout.ts';

/** So many runs are told; who finds more knows enough. */
const MAX_DAMAGE = 1000;

/** A run of bytes that is not what the tree says. */
export interface VerityDamage {
  readonly what: 'data' | 'tree';
  /** Bytes from the start of the data, or from the first hash block. */
  readonly at: number;
  length: number;
}

/**
 * Like {@link TreeBuilder}, but compares. A hash block that is itself wrong is reported once; the data below it is
 * compared with what it says all the same, so that one bad byte in the tree does not accuse good data.
 */
export class TreeChecker {
  readonly shape: TreeShape;
  readonly damage: VerityDamage[] = [];
  readonly #data: BlockHasher;
  readonly #hashBlocks: BlockHasher;
  readonly #tree: ByteSource;
  readonly #root: Buffer;
  readonly #digests: Buffer;
  /** A level's block that was checked last. */
  readonly #cache: { index: number; block: Buffer }[];
  #taken = 0;

  /** `tree` begins at the first hash block. Throws `verity/corrupt` when it is too short. */
  constructor(dataBlocks: number, parameters: VerityParameters, rootHash: Buffer, tree: ByteSource) {
    this.shape = treeShape(dataBlocks, parameters);
    if (tree.size < this.shape.size) {
      throw new VeneerError(
        'verity/corrupt',
        `Cannot use a hash tree of ${tree.size} bytes: ${dataBlocks} data blocks need ${this.shape.size}`,
      );
    }
    this.#data = new BlockHasher(parameters.dataBlockSize, parameters.salt);
    this.#hashBlocks = new BlockHasher(HASH_BLOCK_SIZE, parameters.salt);
    this.#digests = Buffer.alloc((this.#data.space.length / parameters.dataBlockSize) * DIGEST_SIZE);
    this.#tree = tree;
    this.#root = rootHash;
    this.#cache = this.shape.levels.map(() => ({ index: -1, block: Buffer.alloc(0) }));
  }

  get space(): Buffer {
    return this.#data.space;
  }

  take(bytes: number): void {
    const { blockSize, space } = this.#data;
    const blocks = Math.ceil(bytes / blockSize);
    space.fill(0, bytes, blocks * blockSize);
    this.#data.digests(blocks, this.#digests);
    for (let done = 0; done < blocks; ) done += this.#compare(done, blocks);
  }

  /** Compares digests from number `from` on as far as one hash block goes: at once, and one by one if that fails. */
  #compare(from: number, to: number): number {
    const first = this.#taken;
    const single = this.shape.levels.length === 0;
    const count = single ? 1 : Math.min(to - from, FANOUT - (first % FANOUT));
    const expected = single ? this.#root : this.#block(0, Math.floor(first / FANOUT));
    const begin = single ? 0 : (first % FANOUT) * DIGEST_SIZE;
    const same = (i: number, digests: number): boolean =>
      expected.compare(
        this.#digests,
        (from + i) * DIGEST_SIZE,
        (from + i + digests) * DIGEST_SIZE,
        begin + i * DIGEST_SIZE,
        begin + (i + digests) * DIGEST_SIZE,
      ) === 0;
    if (!same(0, count)) {
      const { blockSize } = this.#data;
      for (let i = 0; i < count; i++)
        if (!same(i, 1)) this.#report('data', (first + i) * blockSize, blockSize);
    }
    this.#taken += count;
    return count;
  }

  /** The digest that entry `index` of `level` should have: from the level's block, or the root hash above the top. */
  #expected(level: number, index: number): Buffer {
    if (level === this.shape.levels.length) return this.#root;
    const block = this.#block(level, Math.floor(index / FANOUT));
    const at = (index % FANOUT) * DIGEST_SIZE;
    return block.subarray(at, at + DIGEST_SIZE);
  }

  #block(level: number, index: number): Buffer {
    const cached = this.#cache[level]!;
    if (cached.index === index) return cached.block;
    const at = this.shape.levels[level]!.at + index * HASH_BLOCK_SIZE;
    cached.block = Buffer.from(this.#tree.read(at, HASH_BLOCK_SIZE));
    cached.index = index;
    if (!this.#hashBlocks.digest(cached.block).equals(this.#expected(level + 1, index)))
      this.#report('tree', at, HASH_BLOCK_SIZE);
    return cached.block;
  }

  #report(what: VerityDamage['what'], at: number, length: number): void {
    const last = this.damage.at(-1);
    if (last !== undefined && last.what === what && last.at + last.length === at) last.length += length;
    else if (this.damage.length < MAX_DAMAGE) this.damage.push({ what, at, length });
  }
}
