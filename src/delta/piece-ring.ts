/** Where the pieces of a tar are put together: new memory for each would cost more than a copy. */

/** Bytes of one piece: mostly it goes to another thread, and waking that is what many small ones would cost. */
export const PIECE = 1 << 20;

/** Memory that all threads see, used in turns. */
export class PieceRing {
  readonly #pieces: Buffer[] = [];
  readonly #count: number;
  #next = 0;

  /** A piece is good until `count` others are asked for. */
  constructor(count: number) {
    this.#count = count;
  }

  next(): Buffer {
    const number = this.#next++ % this.#count;
    return (this.#pieces[number] ??= Buffer.from(new SharedArrayBuffer(PIECE)));
  }
}
