/** Reading a stored image without mounting it: its merged tree, and the bytes of its files. */
import { closeSync, read as readCallback } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { ByteSource } from '../bytes/io.ts';
import { ErofsReader } from '../erofs/reader.ts';
import { VeneerError } from '../errors.ts';
import { fileExtents } from '../tree/file-data.ts';
import { type FileTree, S_IFMT, S_IFREG, type TreeNode } from '../tree/node.ts';
import { ensureChain } from './chains.ts';
import { DataFiles, fileSource, openStored } from './data-files.ts';
import { storeError } from './io-errors.ts';
import { CHAIN_IMAGE } from './layout.ts';
import type { ImageRecord } from './records.ts';
import type { Store } from './store.ts';

const readAsync = promisify(readCallback);

const CHUNK = 1 << 20;
const ZEROS = Buffer.alloc(64 * 1024);

/** A stored image, open for reading. Its files stay readable until `close`, whatever a sweep removes. */
export interface OpenImage {
  /** Merged: no whiteouts, no lower links. */
  readonly tree: FileTree;
  /** The bytes of a regular file in order; holes come as zeros. `end` is exclusive. */
  readFile(node: TreeNode, range?: { start?: number; end?: number }): AsyncGenerator<Buffer>;
  /** The bytes of `tree.sources[index]`, read synchronously. */
  data(index: number): ByteSource;
  /** The file that `tree.sources[index]` is, open until `close`. */
  file(index: number): { readonly fd: number; readonly path: string };
  close(): void;
}

/**
 * Opens the merged tree of an image. Its metadata image is made when it is missing.
 * Throws `store/missing`, `store/corrupt`, `erofs/corrupt`.
 */
export async function openTree(store: Store, image: Pick<ImageRecord, 'layers'>): Promise<OpenImage> {
  const diffIds = image.layers.map((layer) => layer.diffId);
  // Held until every file is open: what a sweep removes then, we can still read.
  const shared = store.share();
  let files: DataFiles | undefined;
  try {
    const record = await ensureChain(store, diffIds);
    const path = join(store.layout.chain(record.chainId), CHAIN_IMAGE);
    const fd = openStored(path);
    let tree: FileTree;
    try {
      tree = new ErofsReader(fileSource(fd, path)).readTree();
    } finally {
      closeSync(fd);
    }
    files = new DataFiles(store, diffIds);
    files.addFile(record.image.digest, path);
    for (const source of tree.sources) {
      if (source.kind === 'erofs' && source.digest === '') source.digest = record.image.digest;
    }
    const open = files;
    const sources = tree.sources.map((source) => {
      const { fd, path: file } = open.open(source);
      return fileSource(fd, file);
    });
    return {
      tree,
      readFile: (node, range) => readNode(open, tree, node, range),
      data: (index) => sources[index]!,
      file: (index) => open.open(tree.sources[index]!),
      close: () => open.close(),
    };
  } catch (error) {
    files?.close();
    throw storeError('open the image', error);
  } finally {
    shared.release();
  }
}

async function* readNode(
  files: DataFiles,
  tree: FileTree,
  node: TreeNode,
  range: { start?: number; end?: number } = {},
): AsyncGenerator<Buffer> {
  if ((node.mode & S_IFMT) !== S_IFREG) {
    throw new VeneerError('tree/invalid', 'Cannot read the data of this: it is not a regular file');
  }
  const end = Math.min(range.end ?? node.size, node.size);
  let at = Math.max(0, range.start ?? 0);
  for (const extent of fileExtents(node)) {
    const from = Math.max(at, extent.offset);
    const to = Math.min(end, extent.offset + extent.length);
    if (from >= to) continue;
    yield* zeros(from - at);
    const { fd, path } = files.open(tree.sources[extent.source]!);
    yield* readRun(fd, path, extent.at + from - extent.offset, to - from);
    at = to;
  }
  if (at < end) yield* zeros(end - at);
}

function* zeros(length: number): Generator<Buffer> {
  for (let left = length; left > 0; left -= ZEROS.length) {
    yield left >= ZEROS.length ? ZEROS : ZEROS.subarray(0, left);
  }
}

async function* readRun(fd: number, path: string, offset: number, length: number): AsyncGenerator<Buffer> {
  for (let done = 0; done < length; ) {
    const want = Math.min(CHUNK, length - done);
    const buffer = Buffer.allocUnsafe(want);
    let count: number;
    try {
      count = (await readAsync(fd, buffer, 0, want, offset + done)).bytesRead;
    } catch (error) {
      throw storeError(`read ${path} at ${offset + done}`, error);
    }
    if (count === 0) {
      throw new VeneerError('store/corrupt', `Cannot read ${path} at ${offset + done}: the file ends there`);
    }
    yield count === want ? buffer : buffer.subarray(0, count);
    done += count;
  }
}
