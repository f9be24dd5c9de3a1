/** Makes the target of a delta from its source, as an image of an OCI layout. */
import { createHash } from 'node:crypto';
import { closeSync, constants, copyFileSync, openSync } from 'node:fs';
import { open } from 'node:fs/promises';
import type { LayoutChange } from '../bundle/change-layout.ts';
import { putReference } from '../bundle/references.ts';
import { PieceRing } from '../delta/piece-ring.ts';
import { VeneerError } from '../errors.ts';
import { encodeDocument, type JsonObject, MANIFEST } from '../oci/encode-json.ts';
import { OCI_CONFIG, OCI_LAYER, OCI_MANIFEST } from '../oci/media-type.ts';
import type { OnProgress } from '../progress/events.ts';
import { fileSource } from '../store/data-files.ts';
import { hashFile } from '../store/hash-file.ts';
import { storeError } from '../store/io-errors.ts';
import { shortDigest } from '../store/layout.ts';
import { throwIfAborted } from '../store/locks.ts';
import type { DeltaLayer } from './artifact.ts';
import { type Compressor, compressTar } from './compressor.ts';
import type { LocateDelta } from './delta-blobs.ts';
import type { ImageTars } from './image-tars.ts';
import { rebuildLayer } from './layer-delta.ts';
import type { OpenDelta } from './open-delta.ts';
import { rangeSource } from './range-source.ts';
import { OpenTars, type TarFile, wholeTar } from './tar-file.ts';
import { PIECES_AHEAD, writeTar } from './write-tar.ts';

export interface ApplyImageOptions {
  /** Name of the image in the layout. */
  readonly tag: string;
  readonly locate: LocateDelta;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: OnProgress | undefined;
}

export interface AppliedLayer {
  readonly diffId: string;
  /** The blob in the layout. */
  readonly digest: string;
  readonly size: number;
  /** It is the one that the target's manifest names. */
  readonly exact: boolean;
}

export interface AppliedImage {
  /** Manifest in the layout. */
  readonly digest: string;
  /** Image ID: that of the target, always. */
  readonly config: string;
  /** The manifest is that of the target: all blobs came out the same. */
  readonly exact: boolean;
  readonly layers: readonly AppliedLayer[];
}

/**
 * Rebuilds every layer, checks its diffID, and writes the image. A blob that cannot be made bit by bit is stored as the
 * plain tar, under a manifest of its own. Nothing has a name before all of it is right.
 * Throws `delta/base` when `from` lacks a layer that the delta needs, `delta/corrupt`, `delta/mismatch`.
 */
export async function applyImageDelta(
  delta: OpenDelta,
  from: ImageTars,
  layout: LayoutChange,
  options: ApplyImageOptions,
): Promise<AppliedImage> {
  requireSources(delta, from);
  const done = new Map<string, { readonly layer: AppliedLayer; readonly path: string }>();
  for (const [index, layer] of delta.config.layers.entries()) {
    if (done.has(layer.diffId)) continue;
    throwIfAborted(options.signal);
    done.set(layer.diffId, await applyLayer(delta, index, from, layout, options));
  }
  for (const { layer, path } of done.values()) layout.storeFile(path, layer.digest);
  const layers = delta.config.layers.map(({ diffId }) => done.get(diffId)!.layer);
  layout.putBlob(delta.target.configBytes);
  const exact = layers.every(({ digest }, i) => digest === delta.target.manifest.layers[i]!.digest);
  const bytes = exact ? delta.target.manifestBytes : plainManifest(delta, layers);
  const { digest, size } = layout.putBlob(bytes);
  const mediaType = exact ? delta.target.manifest.mediaType : OCI_MANIFEST;
  putReference(layout, options.tag, { mediaType, digest, size });
  return { digest, config: delta.target.manifest.config.digest, exact, layers };
}

/** Says at once what could not work. */
function requireSources({ config }: OpenDelta, from: ImageTars): void {
  const there = new Set(from.layers.map(({ diffId }) => diffId));
  const needed = [
    ...config.sources.map(({ diffId }) => diffId),
    ...config.layers.flatMap(({ diffId, delta }) => (delta === null ? [diffId] : [])),
  ];
  const missing = needed.find((diffId) => !there.has(diffId));
  if (missing === undefined) return;
  throw new VeneerError(
    'delta/base',
    `Cannot apply the delta to ${from.name}: it lacks the layer ${missing}`,
    {
      hint: `it was made from the image with the ID ${config.source}`,
    },
  );
}

async function applyLayer(
  delta: OpenDelta,
  index: number,
  from: ImageTars,
  layout: LayoutChange,
  options: ApplyImageOptions,
): Promise<{ layer: AppliedLayer; path: string }> {
  const layer = delta.config.layers[index]!;
  const wanted = delta.target.manifest.layers[index]!;
  const { diffId } = layer;
  options.onProgress?.({
    type: 'start',
    id: diffId,
    what: `layer ${shortDigest(diffId)}`,
    total: layer.size,
  });
  try {
    const made =
      (layer.delta === null ? await takeBlob(diffId, wanted.digest, from, layout) : null) ??
      (await makeBlob(delta, layer, wanted.digest, from, layout, options));
    options.onProgress?.({ type: 'end', id: diffId, outcome: 'done' });
    const { size } = made;
    const { path, digest } = made;
    return { layer: { diffId, digest, size, exact: digest === wanted.digest }, path };
  } catch (error) {
    options.onProgress?.({ type: 'end', id: diffId, outcome: 'failed' });
    throw error;
  }
}

interface MadeBlob {
  readonly path: string;
  readonly digest: string;
  readonly size: number;
}

/** A layer of the source, whose blob is at hand and the right one; else null. */
async function takeBlob(
  diffId: string,
  digest: string,
  from: ImageTars,
  layout: LayoutChange,
): Promise<MadeBlob | null> {
  const index = from.layers.findIndex((layer) => layer.diffId === diffId && layer.blob.digest === digest);
  const range = index < 0 ? null : await from.blob(index);
  if (range === null || range.offset !== 0) return null;
  const path = layout.workFile();
  copyFileSync(range.path, path, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
  return (await hashFile(path)) === digest ? { path, digest, size: range.length } : null;
}

async function makeBlob(
  delta: OpenDelta,
  layer: DeltaLayer,
  wanted: string,
  from: ImageTars,
  layout: LayoutChange,
  options: ApplyImageOptions,
): Promise<MadeBlob> {
  const tar =
    layer.delta === null
      ? await wholeTar(await tarOf(layer.diffId, from), () => layout.workFile())
      : await rebuildFile(delta, layer, layer.delta, from, layout, options);
  if (layer.compressor !== null) {
    const made = await compressFile(tar, layer.compressor, layout, options.signal);
    if (made?.digest === wanted) return made;
  }
  const { path, diffId: digest, size } = tar;
  if (layer.delta !== null) return { path, digest, size };
  const copy = layout.workFile();
  copyFileSync(path, copy, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
  return { path: copy, digest, size };
}

/** Null when this machine has not what it takes. */
async function compressFile(
  tar: TarFile,
  how: Compressor,
  layout: LayoutChange,
  signal: AbortSignal | undefined,
): Promise<MadeBlob | null> {
  const path = layout.workFile();
  const hash = createHash('sha256');
  let size = 0;
  try {
    const file = await open(path, 'wx', 0o644);
    try {
      for await (const piece of compressTar(tar.path, tar.size, how)) {
        throwIfAborted(signal);
        hash.update(piece);
        size += piece.length;
        await file.writeFile(piece);
      }
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof VeneerError && error.code === 'delta/unsupported') return null;
    throw storeError(`compress layer ${tar.diffId}`, error);
  }
  return { path, digest: `sha256:${hash.digest('hex')}`, size };
}

function tarOf(diffId: string, from: ImageTars): Promise<TarFile> {
  return from.tar(from.layers.findIndex((layer) => layer.diffId === diffId));
}

/** The tar in a work file, its diffID checked. */
async function rebuildFile(
  delta: OpenDelta,
  layer: DeltaLayer,
  blob: string,
  from: ImageTars,
  layout: LayoutChange,
  { locate, signal, onProgress }: ApplyImageOptions,
): Promise<TarFile> {
  const sources = new Map<string, TarFile>();
  for (const { diffId } of delta.config.sources) sources.set(diffId, await tarOf(diffId, from));
  const range = await locate(blob);
  const path = layout.workFile();
  const tars = new OpenTars();
  const fd = openSync(range.path, constants.O_RDONLY);
  try {
    const bytes = rangeSource(fileSource(fd, range.path), range);
    const ring = new PieceRing(PIECES_AHEAD);
    const pieces = rebuildLayer(layer, delta.config, bytes, (id) => tars.open(sources.get(id)!), { ring });
    const { digest: found, size } = await writeTar(pieces, path, (done) => {
      throwIfAborted(signal);
      onProgress?.({ type: 'advance', id: layer.diffId, done });
    });
    if (found === layer.diffId) return { diffId: layer.diffId, path, size };
    throw new VeneerError(
      'delta/mismatch',
      `Cannot use the delta of layer ${layer.diffId}: what comes out has the digest ${found}`,
      { hint: 'the delta or its source is damaged; nothing of it was kept' },
    );
  } catch (error) {
    throw storeError(`rebuild layer ${layer.diffId}`, error);
  } finally {
    closeSync(fd);
    tars.close();
  }
}

/** The target's manifest with the blobs that there are. */
function plainManifest({ target }: OpenDelta, layers: readonly AppliedLayer[]): Buffer {
  const raw = JSON.parse(target.manifestBytes.toString('utf8')) as JsonObject;
  const entries = layers.map(({ digest, size, exact }, i): JsonObject => {
    const { mediaType } = target.manifest.layers[i]!;
    return { mediaType: exact ? mediaType : OCI_LAYER, digest, size };
  });
  const { digest, size } = target.manifest.config;
  return encodeDocument(
    {
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: { mediaType: OCI_CONFIG, digest, size },
      layers: entries,
      ...(raw.annotations === undefined ? {} : { annotations: raw.annotations }),
    },
    MANIFEST,
  );
}
