/** What `veneer disk` makes a disk of: an image of the store, or an EROFS file with the files of its device table. */
import { closeSync, openSync, readSync } from 'node:fs';
import { resolve } from 'node:path';
import { type DiskImage, flatSectors } from '../../disk/image.ts';
import { readDiskImage } from '../../disk/open-image.ts';
import type { ReadTail } from '../../disk/segments.ts';
import { VeneerError } from '../../errors.ts';
import type { ImageRecord } from '../../store/records.ts';
import type { Store } from '../../store/store.ts';

export interface DiskInput {
  readonly name: string;
  readonly image: DiskImage;
  /** Digest of the metadata image. Its device table names all layers by digest, so it stands for all of the disk. */
  readonly digest: string;
  /** Digests of the devices, in order. */
  readonly deviceDigests: readonly string[];
  /** Null for files. */
  readonly stored: { readonly store: Store; readonly record: ImageRecord } | null;
  /** Keeps a sweep away from the files until then. */
  release(): void;
}

export interface StoredInputOptions {
  readonly signal: AbortSignal;
  /**
   * Whether the files are read for long, so that a sweep must be kept away. What only points to them needs no lease
   * (nor the time to load what locks): they must stay for as long as the disk is used, which is the user's part.
   */
  readonly keep: boolean;
}

/** Opens an image of the store. Throws what `mountable` throws. */
export async function openStoredInput(
  store: Store,
  name: string,
  { signal, keep }: StoredInputOptions,
): Promise<DiskInput> {
  const { resolveImage } = await import('../../store/images.ts');
  const { mountable } = await import('../../store/mountable.ts');
  const record = resolveImage(store, name);
  const release = keep ? await leaseImage(store, record) : () => {};
  try {
    const [files] = await mountable(store, record, 'merged', { signal });
    const { image, superblock } = readDiskImage(
      files!.primary,
      files!.devices.map(({ path }) => path),
    );
    for (const [i, { tag, path }] of files!.devices.entries()) {
      if (superblock.devices[i]!.tag === tag) continue;
      throw new VeneerError(
        'disk/corrupt',
        `Cannot use ${path}: the metadata image was made for another layer`,
      );
    }
    return {
      name: record.name,
      image,
      digest: files!.digest,
      deviceDigests: files!.devices.map(({ tag }) => `sha256:${tag}`),
      stored: { store, record },
      release,
    };
  } catch (error) {
    release();
    throw error;
  }
}

async function leaseImage(store: Store, record: ImageRecord): Promise<() => void> {
  const { takeLease } = await import('../../store/leases.ts');
  const lease = takeLease(store, `disk ${record.name}`, {
    layers: record.layers.map(({ diffId }) => diffId),
    chains: [record.chainId],
    blobs: [],
    downloads: [],
  });
  return () => lease.release();
}

/** Opens an EROFS file. What its device table does not name by a digest is hashed when that is asked for. */
export async function openFileInput(
  path: string,
  devices: readonly string[],
  signal: AbortSignal,
): Promise<DiskInput> {
  const { hashFile } = await import('../../store/hash-file.ts');
  const files = devices.map((device) => resolve(device));
  const { image, superblock } = readDiskImage(resolve(path), files);
  const deviceDigests = await Promise.all(
    superblock.devices.map(({ tag }, i) =>
      /^[0-9a-f]{64}$/.test(tag) ? `sha256:${tag}` : hashFile(files[i]!, signal),
    ),
  );
  return {
    name: path,
    image,
    digest: await hashFile(path, signal),
    deviceDigests,
    stored: null,
    release() {},
  };
}

export const readTail: ReadTail = (path, at, length) => {
  const fd = openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(length);
    readSync(fd, bytes, 0, length, at);
    return bytes;
  } finally {
    closeSync(fd);
  }
};

/** Bytes of the flat disk. */
export const flatSize = (image: DiskImage): number => flatSectors(image) * 512;
