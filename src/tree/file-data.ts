/** Where the bytes of regular files stand, and how they are put together for a copy. */
import type { Extent, TreeNode } from './node.ts';

/** Reads `length` bytes at `at` of a data source of the tree. */
export type ReadData = (source: number, at: number, length: number) => Buffer;

/** The data runs of a regular file, in file order. */
export function fileExtents(node: TreeNode): readonly Extent[] {
  if (node.extents !== null) return node.extents;
  if (node.source < 0 || node.size === 0) return [];
  return [{ offset: 0, length: node.size, source: node.source, at: node.at }];
}

/** Fills `piece` with the bytes of the file from `from` on; holes and what lies behind its end are zeros. */
export function fillPiece(node: TreeNode, from: number, piece: Buffer, read: ReadData): void {
  piece.fill(0);
  const extents = fileExtents(node);
  for (let i = firstExtentBehind(extents, from); i < extents.length; i++) {
    const extent = extents[i]!;
    const low = Math.max(extent.offset, from);
    const high = Math.min(extent.offset + extent.length, from + piece.length);
    if (low >= high) break;
    read(extent.source, extent.at + low - extent.offset, high - low).copy(piece, low - from);
  }
}

/** Index of the first extent that ends behind `offset`; extents are sorted. */
function firstExtentBehind(extents: readonly Extent[], offset: number): number {
  let low = 0;
  let high = extents.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (extents[middle]!.offset + extents[middle]!.length > offset) high = middle;
    else low = middle + 1;
  }
  return low;
}
