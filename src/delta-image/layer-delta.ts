/** The delta of one layer, in a file, held against what the artifact says of it. */
import type { ByteSource } from '../bytes/io.ts';
import { readHeader } from '../delta/format.ts';
import { type FindTar, type RebuildOptions, rebuildTar } from '../delta/rebuild.ts';
import { VeneerError } from '../errors.ts';
import type { DeltaConfig, DeltaLayer } from './artifact.ts';

/**
 * The tar of `layer`, rebuilt as {@link rebuildTar} does it. `delta` holds the bytes of its blob,
 * checked against the digest. The tar is not checked: hash it before it gets a name. Throws `delta/mismatch` when the
 * delta leads elsewhere than the config says or wants other sources, and what {@link rebuildTar} throws.
 */
export function rebuildLayer(
  layer: DeltaLayer,
  config: DeltaConfig,
  delta: ByteSource,
  findTar: FindTar,
  options?: RebuildOptions,
): Generator<Buffer, void, undefined> {
  const { target, sources } = readHeader((offset, length) => delta.read(offset, length), delta.size);
  const mismatch = (reason: string): VeneerError =>
    new VeneerError('delta/mismatch', `Cannot use the delta of layer ${layer.diffId}: ${reason}`);
  if (target.digest !== layer.diffId || target.size !== layer.size)
    throw mismatch(`it leads to ${target.digest}`);
  const known = new Map(config.sources.map(({ diffId, size }) => [diffId, size]));
  const other = sources.find(({ digest, size }) => known.get(digest) !== size);
  if (other !== undefined)
    throw mismatch(`it takes bytes from ${other.digest}, which the delta does not name`);
  return rebuildTar(delta, findTar, options);
}
