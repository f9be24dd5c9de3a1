/** Where the files of devices are now: in their layers, or what is left of them. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { VeneerError } from '../errors.ts';
import { readLayer } from './layers.ts';
import { LAYER_DATA, LAYER_IMAGE, LAYER_TAR } from './layout.ts';
import type { DeviceRecord } from './records.ts';
import type { Store } from './store.ts';

/** `sha256:…` of the bytes of a device. Throws `store/missing` or `store/corrupt`. */
export function deviceDigest(store: Store, device: DeviceRecord): string {
  if (device.file === LAYER_TAR) return device.diffId;
  if (device.file === LAYER_IMAGE) return readLayer(store, device.diffId).image.digest;
  return device.digest!;
}

/**
 * Where the file of a device is: in its layer, or what is left of it once the layer is gone. The path in the layer
 * when it is nowhere.
 */
export function devicePath(store: Store, device: DeviceRecord): string {
  const path = join(store.layout.layer(device.diffId), device.file);
  if (device.file === LAYER_IMAGE || holdsDevice(store, device)) return path;
  const left = store.layout.remnantData(deviceDigest(store, device));
  return isFile(left) ? left : path;
}

/** Whether the layer has that file: one that was fetched again may be kept in another way. */
export function holdsDevice(store: Store, device: DeviceRecord): boolean {
  if (device.file !== LAYER_DATA) return isFile(join(store.layout.layer(device.diffId), device.file));
  try {
    return readLayer(store, device.diffId).deduped?.data.digest === device.digest;
  } catch (error) {
    if (error instanceof VeneerError && error.code === 'store/missing') return false;
    throw error;
  }
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}
