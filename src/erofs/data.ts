/**
 * Where a regular file's bytes go: mapped in place where its data sources are
 * aligned, as chunks where it has holes, copied into the image where it cannot
 * be mapped.
 */
import { alignUp } from '../bytes/align.ts';
import { VeneerError } from '../errors.ts';
import { fileExtents } from '../tree/file-data.ts';
import type { DataSource, Extent } from '../tree/node.ts';
import { CHUNK_BITS_MASK, CHUNK_INDEX } from './format.ts';
import type { PlannedInode } from './plan.ts';

/** The whole file is one run in `source`. */
export interface PlainData {
  readonly kind: 'plain';
  readonly source: number;
  /** Byte offset, aligned. */
  readonly at: number;
}

/** A chunk map: the file in chunks of one size. */
export interface ChunkedData {
  readonly kind: 'chunked';
  /** Bytes a chunk, blockSize << n. */
  readonly chunkSize: number;
  /** Per chunk: where it is mapped, or {@link HOLE}, or {@link COPY}. */
  readonly sources: Int32Array;
  /** Per chunk: byte offset in its source; for copies the offset in the image's copied data of this file. */
  readonly ats: Float64Array;
  /** Bytes to copy, a multiple of the chunk size. */
  readonly copied: number;
}

/** No run of a source is usable in place: all bytes are copied. */
export interface CopiedData {
  readonly kind: 'copied';
}

export type DataPlacement = PlainData | ChunkedData | CopiedData | null;

export const HOLE = -1;
export const COPY = -2;
const COPIED: CopiedData = { kind: 'copied' };

/** At most so many bytes of chunk maps in one image: beyond lie only absurd holes. */
const MAX_MAPS = 64 << 20;
/** At most so many bytes in one image are copied that no file has: what is zeros around the data in copied chunks. */
const MAX_PADDING = 1 << 30;

/** Places the files of one image, one after the other: what all sparse ones cost together is bounded. */
export class DataPlacer {
  readonly #blockSize: number;
  readonly #sources: readonly DataSource[];
  readonly #byDevice: boolean;
  readonly #pathOf: (inode: PlannedInode) => string;
  #maps = 0;
  #padding = 0;

  /** `pathOf` is for messages. */
  constructor(
    blockSize: number,
    sources: readonly DataSource[],
    byDevice: boolean,
    pathOf: (inode: PlannedInode) => string,
  ) {
    this.#blockSize = blockSize;
    this.#sources = sources;
    this.#byDevice = byDevice;
    this.#pathOf = pathOf;
  }

  /** Decides the placement of a regular file; null for an empty one. Throws `erofs/limit`. */
  place(inode: PlannedInode): DataPlacement {
    const { node } = inode;
    if (node.size === 0) return null;
    if (node.extents === null && node.source >= 0) return this.#placeRun(node.size, node.source, node.at);
    const extents = fileExtents(node);
    const first = extents[0];
    if (first !== undefined && extents.length === 1 && first.offset === 0 && first.length === node.size) {
      return this.#placeRun(node.size, first.source, first.at);
    }
    const chunkSize = this.#chooseChunkSize(node.size, extents);
    const placement = chunkSize === 0 ? COPIED : this.#mapChunks(node.size, extents, chunkSize);
    this.#charge(placement, node.size, extents, inode);
    return placement;
  }

  /** All of the file stands at `at` of `source`. */
  #placeRun(size: number, source: number, at: number): DataPlacement {
    if (!this.#isAligned(source, at)) return COPIED;
    if (!this.#byDevice) return { kind: 'plain', source, at };
    const bits = Math.max(0, Math.ceil(Math.log2(size / this.#blockSize)));
    const chunkSize = this.#blockSize * 2 ** Math.min(bits, CHUNK_BITS_MASK);
    const count = Math.ceil(size / chunkSize);
    const ats = Float64Array.from({ length: count }, (_, chunk) => at + chunk * chunkSize);
    return { kind: 'chunked', chunkSize, sources: new Int32Array(count).fill(source), ats, copied: 0 };
  }

  #isAligned(source: number, at: number): boolean {
    const blockSize = this.#blockSize;
    return at % blockSize === 0 && this.#sources[source]!.alignment % blockSize === 0;
  }

  /** Can the block of a file that is `delta` bytes behind the start of `extent` be mapped where it stands? */
  #mappable(extent: Extent, delta: number): boolean {
    return this.#isAligned(extent.source, extent.at + delta);
  }

  #mapChunks(size: number, extents: readonly Extent[], chunkSize: number): ChunkedData {
    const count = Math.ceil(size / chunkSize);
    const map = { sources: new Int32Array(count).fill(HOLE), ats: new Float64Array(count) };
    let copied = 0;
    for (const extent of extents) {
      const last = Math.floor((extent.offset + extent.length - 1) / chunkSize);
      for (let chunk = Math.floor(extent.offset / chunkSize); chunk <= last; chunk++) {
        if (map.sources[chunk] === COPY) continue;
        const delta = chunk * chunkSize - extent.offset;
        if (coversChunk(extent, chunk, chunkSize, size) && this.#mappable(extent, delta)) {
          map.sources[chunk] = extent.source;
          map.ats[chunk] = extent.at + delta;
        } else {
          map.sources[chunk] = COPY;
          map.ats[chunk] = copied;
          copied += chunkSize;
        }
      }
    }
    return { kind: 'chunked', chunkSize, ...map, copied };
  }

  /** 0 when copying the whole file is no dearer, or when no map fits any more. */
  #chooseChunkSize(size: number, extents: readonly Extent[]): number {
    return chooseChunkSize(size, extents, {
      blockSize: this.#blockSize,
      isMappable: (extent, delta) => this.#mappable(extent, delta),
      maps: 1,
      maxMap: MAX_MAPS - this.#maps,
      limit: extents.length === 0 ? Number.POSITIVE_INFINITY : alignUp(size, this.#blockSize),
    });
  }

  #charge(
    placement: CopiedData | ChunkedData,
    size: number,
    extents: readonly Extent[],
    inode: PlannedInode,
  ): void {
    const chunked = placement.kind === 'chunked';
    let data = 0;
    for (const { length } of extents) data += length;
    if (chunked) this.#maps += placement.sources.length * CHUNK_INDEX.size;
    this.#padding += Math.max(0, (chunked ? placement.copied : size) - data);
    if (this.#padding <= MAX_PADDING) return;
    throw new VeneerError(
      'erofs/limit',
      `Cannot store the sparse file ${this.#pathOf(inode)} in EROFS: ${extents.length} runs in ${size} bytes need more than ${MAX_MAPS} bytes of chunk maps or ${MAX_PADDING} bytes of padding, together with those before it`,
    );
  }
}

export interface ChunkChoice {
  readonly blockSize: number;
  /** Can the block of a file that is `delta` bytes behind the start of `extent` be mapped where it stands? */
  isMappable(extent: Extent, delta: number): boolean;
  /** How often the map is stored. */
  readonly maps: number;
  /** Bytes of one map at most. */
  readonly maxMap: number;
  /** Only what costs fewer bytes is chosen. */
  readonly limit: number;
}

/**
 * The chunk size with the fewest bytes of maps and copies together; 0 when none is below the limit. Any size is
 * correct: chunks that are neither a hole nor one aligned run are copied.
 */
export function chooseChunkSize(size: number, extents: readonly Extent[], choice: ChunkChoice): number {
  let best = 0;
  let bestCost = choice.limit;
  for (let bits = 0; bits <= CHUNK_BITS_MASK; bits++) {
    const chunkSize = choice.blockSize * 2 ** bits;
    const map = Math.ceil(size / chunkSize) * CHUNK_INDEX.size;
    let cost = map * choice.maps;
    if (map > choice.maxMap) continue;
    let lastCopied = -1;
    for (const extent of extents) {
      const firstChunk = Math.floor(extent.offset / chunkSize);
      const lastChunk = Math.floor((extent.offset + extent.length - 1) / chunkSize);
      // only the first and the last chunk of a run can be partly covered; those between are all mappable or all not
      const inner = lastChunk - firstChunk - 1;
      if (inner > 0 && !choice.isMappable(extent, (firstChunk + 1) * chunkSize - extent.offset))
        cost += inner * chunkSize;
      for (let chunk = firstChunk; chunk <= lastChunk; chunk += Math.max(1, lastChunk - firstChunk)) {
        if (chunk === lastCopied) continue;
        const delta = chunk * chunkSize - extent.offset;
        if (!coversChunk(extent, chunk, chunkSize, size) || !choice.isMappable(extent, delta)) {
          cost += chunkSize;
          lastCopied = chunk;
        }
      }
      if (cost >= bestCost) break;
    }
    if (cost < bestCost) {
      bestCost = cost;
      best = chunkSize;
    }
    if (chunkSize >= size) break;
  }
  return best;
}

export function coversChunk(extent: Extent, chunk: number, chunkSize: number, size: number): boolean {
  const begin = chunk * chunkSize;
  return extent.offset <= begin && extent.offset + extent.length >= Math.min(begin + chunkSize, size);
}
