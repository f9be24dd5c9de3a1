/** Sharing the whole blocks of a range between files, where file system and alignment allow it. */
import { cloneRange } from './inode.ts';

/** Reflinks go by blocks of the file system: 4096 on Btrfs and XFS, never less. */
const UNIT = 4096;

export class BlockSharer {
  /** Turned off by the first refusal: the next file would be refused too. */
  #works = true;

  /** Returns how many bytes of `target` were shared, from the start of the range. */
  share(source: number, from: number, length: number, target: number, to: number): number {
    const whole = length - (length % UNIT);
    if (!this.#works || whole === 0 || from % UNIT !== 0 || to % UNIT !== 0) return 0;
    this.#works = cloneRange(source, from, whole, target, to);
    return this.#works ? whole : 0;
  }
}
