/** The trees of stored layers, read back from their metadata images. */
import { closeSync } from 'node:fs';
import { ErofsReader, type TreeSize } from '../erofs/reader.ts';
import { VeneerError } from '../errors.ts';
import { DEFAULT_LIMITS } from '../tree/build.ts';
import type { FileTree } from '../tree/node.ts';
import { fileSource, openStored } from './data-files.ts';
import { storeError } from './io-errors.ts';
import { layerImage, readLayer } from './layers.ts';
import type { Store } from './store.ts';

/** The tree of one layer; sources carry digests and sizes. Throws `store/missing`, `store/corrupt`, `erofs/corrupt`. */
export function readLayerTree(store: Store, diffId: string): FileTree {
  return readSized(store, diffId).tree;
}

/**
 * Reads the trees of layers that are held together. A layer may come any number of times in an image, so what was
 * bounded for each is bounded again for all.
 */
export class LayerTrees {
  readonly #store: Store;
  #layers = 0;
  #nodes = 0;
  #text = 0;

  constructor(store: Store) {
    this.#store = store;
  }

  /** As {@link readLayerTree}; throws `tree/limit` when the trees read so far are too much together. */
  read(diffId: string): FileTree {
    const { tree, size } = readSized(this.#store, diffId);
    this.#layers++;
    this.#nodes += size.nodes;
    this.#text += size.text;
    const { nodes, text } = DEFAULT_LIMITS;
    if (this.#nodes > nodes) throw this.#tooMuch(`${nodes} inodes, names and attributes`);
    if (this.#text > text) throw this.#tooMuch(`${text} bytes of names, link targets and attributes`);
    return tree;
  }

  #tooMuch(limit: string): VeneerError {
    return new VeneerError(
      'tree/limit',
      `Cannot merge the layers of the image: the lowest ${this.#layers} have more than ${limit} together`,
    );
  }
}

function readSized(store: Store, diffId: string): { tree: FileTree; size: TreeSize } {
  const record = readLayer(store, diffId);
  const path = layerImage(store, diffId);
  const fd = openStored(path);
  try {
    const reader = new ErofsReader(fileSource(fd, path));
    const tree = reader.readTree();
    for (const source of tree.sources) {
      if (source.kind === 'erofs' && source.digest === '') source.digest = record.image.digest;
      if (source.digest === diffId) source.size = record.tarSize;
    }
    return { tree, size: reader.treeSize };
  } catch (error) {
    throw storeError(`read ${path}`, error);
  } finally {
    closeSync(fd);
  }
}
