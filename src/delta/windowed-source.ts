/** Small reads that stand close together, served from one larger read. */
import type { ByteSource } from '../bytes/io.ts';

/** Small: runs that are told one by one stand in files that changed, and jump about there. */
const WINDOW = 1 << 13;

export class WindowedSource {
  readonly #source: ByteSource;
  /** Most sources are read in long runs and never need it. */
  #scratch: Buffer | null = null;
  #window: Buffer = Buffer.alloc(0);
  #start = 0;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  /** Copies from `at` of the source into `target` from `start` to `end`. */
  copy(at: number, target: Buffer, start: number, end: number): void {
    const length = end - start;
    if (at >= this.#start && at + length <= this.#start + this.#window.length) {
      this.#window.copy(target, start, at - this.#start, at - this.#start + length);
    } else if (length >= WINDOW / 2) {
      const place = target.subarray(start, end);
      const bytes = this.#source.read(at, length, place);
      // A source may answer with bytes that stand elsewhere.
      if (bytes.buffer !== place.buffer || bytes.byteOffset !== place.byteOffset) bytes.copy(place);
    } else {
      this.#scratch ??= Buffer.allocUnsafeSlow(WINDOW);
      this.#start = at;
      this.#window = this.#source.read(at, Math.min(WINDOW, this.#source.size - at), this.#scratch);
      this.#window.copy(target, start, 0, length);
    }
  }
}
