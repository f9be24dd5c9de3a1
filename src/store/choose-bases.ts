/** Which layers of the store a new one is compared with. */
import { statSync } from 'node:fs';
import { VeneerError } from '../errors.ts';
import type { BaseFile } from './base-files.ts';
import { listDirectory } from './catalog.ts';
import { devicePath } from './device-path.ts';
import { dataFile } from './layer-files.ts';
import { readLayer } from './layers.ts';
import { HEX64 } from './layout.ts';
import { NO_NEEDS, takeLease } from './leases.ts';
import type { Lock } from './locks.ts';
import type { Store } from './store.ts';

/** Smaller files give less than a layer would have to depend on them for. */
const MIN_BASE = 64 << 10;
const MAX_BASES = 256;

/**
 * The data of all layers that are stored, the newest first: a new version is most like the last one. The lease keeps
 * them while new layers come to point into them; give it back when those are published and something needs them.
 */
export function chooseBases(store: Store): { readonly bases: BaseFile[]; readonly lease: Lock } {
  const shared = store.share();
  try {
    const found: { time: number; diffId: string }[] = [];
    for (const hex of listDirectory(store.layout.layers)) {
      const diffId = `sha256:${hex}`;
      const time = HEX64.test(hex)
        ? statSync(store.layout.layer(diffId), { throwIfNoEntry: false })?.mtimeMs
        : undefined;
      if (time !== undefined) found.push({ time, diffId });
    }
    found.sort((a, b) => b.time - a.time || (a.diffId < b.diffId ? -1 : 1));
    const layers = found.map(({ diffId }) => diffId);
    const lease = takeLease(store, 'dedupe', { ...NO_NEEDS, layers });
    const bases = layers.flatMap((diffId) => baseFile(store, diffId) ?? []);
    return { bases: bases.slice(0, MAX_BASES), lease };
  } finally {
    shared.release();
  }
}

/** Null for a layer that cannot be read, or has too little to give. */
function baseFile(store: Store, diffId: string): BaseFile | null {
  try {
    const device = dataFile(readLayer(store, diffId));
    return device.size < MIN_BASE ? null : { path: devicePath(store, device), device };
  } catch (error) {
    if (error instanceof VeneerError) return null;
    throw error;
  }
}
