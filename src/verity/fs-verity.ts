/** The fs-verity digest of a file, as `fsverity digest` and FS_IOC_MEASURE_VERITY say it. */
import { createHash } from 'node:crypto';
import { TreeBuilder } from './build.ts';
import { FSVERITY_BLOCK_SIZE, FSVERITY_DESCRIPTOR, FSVERITY_SHA256 } from './format.ts';

const NO_SALT = Buffer.alloc(0);
const { at: AT } = FSVERITY_DESCRIPTOR;

/** Digests a file of known size while it passes by: fill {@link space}, {@link take}, {@link finish}. */
export class FsVerityHasher {
  readonly #size: number;
  readonly #tree: TreeBuilder | null;
  readonly space: Buffer;

  constructor(size: number) {
    this.#size = size;
    const blocks = Math.ceil(size / FSVERITY_BLOCK_SIZE);
    const parameters = { dataBlockSize: FSVERITY_BLOCK_SIZE, salt: NO_SALT };
    this.#tree = size === 0 ? null : new TreeBuilder(blocks, parameters, () => {});
    this.space = this.#tree?.space ?? NO_SALT;
  }

  /** The first `bytes` of the space; every time but the last a multiple of the block size. */
  take(bytes: number): void {
    this.#tree?.take(bytes);
  }

  /** `sha256:…`. The root hash of an empty file is zeros. */
  finish(): string {
    const descriptor = Buffer.alloc(FSVERITY_DESCRIPTOR.size);
    descriptor[AT.version] = 1;
    descriptor[AT.hash_algorithm] = FSVERITY_SHA256;
    descriptor[AT.log_blocksize] = Math.log2(FSVERITY_BLOCK_SIZE);
    descriptor.writeBigUInt64LE(BigInt(this.#size), AT.data_size);
    this.#tree?.finish().copy(descriptor, AT.root_hash);
    return `sha256:${createHash('sha256').update(descriptor).digest('hex')}`;
  }
}
