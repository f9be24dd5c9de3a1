/** The trees of stored layers, read back from their metadata images. */
import { closeSync } from 'node:fs';
import { ErofsReader, type TreeSize } from '../erofs/reader.ts';
import { VeneerError } from '../errors.ts';
import { DEFAULT_LIMITS } from '../tree/build.ts';
import type { FileTree } from '../tree/node.ts';
import { fileSource, openStored } from './data-files.ts';
import { deviceDigest } from './device-path.ts';
import { storeError } from './io-errors.ts';
import { tarFiles } from './layer-files.ts';
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
  readonly #ahead: TreesAhead | null;
  readonly #budget = new TreeBudget();

  /** Those that are in `ahead` are taken out of there. */
  constructor(store: Store, ahead: TreesAhead | null = null) {
    this.#store = store;
    this.#ahead = ahead;
  }

  /** As {@link readLayerTree}; throws `tree/limit` when the trees read so far are too much together. */
  read(diffId: string): FileTree {
    const { tree, size } = this.#ahead?.take(diffId) ?? readSized(this.#store, diffId);
    this.#budget.spend(size);
    return tree;
  }
}

/** Trees that a merge is going to want, read before all its layers are there; no more than one merge may hold. */
export class TreesAhead {
  readonly #store: Store;
  readonly #trees = new Map<string, SizedTree>();
  #budget = new TreeBudget();
  #isFull = false;

  constructor(store: Store) {
    this.#store = store;
  }

  /** Reads a layer's tree. One that is not there, or too much, is left to the merge to say so. */
  read(diffId: string): void {
    if (this.#isFull || this.#trees.has(diffId)) return;
    try {
      const sized = readSized(this.#store, diffId);
      this.#budget.spend(sized.size);
      this.#trees.set(diffId, sized);
    } catch (error) {
      if (!(error instanceof VeneerError)) throw error;
      this.#isFull = error.code === 'tree/limit';
    }
  }

  /** Whoever takes a tree may change it. */
  take(diffId: string): SizedTree | null {
    const sized = this.#trees.get(diffId) ?? null;
    this.#trees.delete(diffId);
    return sized;
  }

  clear(): void {
    this.#trees.clear();
    this.#budget = new TreeBudget();
    this.#isFull = false;
  }
}

interface SizedTree {
  readonly tree: FileTree;
  readonly size: TreeSize;
}

class TreeBudget {
  #layers = 0;
  #nodes = 0;
  #text = 0;

  /** Throws `tree/limit`. */
  spend(size: TreeSize): void {
    this.#layers++;
    this.#nodes += size.nodes;
    this.#text += size.text;
    const { nodes, text } = DEFAULT_LIMITS;
    if (this.#nodes > nodes) throw this.#tooMuch(`${nodes} inodes, names and attributes`);
    if (this.#text > text) throw this.#tooMuch(`${text} bytes of names, link targets and attributes`);
  }

  #tooMuch(limit: string): VeneerError {
    return new VeneerError(
      'tree/limit',
      `Cannot merge the layers of the image: the lowest ${this.#layers} have more than ${limit} together`,
    );
  }
}

function readSized(store: Store, diffId: string): SizedTree {
  const record = readLayer(store, diffId);
  const path = layerImage(store, diffId);
  const fd = openStored(path);
  try {
    const reader = new ErofsReader(fileSource(fd, path));
    const tree = reader.readTree();
    const files = tarFiles(record);
    for (const source of tree.sources) {
      if (source.kind === 'erofs' && source.digest === '') source.digest = record.image.digest;
      const file = files.find((one) => deviceDigest(store, one) === source.digest);
      if (file !== undefined) source.size = file.size;
    }
    return { tree, size: reader.treeSize };
  } catch (error) {
    throw storeError(`read ${path}`, error);
  } finally {
    closeSync(fd);
  }
}
