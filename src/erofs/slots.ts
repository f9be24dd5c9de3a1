/** Hands out places in the inode area, and fills the gaps that inline tails leave. */
import { alignUp } from '../bytes/align.ts';
import { INODE_SLOT } from './format.ts';

/** So many gaps are remembered; older ones are lost, which keeps placing O(1). */
const GAPS = 16;

export class SlotAllocator {
  readonly #blockSize: number;
  readonly #gapAt: number[] = [];
  readonly #gapSize: number[] = [];
  #end = 0;

  constructor(blockSize: number) {
    this.#blockSize = blockSize;
  }

  /** Bytes handed out so far, gaps included. */
  get size(): number {
    return this.#end;
  }

  /**
   * A place for `bytes`, a multiple of {@link INODE_SLOT} from the start of the
   * area. `whole`: it must lie inside one block (`bytes` ≤ block size then).
   */
  place(bytes: number, whole: boolean): number {
    const need = alignUp(bytes, INODE_SLOT);
    for (let i = this.#gapAt.length - 1; i >= 0; i--) {
      if (this.#gapSize[i]! >= need) return this.#takeGap(i, need);
    }
    const room = this.#blockSize - (this.#end % this.#blockSize);
    if (whole && bytes > room) {
      this.#gapAt.push(this.#end);
      this.#gapSize.push(room);
      if (this.#gapAt.length > GAPS) {
        this.#gapAt.shift();
        this.#gapSize.shift();
      }
      this.#end += room;
    }
    const at = this.#end;
    this.#end += need;
    return at;
  }

  /** A gap lies inside one block, so what fits it is whole. */
  #takeGap(i: number, need: number): number {
    const at = this.#gapAt[i]!;
    if (this.#gapSize[i] === need) {
      this.#gapAt.splice(i, 1);
      this.#gapSize.splice(i, 1);
    } else {
      this.#gapAt[i] = at + need;
      this.#gapSize[i] = this.#gapSize[i]! - need;
    }
    return at;
  }
}
