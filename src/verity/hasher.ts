/** Hashes many blocks of one size, each behind the salt, with as little per block as Node allows. */
import { hash } from 'node:crypto';
import { DIGEST_SIZE } from './format.ts';

/** Bytes that are hashed between two reads: small enough to stay in the processor's cache. */
const SPACE = 1 << 20;

/**
 * The caller fills {@link space} with whole blocks and asks for their digests, which destroys what is in it: the
 * salt of a block is written over the end of the block before it, so that salt and data are hashed in one piece
 * without moving the data.
 *
 * Digests come as byte strings: that is 1.7 times as fast as a Buffer a digest.
 */
export class BlockHasher {
  readonly blockSize: number;
  /** Where the blocks go. */
  readonly space: Buffer;
  readonly #salt: Buffer;
  readonly #buffer: Buffer;
  readonly #views: Buffer[] = [];

  constructor(blockSize: number, salt: Buffer) {
    this.blockSize = blockSize;
    this.#salt = salt;
    const blocks = Math.max(1, Math.floor(SPACE / blockSize));
    this.#buffer = Buffer.alloc(salt.length + blocks * blockSize);
    this.space = this.#buffer.subarray(salt.length);
    for (let i = 0; i < blocks; i++) {
      this.#views.push(this.#buffer.subarray(i * blockSize, (i + 1) * blockSize + salt.length));
    }
  }

  /** Digests of the first `blocks` blocks of the space, one after the other into `out`. */
  digests(blocks: number, out: Buffer): void {
    const salt = this.#salt;
    const buffer = this.#buffer;
    for (let i = 0; i < blocks; i++) {
      // faster than Buffer.copy for so few bytes
      if (salt.length > 0) buffer.set(salt, i * this.blockSize);
      out.write(hash('sha256', this.#views[i]!, 'binary'), i * DIGEST_SIZE, 'latin1');
    }
  }

  /** Digest of one block that stands elsewhere. */
  digest(block: Buffer): Buffer {
    block.copy(this.space, 0);
    const out = Buffer.alloc(DIGEST_SIZE);
    this.digests(1, out);
    return out;
  }
}
