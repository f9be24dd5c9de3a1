/**
 * Finds the frame boundaries of a zstd stream (RFC 8878, section 3.1).
 *
 * Node's decompressor ends in silence behind the first frame when one write
 * holds bytes of the next, and parallel compressors and zstd:chunked write many.
 * Fed frame by frame it goes on, so the stream is cut here. Blocks are jumped
 * over by the sizes in their headers.
 */
import { VeneerError } from '../errors.ts';

export const ZSTD_MAGIC = 0xfd2fb528;
export const ZSTD_SKIPPABLE_MAGIC = 0x184d2a50;
export const ZSTD_SKIPPABLE_MASK = 0xfffffff0;

const BLOCK_HEADER = 3;
const BLOCK_RLE = 1;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8];
const DICTIONARY_BYTES = [0, 1, 2, 4];
/** Magic, descriptor, window, dictionary id and content size at their largest. */
const MAX_HEADER = 4 + 1 + 1 + 4 + 8;

export class ZstdFrameCutter {
  /** Bytes of a header that are not complete yet. */
  readonly #held = Buffer.alloc(MAX_HEADER);
  #heldLength = 0;
  #want: 'magic' | 'header' | 'block' = 'magic';
  /** Bytes to pass on before the next header. */
  #pass = 0;
  #lastBlock = false;
  #checksum = 0;
  #offset = 0;

  /** True between frames: here the stream may end. */
  get complete(): boolean {
    return this.#want === 'magic' && this.#heldLength === 0 && this.#pass === 0;
  }

  /** Cuts `chunk` into pieces of which none reaches over the end of a frame. */
  *cut(chunk: Buffer): Generator<Buffer> {
    let from = 0;
    let at = 0;
    while (at < chunk.length) {
      if (this.#pass > 0) {
        const take = Math.min(this.#pass, chunk.length - at);
        this.#pass -= take;
        at += take;
      } else {
        this.#held[this.#heldLength++] = chunk[at++]!;
        this.#header();
      }
      if (this.#pass === 0 && this.#heldLength === 0 && this.#want === 'magic') {
        yield chunk.subarray(from, at);
        from = at;
      }
    }
    this.#offset += chunk.length;
    if (at > from) yield chunk.subarray(from, at);
  }

  /** Looks whether the held bytes make a header; if so says what follows it. */
  #header(): void {
    const held = this.#held;
    if (this.#want === 'magic') {
      if (this.#heldLength < 4) return;
      const magic = held.readUInt32LE(0);
      if (magic === ZSTD_MAGIC) this.#want = 'header';
      else if ((magic & ZSTD_SKIPPABLE_MASK) >>> 0 === ZSTD_SKIPPABLE_MAGIC) {
        if (this.#heldLength < 8) return;
        this.#heldLength = 0;
        this.#pass = held.readUInt32LE(4);
        return;
      } else {
        throw new VeneerError(
          'compress/corrupt',
          `Cannot decompress zstd: no frame begins near byte ${this.#offset}`,
        );
      }
    }
    if (this.#want === 'header') {
      if (this.#heldLength < 5) return;
      const descriptor = held[4]!;
      const singleSegment = (descriptor >> 5) & 1;
      const sizeFlag = descriptor >> 6;
      const size =
        5 +
        (singleSegment === 1 ? 0 : 1) +
        DICTIONARY_BYTES[descriptor & 3]! +
        (sizeFlag === 0 ? singleSegment : CONTENT_SIZE_BYTES[sizeFlag]!);
      if (this.#heldLength < size) return;
      this.#checksum = (descriptor & 4) !== 0 ? 4 : 0;
      this.#heldLength = 0;
      this.#lastBlock = false;
      this.#want = 'block';
      return;
    }
    if (this.#heldLength < BLOCK_HEADER) return;
    const header = held.readUIntLE(0, 3);
    this.#heldLength = 0;
    this.#pass = ((header >> 1) & 3) === BLOCK_RLE ? 1 : header >> 3;
    this.#lastBlock = (header & 1) === 1;
    if (this.#lastBlock) {
      this.#pass += this.#checksum;
      this.#want = 'magic';
    }
  }
}
