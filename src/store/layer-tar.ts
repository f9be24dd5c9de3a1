/** The exact tar of a stored layer, whichever way it is kept. */
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import type { ByteSource } from '../bytes/io.ts';
import { decodeRecipe, eachRun, RECIPE_BLOCK, type Recipe, recipeTar, ZEROS } from '../dedupe/index.ts';
import { VeneerError } from '../errors.ts';
import { digestOf } from '../oci/digest.ts';
import { fileSource, openStored } from './data-files.ts';
import { devicePath } from './device-path.ts';
import { storeError } from './io-errors.ts';
import { tarFiles } from './layer-files.ts';
import { readLayer } from './layers.ts';
import { LAYER_RECIPE } from './layout.ts';
import type { DeviceRecord, LayerRecord } from './records.ts';
import type { Store } from './store.ts';

/** Where a layer's exact tar is; plain data, which threads can open too. */
export interface TarFile {
  readonly diffId: string;
  /** Bytes of the tar. */
  readonly size: number;
  /** The tar; of a deduped layer its recipe. */
  readonly path: string;
  /** Of a deduped layer: the files that the recipe points into, in its order. */
  readonly parts?: readonly string[];
}

export interface LayerTar {
  readonly source: ByteSource;
  close(): void;
}

/** Finds the tar of a layer. Throws `store/missing`, `store/corrupt`. */
export function locateLayerTar(store: Store, diffId: string): TarFile {
  const record = readLayer(store, diffId);
  const paths = tarFiles(record).map((device) => devicePath(store, device));
  const facts = { diffId, size: record.tarSize };
  if (record.deduped === undefined) return { ...facts, path: paths[0]! };
  readRecipe(store, record);
  return { ...facts, path: join(store.layout.layer(diffId), LAYER_RECIPE), parts: paths };
}

/**
 * Opens a tar; it stays readable until `close`, whatever a sweep removes. Its bytes are not hashed: `verify` does that.
 * Throws `store/missing`, `store/corrupt`.
 */
export function openTarFile({ diffId, size, path, parts }: TarFile): LayerTar {
  const fds: number[] = [];
  const close = (): void => {
    for (const fd of fds.splice(0)) closeSync(fd);
  };
  const open = (file: string): ByteSource => {
    const fd = openStored(file);
    fds.push(fd);
    return fileSource(fd, file);
  };
  try {
    const file = open(path);
    const source =
      parts === undefined ? file : recipeTar(decodeRecipe(file.read(0, file.size), path), parts.map(open));
    if (source.size === size) return { source, close };
    throw new VeneerError(
      'store/corrupt',
      `Cannot read the tar of layer ${diffId}: ${path} has ${source.size} bytes of it, not ${size}`,
    );
  } catch (error) {
    close();
    throw storeError(`open the tar of layer ${diffId}`, error);
  }
}

/** The exact tar of a stored layer, open. */
export function openLayerTar(store: Store, diffId: string): LayerTar {
  return openTarFile(locateLayerTar(store, diffId));
}

const PIECE = 1 << 20;

/** The tar in order; each piece belongs to the caller. */
export function* readTar(file: TarFile): Generator<Buffer> {
  const { source, close } = openTarFile(file);
  try {
    for (let at = 0; at < source.size; at += PIECE) {
      yield source.read(at, Math.min(PIECE, source.size - at));
    }
  } finally {
    close();
  }
}

/** The recipe of a deduped layer, checked against its record. Throws `store/missing` or `store/corrupt`. */
export function readRecipe(store: Store, record: LayerRecord): Recipe {
  const path = join(store.layout.layer(record.diffId), LAYER_RECIPE);
  const fail = (reason: string): never => {
    throw new VeneerError('store/corrupt', `Cannot use ${path}: ${reason}`, {
      hint: 'run `veneer fsck --repair` and pull the image again',
    });
  };
  const fd = openStored(path);
  let bytes: Buffer;
  try {
    const file = fileSource(fd, path);
    if (file.size !== record.deduped?.recipe.size)
      return fail(`it has ${file.size} bytes, not ${record.deduped?.recipe.size}`);
    bytes = file.read(0, file.size);
  } finally {
    closeSync(fd);
  }
  if (digestOf(bytes) !== record.deduped.recipe.digest) return fail(`its digest is ${digestOf(bytes)}`);
  const recipe = decodeRecipe(bytes, path);
  const named = tarFiles(record).map((file) => file.digest ?? file.diffId);
  if (recipe.tarSize !== record.tarSize || recipe.sources.map(({ digest }) => digest).join() !== named.join())
    return fail('it is about other files than the record of its layer');
  return recipe;
}

/** What a deduped layer needs of the files of others: bytes, in the order of its recipe. Throws as {@link readRecipe}. */
export function sharedRanges(
  store: Store,
  record: LayerRecord,
): { readonly device: DeviceRecord; readonly ranges: [begin: number, end: number][] }[] {
  const shared = (record.deduped?.sources ?? []).map((device) => ({
    device,
    ranges: [] as [number, number][],
  }));
  if (shared.length === 0) return shared;
  eachRun(readRecipe(store, record).runs, (source, at, blocks) => {
    // number 1 is the layer's own data
    if (source !== ZEROS) shared[source - 2]?.ranges.push([at * RECIPE_BLOCK, (at + blocks) * RECIPE_BLOCK]);
  });
  return shared;
}
