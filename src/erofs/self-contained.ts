/**
 * A self-contained image from a tar stream, in one pass: file data first, as it
 * comes, then the metadata, at last the header. Nothing is copied twice.
 */
import { alignUp } from '../bytes/align.ts';
import type { ByteSink } from '../bytes/io.ts';
import type { TarEntry } from '../tar/entry.ts';
import { TreeBuilder } from '../tree/build.ts';
import type { ReadData } from '../tree/file-data.ts';
import type { Extent, FileTree } from '../tree/node.ts';
import { imageHeaderSize, planImage } from './plan.ts';
import { buildHeader, buildMetadata, writeCopies } from './writer.ts';

/** Output is collected into pieces of this size; longer runs of input go out as they are. */
const PIECE = 1 << 20;
const PASS_THROUGH = 64 << 10;

/** A region of the file that is stored: whole blocks, with what zeros lie between its runs. */
interface Region {
  /** File offset of its first byte, a multiple of the block size. */
  readonly begin: number;
  /** File offset behind its last data byte. */
  end: number;
}

/**
 * Feed it as the handlers of a `TarScanner` (`onEntry`, `onPayload`), then call
 * `finish`. The sink must keep what was written readable through `read` of
 * `finish`: of a sparse file, chunks that are only partly data may be copied,
 * where larger chunks save more of the map than they cost.
 */
export class SelfContainedWriter {
  readonly #blockSize: number;
  readonly #sink: ByteSink;
  readonly #builder: TreeBuilder;
  readonly #piece = Buffer.allocUnsafe(PIECE);
  #used = 0;
  /** Byte offset in the image where `#piece` begins. */
  #written: number;
  /** The file whose payload comes now: its runs in file order, and how far we are. */
  #runs: readonly { readonly offset: number; readonly length: number }[] = [];
  #run = 0;
  #inRun = 0;

  /** `blockSize`: 512 to 4096, a power of two. */
  constructor(blockSize: number, sink: ByteSink) {
    this.#blockSize = blockSize;
    this.#sink = sink;
    this.#written = imageHeaderSize(blockSize, 0);
    this.#builder = new TreeBuilder({ kind: 'erofs', digest: '', size: 0, alignment: blockSize });
  }

  /** Next member; its payload follows through {@link onPayload}. */
  readonly onEntry = (entry: TarEntry): void => {
    this.#padBlock();
    this.#run = 0;
    this.#inRun = 0;
    const node = this.#builder.add(entry);
    if (node === null || node.size === 0) {
      this.#runs = [];
    } else if (entry.sparse === null) {
      this.#runs = [{ offset: 0, length: entry.size }];
      node.source = 0;
      node.at = this.#position;
    } else {
      this.#runs = entry.sparse;
      const regions = joinRuns(entry.sparse, this.#blockSize);
      node.extents = placeRegions(regions, this.#position, this.#blockSize, node.size);
    }
  };

  /** Payload of the last entry, data runs only. */
  readonly onPayload = (buffer: Buffer, start: number, end: number): void => {
    while (start < end && this.#run < this.#runs.length) {
      const run = this.#runs[this.#run]!;
      if (this.#inRun === 0) this.#fillGap(run.offset);
      const take = Math.min(end - start, run.length - this.#inRun);
      this.#append(buffer, start, start + take);
      start += take;
      this.#inRun += take;
      if (this.#inRun === run.length) {
        this.#run++;
        this.#inRun = 0;
      }
    }
  };

  /**
   * Ends the image. `identity`: digest of the input, goes into the UUID.
   * Returns the tree (its only source is the image) and the image's size in bytes.
   */
  finish(identity: string, read: ReadData): { tree: FileTree; size: number } {
    this.#padBlock();
    this.#flush();
    const tree = this.#builder.finish();
    tree.sources[0]!.size = this.#written;
    const plan = planImage(tree, {
      blockSize: this.#blockSize,
      own: { source: 0, blocks: this.#written / this.#blockSize, identity },
    });
    const metadata = buildMetadata(plan);
    this.#sink.write(metadata, plan.inodesAt);
    writeCopies(plan, this.#sink, read);
    this.#sink.write(buildHeader(plan, metadata), 0);
    tree.sources[0]!.size = plan.size;
    return { tree, size: plan.size };
  }

  get #position(): number {
    return this.#written + this.#used;
  }

  /** Before a run: zeros up to its place in its first block, or between it and the run before in the same region. */
  #fillGap(offset: number): void {
    const before = this.#runs[this.#run - 1];
    const blockSize = this.#blockSize;
    const blockBegin = offset - (offset % blockSize);
    const end = before === undefined ? 0 : before.offset + before.length;
    if (before !== undefined && alignUp(end, blockSize) >= blockBegin) {
      this.#appendZeros(offset - end);
    } else {
      this.#padBlock();
      this.#appendZeros(offset - blockBegin);
    }
  }

  #padBlock(): void {
    this.#appendZeros(alignUp(this.#position, this.#blockSize) - this.#position);
  }

  /** Less than two blocks at a time. */
  #appendZeros(count: number): void {
    if (this.#used + count > PIECE) this.#flush();
    this.#piece.fill(0, this.#used, this.#used + count);
    this.#used += count;
  }

  #append(buffer: Buffer, start: number, end: number): void {
    if (end - start >= PASS_THROUGH) {
      this.#flush();
      this.#sink.write(buffer.subarray(start, end), this.#written);
      this.#written += end - start;
      return;
    }
    if (this.#used + end - start > PIECE) this.#flush();
    buffer.copy(this.#piece, this.#used, start, end);
    this.#used += end - start;
  }

  #flush(): void {
    if (this.#used === 0) return;
    this.#sink.write(this.#piece.subarray(0, this.#used), this.#written);
    this.#written += this.#used;
    this.#used = 0;
  }
}

/** Joins runs that share a block or touch the next one, so that every region is whole blocks. */
function joinRuns(
  runs: readonly { readonly offset: number; readonly length: number }[],
  blockSize: number,
): Region[] {
  const regions: Region[] = [];
  for (const { offset, length } of runs) {
    const begin = offset - (offset % blockSize);
    const last = regions.at(-1);
    if (last !== undefined && alignUp(last.end, blockSize) >= begin) last.end = offset + length;
    else regions.push({ begin, end: offset + length });
  }
  return regions;
}

/** Regions of a file of `size` bytes, behind each other from `at` on; the zeros that fill their last blocks are data too. */
function placeRegions(regions: readonly Region[], at: number, blockSize: number, size: number): Extent[] {
  let next = at;
  return regions.map(({ begin, end }) => {
    const stored = alignUp(end - begin, blockSize);
    const extent = { offset: begin, length: Math.min(stored, size - begin), source: 0, at: next };
    next += stored;
    return extent;
  });
}
