/**
 * Which layer of the store each blob was verified to be, from the layers' own records: asked several times a layer, so
 * without the database, which would be written each time (docs/decisions/0093).
 */
import { join } from 'node:path';
import { VeneerError } from '../errors.ts';
import { listDirectory } from '../store/catalog.ts';
import { HEX64, LAYER_FACTS } from '../store/layout.ts';
import { readLayerRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';

export class KnownLayers {
  readonly #store: Store;
  /** Digests of blobs by diffID. A layer that is there never changes, so a name is read once. */
  readonly #blobs = new Map<string, string>();

  constructor(store: Store) {
    this.#store = store;
  }

  /** The diffID of the blob's layer, or null. Any other process may take the layer away until something holds it. */
  find(blobDigest: string): string | null {
    return this.all().get(blobDigest) ?? null;
  }

  /** diffIDs by digests of blobs, as {@link find} tells them. */
  all(): ReadonlyMap<string, string> {
    this.#look();
    return new Map(Array.from(this.#blobs, ([diffId, blob]) => [blob, diffId]));
  }

  #look(): void {
    const { layers } = this.#store.layout;
    const names = listDirectory(layers).filter((name) => HEX64.test(name));
    const present = new Set(names.map((hex) => `sha256:${hex}`));
    for (const diffId of this.#blobs.keys()) if (!present.has(diffId)) this.#blobs.delete(diffId);
    for (const hex of names) {
      if (this.#blobs.has(`sha256:${hex}`)) continue;
      try {
        this.#blobs.set(`sha256:${hex}`, readLayerRecord(join(layers, hex, LAYER_FACTS)).blob.digest);
      } catch (error) {
        // Damaged, or just taken away: as good as not there.
        if (!(error instanceof VeneerError)) throw error;
      }
    }
  }
}
