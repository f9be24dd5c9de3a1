/** The two trees of an update: the one that a checkout has, and the one it is to have. */
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import type { DiffSide } from '../diff/content.ts';
import { ErofsReader } from '../erofs/reader.ts';
import { VeneerError } from '../errors.ts';
import { chainOf } from '../store/chain-ids.ts';
import { findChainRecord } from '../store/chain-records.ts';
import { DataFiles, fileSource, openStored } from '../store/data-files.ts';
import { hasLayer } from '../store/layers.ts';
import { CHAIN_IMAGE } from '../store/layout.ts';
import { type OpenImage, openTree } from '../store/open-tree.ts';
import type { ImageRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import { type FileTree, S_IFDIR, TreeNode } from '../tree/node.ts';
import type { CheckoutState, RecordFolder } from './record.ts';

/** A tree, and its data as far as the store still has it. */
export interface OldSide {
  readonly tree: FileTree;
  readonly side: DiffSide;
  close(): void;
}

/** What is in a directory before anything was checked out into it. */
export function emptySide(): OldSide {
  const root = new TreeNode(S_IFDIR | 0o700);
  const side = { root, sources: [], data: unreadable, isReadable: () => false };
  return { tree: { root, sources: [], findings: [] }, side, close: () => {} };
}

/** The tree of a checkout from its record. Layers that the store has no more cannot be read, and need not be. */
export function openKept(store: Store, folder: RecordFolder, state: CheckoutState): OldSide {
  const path = folder.tree(state);
  const fd = openStored(path);
  let tree: FileTree;
  try {
    tree = new ErofsReader(fileSource(fd, path)).readTree();
  } finally {
    closeSync(fd);
  }
  for (const source of tree.sources) {
    if (source.kind === 'erofs' && source.digest === '') source.digest = state.treeDigest;
  }
  const files = new DataFiles(
    store,
    state.layers.filter((diffId) => hasLayer(store, diffId)),
  );
  files.addFile(state.treeDigest, path);
  const open = (index: number) => files.open(tree.sources[index]!);
  const side: DiffSide = {
    root: tree.root,
    sources: tree.sources.map(({ digest }) => digest),
    data(index) {
      const { fd: data, path: file } = open(index);
      return fileSource(data, file);
    },
    isReadable(index) {
      try {
        open(index);
        return true;
      } catch (error) {
        if (error instanceof VeneerError) return false;
        throw error;
      }
    },
  };
  return { tree, side, close: () => files.close() };
}

export interface NewSide {
  readonly state: CheckoutState;
  readonly image: OpenImage;
  readonly side: DiffSide;
}

/** Opens an image of the store, and keeps its tree in the record's folder. */
export async function openNew(
  store: Store,
  folder: RecordFolder,
  image: Pick<ImageRecord, 'name' | 'layers'>,
): Promise<NewSide> {
  const opened = await openTree(store, image);
  const shared = store.share();
  try {
    const layers = image.layers.map(({ diffId }) => diffId);
    const chainId = chainOf(layers);
    const chain = findChainRecord(store.layout.chain(chainId), chainId);
    if (chain === null)
      throw new VeneerError('store/missing', `Cannot read the chain ${chainId}: it is missing`);
    const state: CheckoutState = { image: image.name, chainId, layers, treeDigest: chain.image.digest };
    folder.keepTree(state, join(store.layout.chain(chainId), CHAIN_IMAGE));
    const side: DiffSide = {
      root: opened.tree.root,
      sources: opened.tree.sources.map(({ digest }) => digest),
      data: opened.data,
    };
    return { state, image: opened, side };
  } catch (error) {
    opened.close();
    throw error;
  } finally {
    shared.release();
  }
}

function unreadable(): never {
  throw new VeneerError('store/missing', 'Cannot read the data of nothing');
}
