/** What was written to an active snapshot becomes a layer of the store, as if it had been pulled. */
import type { IngestPool } from '../store/ingest-pool.ts';
import { ingestNewLayer, type NewLayer } from '../store/new-layer.ts';
import type { Store } from '../store/store.ts';
import { isBare, isFreshRoot } from './upper.ts';
import { type Below, readUpperLayer } from './upper-layer.ts';

/**
 * The upper directory as a verified layer without a name, or null when it changes nothing. As a Diff of the same
 * snapshot: what overlayfs only copied up is left out.
 */
export async function layerOfUpper(
  store: Store,
  pool: IngestPool,
  upper: string,
  below: Below,
  name: string,
): Promise<NewLayer | null> {
  const { root, pieces, close } = await readUpperLayer(upper, below);
  try {
    if (
      isBare(root) &&
      (below.kind === 'unseen' || root.implied || (below.kind === 'nothing' && isFreshRoot(root)))
    )
      return null;
    return await ingestNewLayer(store, pool, inTurns(pieces), { id: name, blob: null });
  } finally {
    close();
  }
}

/** The event loop gets a turn between pieces. */
async function* inTurns(pieces: Iterable<Buffer>): AsyncGenerator<Buffer> {
  for (const piece of pieces) {
    yield piece;
    await new Promise((resolve) => setImmediate(resolve));
  }
}
