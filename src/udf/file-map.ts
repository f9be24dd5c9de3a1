/**
 * Where a regular file's bytes stand in the volume: mapped in place where they begin a block both in the
 * file and in the volume, holes, and copies of what is neither.
 */
import { alignUp } from '../bytes/align.ts';
import { fileExtents } from '../tree/file-data.ts';
import type { TreeNode } from '../tree/node.ts';
import { MAX_EXTENT, UDF_BLOCK } from './format.ts';

export const MAPPED = 0;
export const HOLE = 1;
export const COPIED = 2;

/** A run of a file: whole blocks, but for the last one of a file. */
export interface FileRun {
  readonly kind: typeof MAPPED | typeof HOLE | typeof COPIED;
  /** Bytes. */
  length: number;
  /** Mapped: block of the volume. Copied: blocks from the start of this file's copies. Hole: 0. */
  readonly block: number;
}

export interface FileMap {
  readonly runs: readonly FileRun[];
  /** Allocation descriptors that the runs take. */
  readonly descriptors: number;
  /** Blocks that are recorded somewhere. */
  readonly recorded: number;
  /** Blocks to copy. */
  readonly copied: number;
}

/** At most so many allocation descriptors for one file, 256 TiB of hole: beyond it lie only absurd sizes. */
export const MAX_DESCRIPTORS = 1 << 18;

const NOTHING: FileMap = { runs: [], descriptors: 0, recorded: 0, copied: 0 };

/**
 * The runs of `node`, which begin at file offset 0 and end at its size.
 *
 * @param bases byte offset in the volume of each data source, a multiple of the block size; -1: not in the volume
 */
export function mapFile(node: TreeNode, bases: readonly number[]): FileMap {
  if (node.size === 0) return NOTHING;
  const map = new MapBuilder();
  for (const { offset, length, source, at } of fileExtents(node)) {
    const end = offset + length;
    if (map.end >= end) continue;
    const block = offset - (offset % UDF_BLOCK);
    if (block > map.end) map.add(HOLE, block - map.end, 0);
    const base = bases[source]!;
    if (base < 0 || (base + at - offset) % UDF_BLOCK !== 0) {
      map.copy(alignUp(end, UDF_BLOCK) - map.end);
      continue;
    }
    // a block that begins before this run holds what no single place of the volume has
    if (map.end < offset) map.copy(UDF_BLOCK);
    const mapped = end === node.size ? end : end - (end % UDF_BLOCK);
    if (mapped > map.end) map.add(MAPPED, mapped - map.end, (base + at + map.end - offset) / UDF_BLOCK);
    if (end > map.end) map.copy(UDF_BLOCK);
  }
  if (map.end < node.size) map.add(HOLE, node.size - map.end, 0);
  return map.finish(node.size);
}

class MapBuilder {
  readonly #runs: FileRun[] = [];
  #copied = 0;
  /** File offset behind the last run. */
  end = 0;

  add(kind: FileRun['kind'], length: number, block: number): void {
    const last = this.#runs.at(-1);
    this.end += length;
    if (last?.kind === kind && (kind === HOLE || last.block + last.length / UDF_BLOCK === block)) {
      last.length += length;
    } else {
      this.#runs.push({ kind, length, block });
    }
  }

  copy(length: number): void {
    this.add(COPIED, length, this.#copied);
    this.#copied += length / UDF_BLOCK;
  }

  finish(size: number): FileMap {
    // copies are whole blocks, the file need not be
    if (this.end > size) this.#runs.at(-1)!.length -= this.end - size;
    let descriptors = 0;
    let recorded = 0;
    for (const { kind, length } of this.#runs) {
      descriptors += Math.ceil(length / MAX_EXTENT);
      if (kind !== HOLE) recorded += Math.ceil(length / UDF_BLOCK);
    }
    return { runs: this.#runs, descriptors, recorded, copied: this.#copied };
  }
}
