/**
 * fs-verity for the files of the store: where the file system has it, the kernel checks every read of a layer and of
 * every metadata image, and the file can never be written again. The digest that it must enforce is computed here from
 * the bytes, kept in verity/fs/HEX.json, and compared with the kernel's before each mount.
 */
import { closeSync, existsSync, fstatSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as letOthersRun } from 'node:timers/promises';
import { VeneerError } from '../errors.ts';
import { isImmutable, setImmutable } from '../sys/file-flags.ts';
import { enableVerity, measureVerity, supportsVerity } from '../sys/verity.ts';
import { FSVERITY_BLOCK_SIZE, FsVerityHasher } from '../verity/index.ts';
import { writeFileAtomic } from './atomic.ts';
import { chainOf } from './chain-ids.ts';
import { findChainRecord } from './chain-records.ts';
import { openStored } from './data-files.ts';
import { deviceDigest, devicePath, holdsDevice } from './device-path.ts';
import { storeError } from './io-errors.ts';
import { ownFiles, tarFiles } from './layer-files.ts';
import { readLayer } from './layers.ts';
import { CHAIN_IMAGE } from './layout.ts';
import { throwIfAborted } from './locks.ts';
import { type FsVerityRecord, type ImageRecord, readFsVerityRecord, recordText } from './records.ts';
import type { Store } from './store.ts';

/** A file of the store and the SHA-256 of its bytes. */
export interface SealedFile {
  readonly path: string;
  readonly digest: string;
}

/** The files that hold an image: tars or what they are put together from, their metadata images, the merged image. */
export function imageFiles(store: Store, image: Pick<ImageRecord, 'layers'>): SealedFile[] {
  const files = new Map<string, SealedFile>();
  const add = (path: string, digest: string): void => void files.set(path, { path, digest });
  const diffIds = image.layers.map((layer) => layer.diffId);
  for (const diffId of diffIds) {
    const directory = store.layout.layer(diffId);
    const record = readLayer(store, diffId);
    for (const { file, digest } of ownFiles(record)) add(join(directory, file), digest);
    // what is left of a file has other bytes than the digest says
    for (const device of tarFiles(record))
      if (holdsDevice(store, device)) add(devicePath(store, device), deviceDigest(store, device));
  }
  const chainId = chainOf(diffIds);
  const directory = store.layout.chain(chainId);
  const chain = findChainRecord(directory, chainId);
  if (chain !== null) add(join(directory, CHAIN_IMAGE), chain.image.digest);
  return [...files.values()];
}

/** Null when fs-verity was never turned on for a file with this digest. Throws `store/corrupt`. */
export function findFsVerity(store: Store, digest: string): FsVerityRecord | null {
  const path = store.layout.fsVerity(digest);
  if (!existsSync(path)) return null;
  const record = readFsVerityRecord(path);
  if (record.digest === digest) return record;
  throw new VeneerError('store/corrupt', `Cannot read ${path}: it is about ${record.digest}`);
}

/**
 * Turns fs-verity on for the files of an image that do not have it yet; false when the file system has none.
 * A crash leaves some files with it and some without; what the kernel enforces before its record is written is enforced
 * all the same, and the next call goes on.
 */
export async function sealImage(
  store: Store,
  image: Pick<ImageRecord, 'layers'>,
  options: { readonly signal?: AbortSignal | undefined } = {},
): Promise<boolean> {
  const files = imageFiles(store, image);
  for (const file of files) {
    throwIfAborted(options.signal);
    if (!(await seal(store, file, options.signal))) return false;
  }
  return true;
}

async function seal(
  store: Store,
  { path, digest }: SealedFile,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const fd = openStored(path);
  try {
    if (!supportsVerity(fd)) return false;
    if (findFsVerity(store, digest) !== null) return true;
    enableVerity(fd, FSVERITY_BLOCK_SIZE);
    const fsVerity = await digestFile(fd, signal);
    const measured = measureVerity(fd);
    if (measured !== fsVerity) {
      throw new VeneerError(
        'store/mismatch',
        `Cannot seal ${path}: the kernel's fs-verity digest is ${measured}, its bytes have ${fsVerity}`,
      );
    }
    const record: FsVerityRecord = { version: 1, digest, fsVerity };
    await writeFileAtomic(store.layout.fsVerity(digest), recordText(record), {
      work: store.work(),
      fsync: store.fsync,
      mode: 0o444,
    });
    return true;
  } catch (error) {
    throw storeError(`seal ${path}`, error);
  } finally {
    closeSync(fd);
  }
}

/** The fs-verity digest of an open file, from its bytes. */
export async function digestFile(fd: number, signal: AbortSignal | undefined): Promise<string> {
  const { size } = fstatSync(fd);
  const hasher = new FsVerityHasher(size);
  for (let at = 0; at < size; ) {
    throwIfAborted(signal);
    const want = Math.min(hasher.space.length, size - at);
    let got = 0;
    while (got < want) {
      const count = readSync(fd, hasher.space, got, want - got, at + got);
      if (count === 0)
        throw new VeneerError('store/corrupt', `Cannot read a file at ${at + got}: it ends there`);
      got += count;
    }
    hasher.take(got);
    at += got;
    await letOthersRun();
  }
  return hasher.finish();
}

/**
 * Whether the kernel enforces what the record of a file says: null when it does, else what is wrong. Also null, with
 * `enforced` false, where there is no record.
 */
export function checkFsVerity(
  store: Store,
  { path, digest }: SealedFile,
): { readonly enforced: boolean; readonly problem: string | null } {
  const record = findFsVerity(store, digest);
  if (record === null) return { enforced: false, problem: null };
  const fd = openStored(path);
  try {
    const measured = measureVerity(fd);
    if (measured === record.fsVerity) return { enforced: true, problem: null };
    return {
      enforced: false,
      problem:
        measured === null
          ? `${path} had fs-verity, and has it no more: it was replaced`
          : `${path} has the fs-verity digest ${measured}, not ${record.fsVerity}`,
    };
  } finally {
    closeSync(fd);
  }
}

/**
 * Sets the immutable flag of an image's files: then not even root changes, renames or removes them by accident. A sweep
 * takes it off again. Throws `store/unsupported` when the file system has no such flag, `sys/EPERM` without the right.
 */
export function makeImmutable(store: Store, image: Pick<ImageRecord, 'layers'>): void {
  for (const { path } of imageFiles(store, image)) {
    const fd = openStored(path);
    try {
      if (!setImmutable(fd, true)) {
        throw new VeneerError(
          'store/unsupported',
          `Cannot make ${path} immutable: its file system has no such flag`,
          { hint: 'ext4, XFS, Btrfs and f2fs have it.' },
        );
      }
    } finally {
      closeSync(fd);
    }
  }
}

/** Whether a file has the immutable flag; false where there is no such flag. Throws `store/missing`. */
export function hasImmutableFlag(path: string): boolean {
  const fd = openStored(path);
  try {
    return isImmutable(fd);
  } finally {
    closeSync(fd);
  }
}
