/** The layers of an image as tars in files, wherever the image comes from. */
import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { decompress } from '../compress/decompress.ts';
import { VeneerError } from '../errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { hostPlatform, type Platform } from '../oci/platform.ts';
import type { FileRange, ImageSource } from '../oci/source.ts';
import { readBlob } from '../store/images.ts';
import { storeError } from '../store/io-errors.ts';
import { locateLayerTar } from '../store/layer-tar.ts';
import { type Needs, NO_NEEDS, takeLease } from '../store/leases.ts';
import { throwIfAborted } from '../store/locks.ts';
import type { BlobRef, ImageRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import { fastestInflater } from '../sys/isal.ts';
import type { TarFile } from './tar-file.ts';

/** A document and what a manifest or index calls it. */
export interface Document extends BlobRef {
  readonly bytes: Buffer;
}

export interface ImageTars {
  readonly name: string;
  readonly manifest: Document;
  readonly config: Document;
  /** Bottom first. */
  readonly layers: readonly { readonly diffId: string; readonly blob: BlobRef }[];
  /** The tar of a layer. It stays until {@link close}. */
  tar(index: number): Promise<TarFile>;
  /** The blob of a layer as it was received, or null where only its tar was kept. */
  blob(index: number): Promise<FileRange | null>;
  close(): Promise<void>;
}

/** An image of the store, which keeps its layers for as long as this is open. */
export function storedTars(store: Store, record: ImageRecord): ImageTars {
  const needs: Needs = { ...NO_NEEDS, layers: record.layers.map(({ diffId }) => diffId) };
  const lease = takeLease(store, `delta of ${record.name}`, needs);
  try {
    const documentOf = (ref: BlobRef): Document => ({ ...ref, bytes: readBlob(store, ref.digest) });
    return {
      name: record.name,
      manifest: documentOf(record.manifest),
      config: documentOf(record.config),
      layers: record.layers,
      async tar(index) {
        return locateLayerTar(store, record.layers[index]!.diffId);
      },
      blob: async () => null,
      close: async () => lease.release(),
    };
  } catch (error) {
    lease.release();
    throw error;
  }
}

export interface SourceTarsOptions {
  /** Gives paths for the tars; who gives them removes them. */
  readonly workFile: () => string;
  /** Default: this machine's. */
  readonly platform?: Platform;
  readonly signal?: AbortSignal;
}

/** An image of a layout or archive. Each layer is unpacked when it is asked for, and checked. Closes `source` in the end. */
export async function sourceTars(source: ImageSource, options: SourceTarsOptions): Promise<ImageTars> {
  const image = await source.resolve(options.platform ?? hostPlatform());
  const { manifest, config } = image;
  const tars = new Map<string, Promise<TarFile>>();
  return {
    name: source.name,
    manifest: {
      mediaType: manifest.mediaType,
      digest: image.manifestDigest,
      size: image.manifestBytes.length,
      bytes: image.manifestBytes,
    },
    config: { ...refOf(manifest.config), bytes: image.configBytes },
    layers: manifest.layers.map((blob, i) => ({ diffId: config.diffIds[i]!, blob: refOf(blob) })),
    tar(index) {
      const diffId = config.diffIds[index]!;
      let tar = tars.get(diffId);
      if (tar === undefined) {
        tar = unpack(source, manifest.layers[index]!, diffId, options);
        tars.set(diffId, tar);
      }
      return tar;
    },
    blob: (index) => source.locateBlob(manifest.layers[index]!),
    close: () => source.close(),
  };
}

function refOf({ mediaType, digest, size }: Descriptor): BlobRef {
  return { mediaType, digest, size };
}

async function unpack(
  source: ImageSource,
  descriptor: Descriptor,
  diffId: string,
  { workFile, signal }: SourceTarsOptions,
): Promise<TarFile> {
  const path = workFile();
  const hash = createHash('sha256');
  try {
    const file = await open(path, 'wx', 0o600);
    try {
      for await (const piece of decompress(await source.openBlob(descriptor, 0), fastestInflater)) {
        throwIfAborted(signal);
        hash.update(piece);
        await file.writeFile(piece);
      }
    } finally {
      await file.close();
    }
  } catch (error) {
    throw storeError(`unpack layer ${diffId} of ${source.name}`, error);
  }
  const found = `sha256:${hash.digest('hex')}`;
  if (found !== diffId) {
    throw new VeneerError(
      'oci/digest-mismatch',
      `Cannot use layer ${diffId} of ${source.name}: its tar has the digest ${found}`,
    );
  }
  return { diffId, path, size: statSync(path).size };
}
