/** A layer's tree whose data stands in a tar, made to point to where a recipe has that data. */
import type { ByteSource } from '../bytes/io.ts';
import { findRun, type NewData, RECIPE_BLOCK, type RecipeRuns, ZEROS } from '../dedupe/index.ts';
import { chooseChunkSize, coversChunk } from '../erofs/index.ts';
import { fileExtents, fillPiece } from '../tree/file-data.ts';
import type { Extent, FileTree, TreeNode } from '../tree/node.ts';

/** A chunk map stands in the image of the layer and in that of its chain. */
const MAPS = 2;
const MAX_MAP = 16 << 20;

/**
 * Rewrites the data of all files. Sources are numbered as in the recipe, less one. What the chunks of a map cannot say,
 * because a chunk lies across the border of two runs, is appended to the new data: once, where both images would each
 * hold a copy of it otherwise.
 */
export function shareTree(tree: FileTree, runs: RecipeRuns, tar: ByteSource, data: NewData): void {
  const done = new Set<TreeNode>();
  const pending = [tree.root];
  for (let dir = pending.pop(); dir !== undefined; dir = pending.pop()) {
    for (const node of dir.children!.values()) {
      if (node.children !== null) pending.push(node);
      else if (fileExtents(node).length > 0 && !done.has(node)) {
        done.add(node);
        shareFile(node, runs, tar, data);
      }
    }
  }
}

function shareFile(node: TreeNode, runs: RecipeRuns, tar: ByteSource, data: NewData): void {
  const mapped = mapExtents(fileExtents(node), runs);
  const extents = chunkExtents(node, mapped, tar, data);
  const first = extents[0];
  const oneRun = extents.length === 1 && first!.offset === 0 && first!.length === node.size;
  node.source = oneRun ? first!.source : -1;
  node.at = oneRun ? first!.at : 0;
  node.extents = oneRun || extents.length === 0 ? null : extents;
}

/** Extents in the tar as extents in the files that it is put together from. */
function mapExtents(extents: readonly Extent[], runs: RecipeRuns): Extent[] {
  const mapped: Extent[] = [];
  for (const { offset, length, at } of extents) {
    let run = findRun(runs, Math.floor(at / RECIPE_BLOCK));
    for (let done = 0; done < length; run++) {
      const skipped = at + done - runs.starts[run]! * RECIPE_BLOCK;
      const take = Math.min(length - done, runs.starts[run + 1]! * RECIPE_BLOCK - (at + done));
      const source = runs.sources[run]!;
      if (source !== ZEROS)
        addExtent(mapped, {
          offset: offset + done,
          length: take,
          source: source - 1,
          at: runs.ats[run]! * RECIPE_BLOCK + skipped,
        });
      done += take;
    }
  }
  return mapped;
}

function addExtent(extents: Extent[], next: Extent): void {
  const last = extents.at(-1);
  const goesOn =
    last !== undefined &&
    last.source === next.source &&
    last.offset + last.length === next.offset &&
    last.at + last.length === next.at;
  if (goesOn) extents[extents.length - 1] = { ...last, length: last.length + next.length };
  else extents.push(next);
}

/** The same data in chunks of the size that costs least, each a hole or one run. */
function chunkExtents(node: TreeNode, extents: Extent[], tar: ByteSource, data: NewData): Extent[] {
  const { size } = node;
  const aligned = extents.every(({ offset, at }) => offset % RECIPE_BLOCK === 0 && at % RECIPE_BLOCK === 0);
  // what is not aligned is copied into the images, as that of layers with a tar is
  if (extents.length < 2 || !aligned) return extents;
  const chunkSize = chooseChunkSize(size, extents, {
    blockSize: RECIPE_BLOCK,
    isMappable: () => true,
    maps: MAPS,
    maxMap: MAX_MAP,
    limit: size,
  });
  if (chunkSize === 0) return [appendPiece(node, 0, size, tar, data)];
  const chunked: Extent[] = [];
  let next = 0;
  for (let begin = 0; begin < size; begin += chunkSize) {
    const end = Math.min(begin + chunkSize, size);
    while (next < extents.length && extents[next]!.offset + extents[next]!.length <= begin) next++;
    const extent = extents[next];
    if (extent === undefined || extent.offset >= end) continue;
    if (coversChunk(extent, begin / chunkSize, chunkSize, size)) {
      const at = extent.at + begin - extent.offset;
      addExtent(chunked, { offset: begin, length: end - begin, source: extent.source, at });
    } else {
      addExtent(chunked, appendPiece(node, begin, end - begin, tar, data));
    }
  }
  return chunked;
}

const PIECE = 1 << 20;

function appendPiece(node: TreeNode, begin: number, length: number, tar: ByteSource, data: NewData): Extent {
  const at = data.size;
  for (let done = 0; done < length; done += PIECE) {
    const take = Math.min(PIECE, length - done);
    // whole blocks: the next piece begins on one
    const piece = Buffer.alloc(Math.ceil(take / RECIPE_BLOCK) * RECIPE_BLOCK);
    fillPiece(node, begin + done, piece.subarray(0, take), (_source, from, count) => tar.read(from, count));
    data.append(piece);
  }
  return { offset: begin, length, source: 0, at };
}
