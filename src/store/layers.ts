/** Layers: one directory a diffID, published whole. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { type Finding, VeneerError } from '../errors.ts';
import { syncCatalog } from './catalog.ts';
import { storedBytes } from './layer-files.ts';
import { LAYER_FACTS, LAYER_IMAGE } from './layout.ts';
import { type LayerRecord, readLayerRecord } from './records.ts';
import type { Store } from './store.ts';

/** True when the layer is there. A directory under layers/ is complete whenever it exists. */
export function hasLayer(store: Store, diffId: string): boolean {
  return statSync(store.layout.layer(diffId), { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** Throws `store/missing` or `store/corrupt`. */
export function readLayer(store: Store, diffId: string): LayerRecord {
  const path = join(store.layout.layer(diffId), LAYER_FACTS);
  const record = readLayerRecord(path);
  if (record.diffId === diffId) return record;
  throw new VeneerError('store/corrupt', `Cannot read ${path}: it is about ${record.diffId}`, {
    hint: 'run `veneer fsck --repair`',
  });
}

export function layerImage(store: Store, diffId: string): string {
  return join(store.layout.layer(diffId), LAYER_IMAGE);
}

/** A layer as `veneer layers` shows it. */
export interface LayerUse extends LayerRecord {
  /** Names of the images that have it, sorted. */
  readonly images: readonly string[];
  /** Every blob digest that is known for it: the verified one first, then what manifests of stored images say. */
  readonly blobs: readonly string[];
  /** Bytes of its own files. A deduped layer has fewer than its tar. */
  readonly storedBytes: number;
  /** diffIDs of layers that point into its files. */
  readonly sharedBy: readonly string[];
}

/** All layers by diffID. Records that cannot be read go to `onFinding` and are left out. */
export function listLayers(
  store: Store,
  options: { onFinding?: (finding: Finding) => void } = {},
): LayerUse[] {
  if (!store.exists()) return [];
  for (const finding of syncCatalog(store)) options.onFinding?.(finding);
  const database = store.database();
  const uses = new Map<string, { images: Set<string>; blobs: Set<string> }>();
  const rows = database.rows<{ diff_id: string; name: string; blob_digest: string }>(
    'SELECT diff_id, name, blob_digest FROM image_layers ORDER BY name, position',
  );
  for (const row of rows) {
    let use = uses.get(row.diff_id);
    if (use === undefined) uses.set(row.diff_id, (use = { images: new Set(), blobs: new Set() }));
    use.images.add(row.name);
    use.blobs.add(row.blob_digest);
  }
  const rowsOfLayers = database.rows<{ record: string }>('SELECT record FROM layers ORDER BY diff_id');
  const layers = rowsOfLayers.map((row) => JSON.parse(row.record) as LayerRecord);
  const sharedBy = new Map<string, string[]>();
  for (const { diffId, deduped } of layers) {
    for (const source of deduped?.sources ?? []) {
      sharedBy.set(source.diffId, [...(sharedBy.get(source.diffId) ?? []), diffId]);
    }
  }
  return layers.map((record) => {
    const use = uses.get(record.diffId);
    return {
      ...record,
      images: use === undefined ? [] : [...use.images],
      storedBytes: storedBytes(record),
      sharedBy: sharedBy.get(record.diffId) ?? [],
      blobs: [...new Set([record.blob.digest, ...(use?.blobs ?? [])])],
    };
  });
}
