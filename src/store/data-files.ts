/** The files that hold the data of trees, opened when first read. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import type { ByteSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import type { DataSource } from '../tree/node.ts';
import { deviceDigest, devicePath } from './device-path.ts';
import { isMissing, storeError } from './io-errors.ts';
import { tarFiles } from './layer-files.ts';
import { readLayer } from './layers.ts';
import { LAYER_IMAGE } from './layout.ts';
import type { DeviceRecord } from './records.ts';
import type { Store } from './store.ts';

/** Opens a file of the store for reading. Throws `store/missing` or `io/failed`. */
export function openStored(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY);
  } catch (error) {
    if (isMissing(error))
      throw new VeneerError('store/missing', `Cannot read ${path}: it is missing`, { cause: error });
    throw storeError(`open ${path}`, error);
  }
}

/** Reads exactly `length` bytes at `offset`, into `scratch` if given. */
export function readExactly(
  fd: number,
  offset: number,
  length: number,
  path: string,
  scratch?: Buffer,
): Buffer {
  const buffer = scratch?.subarray(0, length) ?? Buffer.allocUnsafe(length);
  try {
    for (let done = 0; done < length; ) {
      const count = readSync(fd, buffer, done, length - done, offset + done);
      if (count === 0) {
        throw new VeneerError(
          'store/corrupt',
          `Cannot read ${path} at ${offset + done}: the file ends there`,
        );
      }
      done += count;
    }
  } catch (error) {
    throw storeError(`read ${path} at ${offset}`, error);
  }
  return buffer;
}

/** A file as random access bytes; the caller closes `fd`. */
export function fileSource(fd: number, path: string): ByteSource {
  const size = fstatSync(fd).size;
  return {
    size,
    read(offset, length, scratch) {
      if (offset < 0 || length < 0 || offset + length > size) {
        throw new VeneerError(
          'store/corrupt',
          `Cannot read ${path} at ${offset}: ${length} bytes are past its end (${size})`,
        );
      }
      return readExactly(fd, offset, length, path, scratch);
    },
  };
}

/**
 * Finds the files behind the sources of trees, by digest: a tar source is a layer's layer.tar (its diffID) or
 * layer.data, an erofs source is its layer.erofs (the digest of that image).
 */
export class DataFiles {
  readonly #store: Store;
  readonly #devices = new Map<string, DeviceRecord>();
  readonly #paths = new Map<string, string>();
  readonly #open = new Map<string, number>();

  /** `diffIds` are the layers that the trees are of. Throws `store/missing`. */
  constructor(store: Store, diffIds: Iterable<string>) {
    this.#store = store;
    for (const diffId of new Set(diffIds)) {
      const record = readLayer(store, diffId);
      for (const file of tarFiles(record)) this.#devices.set(deviceDigest(store, file), file);
      this.#devices.set(record.image.digest, { diffId, file: LAYER_IMAGE, size: record.image.size });
    }
  }

  /** Another file that trees may point into. */
  addFile(digest: string, path: string): void {
    this.#paths.set(digest, path);
  }

  /** The record of a source's file. Throws `store/corrupt` for a source that no layer has. */
  device(source: DataSource): DeviceRecord {
    return this.#devices.get(source.digest) ?? unknownSource(source);
  }

  /** The open file of a source. It stays open, and readable after its name is gone, until {@link close}. */
  open(source: DataSource): { fd: number; path: string } {
    const path = this.#paths.get(source.digest) ?? devicePath(this.#store, this.device(source));
    this.#paths.set(source.digest, path);
    let fd = this.#open.get(path);
    if (fd === undefined) this.#open.set(path, (fd = openStored(path)));
    return { fd, path };
  }

  /** Exactly `length` bytes of a source. */
  read(source: DataSource, at: number, length: number): Buffer {
    const { fd, path } = this.open(source);
    return readExactly(fd, at, length, path);
  }

  close(): void {
    for (const fd of this.#open.values()) closeSync(fd);
    this.#open.clear();
  }
}

function unknownSource(source: DataSource): never {
  throw new VeneerError(
    'store/corrupt',
    `Cannot find the data ${source.digest || 'without a digest'}: no layer of the image has it`,
  );
}
