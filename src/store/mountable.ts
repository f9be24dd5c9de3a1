/** What a mount of a stored image needs: which files, in which order, of which size. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { deviceTag } from '../erofs/writer.ts';
import { VeneerError } from '../errors.ts';
import { ensureChain, ensureLinkedLayers } from './chains.ts';
import { storeError } from './io-errors.ts';
import { readLayer } from './layers.ts';
import { CHAIN_IMAGE, LAYER_IMAGE, LAYER_TAR } from './layout.ts';
import type { ChainRecord, DeviceRecord, ImageRecord } from './records.ts';
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
 * Metadata images that are missing are made. Every file's presence and size is checked, its bytes are not
 * (that is `verify`'s). To keep a sweep away until the files are open, hold {@link Store.share} around the call
 * and the mount.
 *
 * Throws `store/missing` and `store/mismatch` with the path.
 */
export async function mountable(
  store: Store,
  image: Pick<ImageRecord, 'layers'>,
  mode: 'merged' | 'layers',
  options: { signal?: AbortSignal } = {},
): Promise<MountableImage[]> {
  const diffIds = image.layers.map((layer) => layer.diffId);
  if (mode === 'merged') {
    const record = await ensureChain(store, diffIds, options);
    return [describe(store, join(store.layout.chain(record.chainId), CHAIN_IMAGE), record)];
  }
  const linked = await ensureLinkedLayers(store, diffIds, options);
  return diffIds.map((diffId, i) => {
    const record = linked[i]!;
    if (record !== null) {
      return describe(store, join(store.layout.linkedLayer(record.chainId), LAYER_IMAGE), record);
    }
    const layer = readLayer(store, diffId);
    const devices: DeviceRecord[] = layer.usesTar ? [{ diffId, file: LAYER_TAR, size: layer.tarSize }] : [];
    return describe(store, join(store.layout.layer(diffId), LAYER_IMAGE), { image: layer.image, devices });
  });
}

function describe(
  store: Store,
  primary: string,
  record: Pick<ChainRecord, 'image' | 'devices'>,
): MountableImage {
  checkSize(primary, record.image.size);
  const devices = record.devices.map((device): MountDevice => {
    const path = join(store.layout.layer(device.diffId), device.file);
    checkSize(path, device.size);
    const digest = device.file === LAYER_TAR ? device.diffId : readLayer(store, device.diffId).image.digest;
    return { path, size: device.size, tag: deviceTag(digest) };
  });
  return { primary, size: record.image.size, digest: record.image.digest, devices };
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
