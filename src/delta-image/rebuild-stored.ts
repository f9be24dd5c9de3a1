/** Layers of a delta's target, made of layers of the store: what a pull takes instead of blobs. */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, constants, openSync } from 'node:fs';
import { PieceRing } from '../delta/piece-ring.ts';
import { VeneerError } from '../errors.ts';
import type { ImageSource } from '../oci/source.ts';
import { fileSource } from '../store/data-files.ts';
import { CHUNKS_AHEAD } from '../store/ingest-pool.ts';
import { hasLayer } from '../store/layers.ts';
import type { RebuildLayer } from '../store/pull-layers.ts';
import type { Store } from '../store/store.ts';
import type { DeltaLayer } from './artifact.ts';
import type { LocateDelta } from './delta-blobs.ts';
import { rebuildLayer } from './layer-delta.ts';
import type { OpenDelta } from './open-delta.ts';
import { rangeSource } from './range-source.ts';
import { SourcePlaces } from './source-places.ts';
import { OpenTars } from './tar-file.ts';

/** Layers that the delta needs and that the store lacks, by diffID. Empty: it can be applied. */
export function missingLayers(store: Store, { config }: OpenDelta): string[] {
  const needed = new Set(config.sources.map(({ diffId }) => diffId));
  for (const { diffId, delta } of config.layers) if (delta === null) needed.add(diffId);
  return [...needed].filter((diffId) => !hasLayer(store, diffId));
}

/** Every layer that a pull with {@link rebuildStored} reads; hold a lease on them. */
export function layersOf({ config }: OpenDelta): string[] {
  return [...config.sources, ...config.layers].map(({ diffId }) => diffId);
}

/** For a pull: the tar of each layer that the delta has something for. */
export function rebuildStored(store: Store, delta: OpenDelta, locate: LocateDelta): RebuildLayer {
  return (diffId, bases) => {
    const layer = delta.config.layers.find((one) => one.diffId === diffId);
    if (layer === undefined || layer.delta === null) return null;
    const places = new SourcePlaces(store, bases, new Set(delta.config.sources.map((one) => one.diffId)));
    // here: the thread that takes the pieces has more to do than the one that makes them
    const hash = createHash('sha256');
    return {
      known: {
        covered: places.covered,
        takeOrigins: () => places.takeOrigins(),
        diffId: () => `sha256:${hash.digest('hex')}`,
      },
      [Symbol.asyncIterator]: () => rebuild(delta, layer, layer.delta!, locate, places, hash),
    };
  };
}

async function* rebuild(
  { config }: OpenDelta,
  layer: DeltaLayer,
  blob: string,
  locate: LocateDelta,
  places: SourcePlaces,
  hash: Hash,
): AsyncGenerator<Buffer, void, undefined> {
  const range = await locate(blob);
  const tars = new OpenTars();
  const fd = openSync(range.path, constants.O_RDONLY);
  try {
    const bytes = rangeSource(fileSource(fd, range.path), range);
    const pieces = rebuildLayer(layer, config, bytes, (diffId) => tars.open(places.tar(diffId)), {
      onSame: (...run) => places.taken(...run),
      ring: new PieceRing(CHUNKS_AHEAD),
    });
    for (const piece of pieces) {
      hash.update(piece);
      yield piece;
    }
  } finally {
    closeSync(fd);
    tars.close();
  }
}

/** The target as a source without blobs, for a pull that only rebuilds. */
export function deltaSource(delta: OpenDelta, name: string): ImageSource {
  const noBlob = async (): Promise<never> => {
    throw new VeneerError('delta/unsupported', `Cannot take a blob of ${name} from a delta: it has none`);
  };
  return {
    name,
    local: true,
    resolve: async () => delta.target,
    openBlob: noBlob,
    locateBlob: noBlob,
    close: async () => {},
  };
}
