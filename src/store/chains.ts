/** Metadata images over several layers: the merged image of a chain, and single layers that lean on lower ones. */
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fittingBlockSize, planImage } from '../erofs/index.ts';
import { chainIds } from '../oci/digest.ts';
import { mergeLayers } from '../tree/merge.ts';
import type { FileTree } from '../tree/node.ts';
import { resolveLayer } from '../tree/resolve.ts';
import { discard, publishDirectory, writeNewFile } from './atomic.ts';
import { chainOf } from './chain-ids.ts';
import { findChainRecord, leansOnChain } from './chain-records.ts';
import { DataFiles } from './data-files.ts';
import { type WrittenImage, writeImageFile } from './image-file.ts';
import type { IngestedLayer } from './ingest.ts';
import { storeError } from './io-errors.ts';
import { tarFiles } from './layer-files.ts';
import { LayerTrees, readLayerTree, type TreesAhead } from './layer-trees.ts';
import { readLayer } from './layers.ts';
import { CHAIN_FACTS, CHAIN_IMAGE, digestHex, LAYER_DATA, LAYER_IMAGE } from './layout.ts';
import { type Lock, throwIfAborted, tryLockName, waitForLock } from './locks.ts';
import { type ChainRecord, type DeviceRecord, type LayerRecord, recordText } from './records.ts';
import type { Store } from './store.ts';

interface Target {
  readonly directory: string;
  readonly file: string;
  readonly chainId: string;
  readonly diffIds: readonly string[];
}

/**
 * Writes and publishes one image with its record, unless somebody else does it first. Call it with the lock of
 * the chain. A crash leaves the work directory, which is swept, or the finished chain.
 */
async function makeChain(
  store: Store,
  target: Target,
  tree: FileTree,
  files: DataFiles,
): Promise<ChainRecord> {
  const work = join(store.work(), `chain-${randomBytes(9).toString('hex')}`);
  try {
    mkdirSync(work, { mode: 0o700 });
    const plan = planImage(tree, { blockSize: fittingBlockSize(tree.sources) });
    const image = writeImageFile(join(work, target.file), plan, (source, at, length) =>
      files.read(tree.sources[source]!, at, length),
    );
    const devices = plan.devices.map(({ source }) => files.device(tree.sources[source]!));
    return await publishChain(store, work, target, image, devices);
  } catch (error) {
    await discard(work);
    throw storeError(`write the image of chain ${target.chainId}`, error);
  }
}

/** Gives the image in `work` its record and its name. */
async function publishChain(
  store: Store,
  work: string,
  { directory, file, chainId, diffIds }: Target,
  image: WrittenImage,
  devices: readonly DeviceRecord[],
): Promise<ChainRecord> {
  const version = devices.some((device) => device.file === LAYER_DATA) ? 2 : 1;
  const record: ChainRecord = { version, chainId, diffIds, image, devices };
  await writeNewFile(join(work, CHAIN_FACTS), recordText(record), { fsync: false });
  const published = await publishDirectory(work, directory, {
    fsync: store.fsync,
    files: [file, CHAIN_FACTS],
  });
  if (!published) await discard(work);
  return record;
}

/** Publishes the merged image of one layer alone, which was written in `work` with the layer; it is stored by now. */
export async function publishLoneChain(
  store: Store,
  work: string,
  layer: LayerRecord,
  { image, devices }: NonNullable<IngestedLayer['chain']>,
): Promise<void> {
  const { diffId } = layer;
  const directory = store.layout.chain(diffId);
  const files = tarFiles(layer);
  await underChainLock(store, 'chain', diffId, undefined, () =>
    publishChain(
      store,
      work,
      { directory, file: CHAIN_IMAGE, chainId: diffId, diffIds: [diffId] },
      image,
      devices.map((source) => files[source]!),
    ),
  );
}

/** Runs `make` under the lock of one chain, so that two processes do not do the same work. */
async function underChainLock<T>(
  store: Store,
  kind: string,
  chainId: string,
  signal: AbortSignal | undefined,
  make: () => Promise<T>,
): Promise<T> {
  const path = join(store.layout.locks, `${kind}-${digestHex(chainId)}`);
  const lock: Lock = await waitForLock(() => tryLockName(path), { signal });
  try {
    return await make();
  } finally {
    lock.release();
  }
}

/**
 * The merged image of the layers `diffIds` (bottom first), made when it is missing.
 * Throws `store/missing` when a layer is, `tree/invalid` when the layers do not fit on each other.
 */
export async function ensureChain(
  store: Store,
  diffIds: readonly string[],
  options: { readonly signal?: AbortSignal | undefined; readonly ahead?: TreesAhead } = {},
): Promise<ChainRecord> {
  const chainId = chainOf(diffIds);
  const directory = store.layout.chain(chainId);
  const found = findChainRecord(directory, chainId);
  if (found !== null) return found;
  store.prepare();
  return underChainLock(store, 'chain', chainId, options.signal, async () => {
    const made = findChainRecord(directory, chainId);
    if (made !== null) return made;
    const files = new DataFiles(store, diffIds);
    try {
      const layers = new LayerTrees(store, options.ahead);
      const trees = diffIds.map((diffId) => {
        throwIfAborted(options.signal);
        return layers.read(diffId);
      });
      const target = { directory, file: CHAIN_IMAGE, chainId, diffIds };
      return await makeChain(store, target, mergeLayers(trees), files);
    } finally {
      files.close();
    }
  });
}

/**
 * Images for one mount a layer: where a layer leans on lower ones (hard links into them, parents that only they
 * describe, the topmost root), its image is made for this very chain. One record a layer that needs it, null for the
 * others, whose own layer.erofs serves.
 */
export async function ensureLinkedLayers(
  store: Store,
  diffIds: readonly string[],
  options: { signal?: AbortSignal | undefined } = {},
): Promise<(ChainRecord | null)[]> {
  const records: (ChainRecord | null)[] = [];
  const chains = chainIds(diffIds);
  const files = new DataFiles(store, diffIds);
  const layers = new LayerTrees(store);
  /** The merged tree of the layers below `merged`; made only when something is missing. */
  let below: FileTree | null = null;
  let merged = 0;
  try {
    for (const [i, diffId] of diffIds.entries()) {
      throwIfAborted(options.signal);
      if (!leansOnChain(readLayer(store, diffId), i === diffIds.length - 1)) {
        records.push(null);
        continue;
      }
      const chainId = chains[i]!;
      const directory = store.layout.linkedLayer(chainId);
      let record = findChainRecord(directory, chainId);
      if (record === null) {
        const added = diffIds.slice(merged, i).map((one) => layers.read(one));
        const base: FileTree = mergeLayers(below === null ? added : [below, ...added]);
        below = base;
        merged = i;
        store.prepare();
        record = await underChainLock(store, 'linked', chainId, options.signal, async () => {
          const made = findChainRecord(directory, chainId);
          if (made !== null) return made;
          const tree = resolveLayer(base, readLayerTree(store, diffId));
          const target = { directory, file: LAYER_IMAGE, chainId, diffIds: diffIds.slice(0, i + 1) };
          return makeChain(store, target, tree, files);
        });
      }
      records.push(record);
    }
  } finally {
    files.close();
  }
  return records;
}
