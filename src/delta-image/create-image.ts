/** The delta of an image: one artifact in an OCI layout. */
import type { LayoutChange } from '../bundle/change-layout.ts';
import { putReference } from '../bundle/references.ts';
import { MAX_SOURCES } from '../delta/format.ts';
import type { DeltaLevel } from '../delta/level.ts';
import { VeneerError } from '../errors.ts';
import { REF_NAME } from '../oci/layout.ts';
import { OCI_MANIFEST } from '../oci/media-type.ts';
import type { OnProgress } from '../progress/events.ts';
import { hashFile } from '../store/hash-file.ts';
import { shortDigest } from '../store/layout.ts';
import {
  ARTIFACT_TYPE,
  type DeltaLayer,
  encodeDeltaConfig,
  encodeDeltaManifest,
  SOURCE_ANNOTATION,
} from './artifact.ts';
import { checkLayerDelta } from './check-layer.ts';
import { createLayerDelta } from './create-layer.ts';
import { findCompressor } from './find-compressor.ts';
import type { ImageTars } from './image-tars.ts';
import type { TarFile } from './tar-file.ts';

export interface CreateImageOptions {
  readonly level: DeltaLevel;
  /** Name of the artifact in the layout. */
  readonly tag: string;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: OnProgress | undefined;
}

/** A layer of the target. */
export interface CreatedLayer extends DeltaLayer {
  /** Bytes of its delta; 0 when the source has the layer. */
  readonly deltaSize: number;
  /** The blob as the target's manifest has it. */
  readonly blobSize: number;
}

export interface CreatedDelta {
  /** Of the artifact's manifest. */
  readonly digest: string;
  /** All bytes of the artifact: its manifest, its config and its blobs. */
  readonly size: number;
  readonly source: string;
  readonly target: string;
  readonly layers: readonly CreatedLayer[];
}

/** Writes the delta from `from` to `to` into `layout`. The artifact gets its name last. */
export async function createImageDelta(
  from: ImageTars,
  to: ImageTars,
  layout: LayoutChange,
  options: CreateImageOptions,
): Promise<CreatedDelta> {
  refuseTaken(layout, options.tag);
  const shared = new Set(from.layers.map(({ diffId }) => diffId));
  const wanted = to.layers.some(({ diffId }) => !shared.has(diffId));
  const sources = wanted ? await sourceFiles(from) : [];
  const layers: CreatedLayer[] = [];
  for (const [index, { diffId, blob }] of to.layers.entries()) {
    const before = layers.find((layer) => layer.diffId === diffId);
    if (before !== undefined) {
      layers.push({ ...before, deltaSize: 0, blobSize: blob.size });
    } else if (shared.has(diffId)) {
      const { size } = await from.tar(from.layers.findIndex((layer) => layer.diffId === diffId));
      layers.push({ diffId, size, delta: null, deltaSize: 0, blobSize: blob.size, compressor: null });
    } else {
      layers.push(await createLayer(to, index, sources, layout, options));
    }
  }
  return putArtifact(from, to, sources, layers, layout, options.tag);
}

/** A delta may replace a delta, but take no tag away from an image. */
function refuseTaken({ entries, place }: LayoutChange, tag: string): void {
  const taken = entries.find(({ descriptor }) => descriptor.annotations[REF_NAME] === tag);
  if (taken === undefined || taken.descriptor.artifactType === ARTIFACT_TYPE) return;
  throw new VeneerError('oci/exists', `Cannot call the delta ${tag} in ${place}: an image has that tag`, {
    hint: 'choose another tag: -o oci:DIR:TAG',
  });
}

/** Each layer once. */
async function sourceFiles(from: ImageTars): Promise<TarFile[]> {
  const files = new Map<string, TarFile>();
  for (const [index, { diffId }] of from.layers.entries()) {
    if (!files.has(diffId)) files.set(diffId, await from.tar(index));
  }
  if (files.size > MAX_SOURCES) {
    throw new VeneerError(
      'delta/limit',
      `Cannot make a delta from ${from.name}: it has ${files.size} layers, the limit is ${MAX_SOURCES}`,
    );
  }
  return [...files.values()];
}

async function createLayer(
  to: ImageTars,
  index: number,
  sources: readonly TarFile[],
  layout: LayoutChange,
  { level, signal, onProgress }: CreateImageOptions,
): Promise<CreatedLayer> {
  const { diffId, blob } = to.layers[index]!;
  const tar = await to.tar(index);
  onProgress?.({ type: 'start', id: diffId, what: `delta of layer ${shortDigest(diffId)}`, total: tar.size });
  const over = new AbortController();
  let finding: ReturnType<typeof findCompressor> | null = null;
  try {
    const path = layout.workFile();
    const untilOver = signal === undefined ? over.signal : AbortSignal.any([signal, over.signal]);
    finding = findCompressor(tar, await to.blob(index), blob, untilOver);
    // It may fail long before anybody waits for it.
    finding.catch(() => {});
    const deltaSize = await createLayerDelta(tar, sources, path, {
      level,
      signal,
      onDone: (done) => onProgress?.({ type: 'advance', id: diffId, done }),
    });
    await checkLayerDelta(path, tar, sources, signal);
    const compressor = await finding;
    const delta = await hashFile(path);
    layout.storeFile(path, delta);
    onProgress?.({ type: 'end', id: diffId, outcome: 'done' });
    return { diffId, size: tar.size, delta, deltaSize, blobSize: blob.size, compressor };
  } catch (error) {
    onProgress?.({ type: 'end', id: diffId, outcome: 'failed' });
    throw error;
  } finally {
    over.abort();
    await finding?.catch(() => {});
  }
}

function putArtifact(
  from: ImageTars,
  to: ImageTars,
  sources: readonly TarFile[],
  layers: readonly CreatedLayer[],
  layout: LayoutChange,
  tag: string,
): CreatedDelta {
  const source = from.config.digest;
  const config = layout.putBlob(
    encodeDeltaConfig({ source, sources: sources.map(({ diffId, size }) => ({ diffId, size })), layers }),
  );
  layout.putBlob(to.manifest.bytes);
  layout.putBlob(to.config.bytes);
  const layerDeltas = layers.flatMap(({ delta, deltaSize }) =>
    delta === null || deltaSize === 0 ? [] : [{ digest: delta, size: deltaSize }],
  );
  const { mediaType, digest: target, size: targetSize } = to.manifest;
  const manifest = layout.putBlob(
    encodeDeltaManifest({
      subject: { mediaType, digest: target, size: targetSize },
      targetConfig: to.config,
      config,
      source,
      layerDeltas,
    }),
  );
  putReference(layout, tag, {
    mediaType: OCI_MANIFEST,
    digest: manifest.digest,
    size: manifest.size,
    annotations: { [SOURCE_ANNOTATION]: source },
    artifactType: ARTIFACT_TYPE,
  });
  const documents = manifest.size + config.size + targetSize + to.config.size;
  const size = layerDeltas.reduce((sum, layer) => sum + layer.size, documents);
  return { digest: manifest.digest, size, source, target, layers };
}
