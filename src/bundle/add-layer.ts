/** Putting one more layer on an image of a layout. */
import { createHash } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip, createZstdCompress } from 'node:zlib';
import type { LayerDescriptor } from '../oci/descriptor.ts';
import type { Json, JsonObject } from '../oci/encode-json.ts';
import { OCI_LAYER } from '../oci/media-type.ts';
import type { BlobFacts, LayoutChange } from './change-layout.ts';
import { type HistoryEdit, historyEntry } from './edit-config.ts';
import { commitImage, type ImageDocuments } from './image-documents.ts';
import { parseRaw } from './layout-folder.ts';

export const LAYER_COMPRESSIONS = ['gzip', 'zstd', 'none'] as const;
export type LayerCompression = (typeof LAYER_COMPRESSIONS)[number];

/** umoci's: the bytes of the tar, where the blob has other ones. */
const TAR_SIZE = 'ci.umo.uncompressed_blob_size';

export interface NewLayer {
  /** The tar. */
  readonly tar: Iterable<Buffer> | AsyncIterable<Buffer>;
  /** `auto`: as the topmost compressed layer of the image. */
  readonly compression: LayerCompression | 'auto';
}

export interface LayerHistory {
  /** Null leaves no entry, which confuses many tools. */
  readonly edit: HistoryEdit | null;
  /** When the user does not say it. */
  readonly createdBy: string;
}

/** Stores the layer and all documents with it; returns the descriptor for index.json. Nothing names the image yet. */
export async function addLayer(
  layout: LayoutChange,
  image: ImageDocuments,
  { tar, compression }: NewLayer,
  { edit, createdBy }: LayerHistory,
): Promise<JsonObject> {
  const kind = compression === 'auto' ? usualCompression(image.manifest.layers) : compression;
  const meter = new TarMeter();
  const blob = await storePieces(layout, compress(meter.measure(tar), kind));
  const suffix = kind === 'none' ? '' : `+${kind}`;
  const layer: JsonObject = {
    mediaType: `${OCI_LAYER}${suffix}`,
    digest: blob.digest,
    size: blob.size,
    ...(meter.size === blob.size ? {} : { annotations: { [TAR_SIZE]: String(meter.size) } }),
  };
  const manifest = parseRaw(image.manifestBytes);
  const config = parseRaw(image.configBytes);
  const rootfs = config.rootfs as JsonObject;
  const diffIds = [...((rootfs.diff_ids ?? []) as readonly Json[]), meter.digest()];
  return await commitImage(
    layout,
    image.path,
    { ...manifest, layers: [...((manifest.layers ?? []) as readonly Json[]), layer] },
    {
      ...config,
      rootfs: { ...rootfs, diff_ids: diffIds },
      history: withHistory(config, edit === null ? null : historyEntry(config, edit, createdBy, false)),
    },
  );
}

/** The same image with nothing but an entry in its history. */
export function addHistory(
  layout: LayoutChange,
  image: ImageDocuments,
  { edit, createdBy }: LayerHistory,
): Promise<JsonObject> {
  const config = parseRaw(image.configBytes);
  const entry = edit === null ? null : historyEntry(config, edit, createdBy, true);
  return commitImage(layout, image.path, parseRaw(image.manifestBytes), {
    ...config,
    history: withHistory(config, entry),
  });
}

function withHistory(config: JsonObject, entry: JsonObject | null): readonly Json[] {
  const entries = (config.history ?? []) as readonly Json[];
  return entry === null ? entries : [...entries, entry];
}

function usualCompression(layers: readonly LayerDescriptor[]): LayerCompression {
  const compressed = layers.findLast(({ compression }) => compression === 'gzip' || compression === 'zstd');
  return compressed?.compression === 'zstd' ? 'zstd' : 'gzip';
}

async function storePieces(layout: LayoutChange, pieces: AsyncIterable<Buffer>): Promise<BlobFacts> {
  const path = layout.workFile();
  const file = openSync(path, 'wx', 0o644);
  const sum = createHash('sha256');
  let size = 0;
  try {
    for await (const piece of pieces) {
      sum.update(piece);
      for (let done = 0; done < piece.length; ) done += writeSync(file, piece, done);
      size += piece.length;
    }
  } finally {
    closeSync(file);
  }
  const digest = `sha256:${sum.digest('hex')}`;
  layout.storeFile(path, digest);
  return { digest, size };
}

class TarMeter {
  readonly #sum = createHash('sha256');
  size = 0;

  async *measure(tar: NewLayer['tar']): AsyncGenerator<Buffer> {
    for await (const piece of tar) {
      this.#sum.update(piece);
      this.size += piece.length;
      yield piece;
    }
  }

  digest(): string {
    return `sha256:${this.#sum.digest('hex')}`;
  }
}

async function* compress(tar: AsyncIterable<Buffer>, kind: LayerCompression): AsyncGenerator<Buffer> {
  if (kind === 'none') {
    yield* tar;
    return;
  }
  const engine = kind === 'gzip' ? createGzip() : createZstdCompress();
  // What the tar throws comes out of the engine.
  const feeding = pipeline(Readable.from(tar), engine).catch(() => {});
  try {
    yield* engine as AsyncIterable<Buffer>;
  } finally {
    engine.destroy();
    await feeding;
  }
}
