/** Reads a regular file's bytes out of the places where they stand. */
import type { ByteSource } from '../bytes/io.ts';
import { fileExtents } from '../tree/file-data.ts';
import type { TreeNode } from '../tree/node.ts';
import type { OpenImage } from './open-image.ts';

const CHUNK = 1 << 20;

/** The bytes of a file whose data sources are at hand; what no run covers comes as zeros. `end` is exclusive. */
export async function* readFile(
  data: (source: number) => ByteSource,
  node: TreeNode,
  range: { start?: number; end?: number } = {},
): AsyncGenerator<Buffer> {
  const end = Math.min(range.end ?? node.size, node.size);
  let at = Math.max(0, range.start ?? 0);
  for (const extent of fileExtents(node)) {
    const from = Math.max(at, extent.offset);
    const to = Math.min(end, extent.offset + extent.length);
    if (from >= to) continue;
    yield* zeros(from - at);
    const source = data(extent.source);
    for (at = from; at < to; at += CHUNK) {
      yield source.read(extent.at + at - extent.offset, Math.min(CHUNK, to - at));
    }
    at = to;
  }
  yield* zeros(end - at);
}

function* zeros(count: number): Generator<Buffer> {
  if (count <= 0) return;
  const block = Buffer.alloc(Math.min(count, CHUNK));
  for (let left = count; left > 0; left -= block.length)
    yield left < block.length ? block.subarray(0, left) : block;
}

/** A run of data and where it belongs in the file. */
export interface DataChunk {
  readonly offset: number;
  readonly bytes: Buffer;
}

/** The data of a file in order; holes are left out. */
export async function* dataChunks(image: OpenImage, node: TreeNode): AsyncGenerator<DataChunk> {
  for (const { offset, length } of fileExtents(node)) {
    let at = offset;
    for await (const bytes of image.readFile(node, { start: offset, end: offset + length })) {
      yield { offset: at, bytes };
      at += bytes.length;
    }
  }
}
