/** What a mount of a stored image needs: which files, in which order, of which size. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { VeneerError } from '../errors.ts';
import { chainIds } from '../oci/digest.ts';
import { chainOf } from './chain-ids.ts';
import { findChainRecord, leansOnChain } from './chain-records.ts';
import { checkDigest, REFETCH } from './checked.ts';
import { deviceDigest, devicePath } from './device-path.ts';
import { storeError } from './io-errors.ts';
import { layerDevices } from './layer-files.ts';
import { readLayer } from './layers.ts';
import { CHAIN_IMAGE, digestHex, LAYER_IMAGE } from './layout.ts';
import type { ChainRecord, ImageLayer, LayerRecord } from './records.ts';
import type { Store } from './store.ts';

export interface MountDevice {
  readonly path: string;
  /** Bytes of the file; checked. */
  readonly size: number;
  /** What the device table of the metadata image calls it: the hex digest of its bytes. */
  readonly tag: string;
}

/** One EROFS mount. */
export interface MountableImage {
  /** The metadata image. */
  readonly primary: string;
  /** Bytes of the metadata image; checked. */
  readonly size: number;
  readonly digest: string;
  /** Data devices in the order of its device table. */
  readonly devices: readonly MountDevice[];
}

/**
 * The files of an image, ready to mount: one entry for `merged`, one a layer and bottom first for `layers`.
 * Metadata images that are missing are made. Every file's presence and size is checked, the digest of
 * metadata images, and what fs-verity enforces; the bytes of tars are `verify`'s. To keep a sweep away until the files are open, hold {@link Store.share} around the call
 * and the mount.
 *
 * Throws `store/missing` and `store/mismatch` with the path.
 */
export async function mountable(
  store: Store,
  image: { readonly layers: readonly Pick<ImageLayer, 'diffId'>[] },
  mode: 'merged' | 'layers',
  options: { signal?: AbortSignal } = {},
): Promise<MountableImage[]> {
  const seals = await loadSeals(store);
  const diffIds = image.layers.map((layer) => layer.diffId);
  if (mode === 'merged') {
    const chainId = chainOf(diffIds);
    const stored = findChainRecord(store.layout.chain(chainId), chainId);
    // Loaded when something has to be made, which mostly it has not.
    const record = stored ?? (await (await import('./chains.ts')).ensureChain(store, diffIds, options));
    return [describe(store, seals, join(store.layout.chain(record.chainId), CHAIN_IMAGE), record)];
  }
  const layers = new Map(diffIds.map((diffId) => [diffId, readLayer(store, diffId)]));
  // overlayfs does not look for an opaque mark on the root of a lower layer, so what lies under one is left out
  const lowest = Math.max(
    0,
    diffIds.findLastIndex((diffId) => layers.get(diffId)!.opaqueRoot),
  );
  const linked = await linkedRecords(store, layers, diffIds, options);
  return diffIds.slice(lowest).map((diffId, i) => {
    const record = linked[lowest + i];
    if (record !== null && record !== undefined) {
      return describe(store, seals, join(store.layout.linkedLayer(record.chainId), LAYER_IMAGE), record);
    }
    const layer = layers.get(diffId)!;
    const path = join(store.layout.layer(diffId), LAYER_IMAGE);
    return describe(store, seals, path, { image: layer.image, devices: layerDevices(layer) });
  });
}

/** The chain's own image of each layer that needs one, null for the others; what is missing is made. */
async function linkedRecords(
  store: Store,
  layers: ReadonlyMap<string, LayerRecord>,
  diffIds: readonly string[],
  options: { signal?: AbortSignal },
): Promise<(ChainRecord | null)[]> {
  const found: (ChainRecord | null)[] = [];
  const chains = chainIds(diffIds);
  for (const [i, diffId] of diffIds.entries()) {
    if (!leansOnChain(layers.get(diffId)!, i === diffIds.length - 1)) {
      found.push(null);
      continue;
    }
    const record = findChainRecord(store.layout.linkedLayer(chains[i]!), chains[i]!);
    if (record === null) return (await import('./chains.ts')).ensureLinkedLayers(store, diffIds, options);
    found.push(record);
  }
  return found;
}

function describe(
  store: Store,
  seals: CheckSeal,
  primary: string,
  record: Pick<ChainRecord, 'image' | 'devices'>,
): MountableImage {
  checkSize(primary, record.image.size);
  if (!seals(primary, record.image.digest)) checkDigest(primary, record.image.digest);
  const devices = record.devices.map((device): MountDevice => {
    const path = devicePath(store, device);
    checkSize(path, device.size);
    const digest = deviceDigest(store, device);
    seals(path, digest);
    return { path, size: device.size, tag: digestHex(digest) };
  });
  return { primary, size: record.image.size, digest: record.image.digest, devices };
}

/** Whether the kernel checks the reads of a file. Throws when it should and does not, or enforces another digest. */
type CheckSeal = (path: string, digest: string) => boolean;

/** Stores on file systems without fs-verity, which are most, do not load the code for it. */
async function loadSeals(store: Store): Promise<CheckSeal> {
  const records = join(store.layout.verity, 'fs');
  if (!existsSync(records) || readdirSync(records).length === 0) return () => false;
  const { checkFsVerity } = await import('./fs-verity.ts');
  return (path, digest) => {
    const { enforced, problem } = checkFsVerity(store, { path, digest });
    if (problem === null) return enforced;
    throw new VeneerError('store/mismatch', `Cannot use ${path}: ${problem}`, { hint: REFETCH });
  };
}

/** A file of another size would mount and give wrong data; one stat a file is all that a mount can afford. */
function checkSize(path: string, size: number): void {
  let found: number | undefined;
  try {
    found = statSync(path, { throwIfNoEntry: false })?.size;
  } catch (error) {
    throw storeError(`look at ${path}`, error);
  }
  const hint = 'run `veneer fsck --repair` and pull the image again';
  if (found === undefined)
    throw new VeneerError('store/missing', `Cannot use ${path}: it is missing`, { hint });
  if (found !== size) {
    throw new VeneerError('store/mismatch', `Cannot use ${path}: it has ${found} bytes, not ${size}`, {
      hint,
    });
  }
}
