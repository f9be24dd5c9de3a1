/** The digest of a file's data. */
import { createHash, hash } from 'node:crypto';
import { closeSync, readSync } from 'node:fs';

const PIECE = 1 << 20;

export class FileHasher {
  readonly #buffer = Buffer.allocUnsafeSlow(PIECE);

  /** Of an open file, hex; closes it. */
  digest(file: number, algorithm: string): string {
    try {
      const first = this.#read(file, 0);
      // One byte less than asked for is the end of a regular file, and most are that small.
      if (first.length < PIECE) return hash(algorithm, first);
      const sum = createHash(algorithm).update(first);
      for (let at = PIECE; ; ) {
        const piece = this.#read(file, at);
        if (piece.length === 0) return sum.digest('hex');
        sum.update(piece);
        at += piece.length;
      }
    } finally {
      closeSync(file);
    }
  }

  #read(file: number, at: number): Buffer {
    return this.#buffer.subarray(0, readSync(file, this.#buffer, 0, PIECE, at));
  }
}
