/**
 * Garbage collection: mark what images, leases, holds and mounts need, sweep the rest.
 *
 * Why this is safe beside pulls, mounts and other sweeps:
 *
 * 1. A sweep marks and takes names away under the exclusive store lock. Leases are taken under the shared lock, so
 *    each lease is either seen whole or taken after the sweep. A pull looks for what exists only after it has its
 *    lease: what it finds was there after the last sweep or is protected from the next.
 * 2. A pull publishes its image record first and gives its lease back then, without any lock. So leases are read
 *    before images: a lease that is gone when we look left an image record that we have not read yet.
 * 3. A mount resolves its image and opens its files under the shared lock, and leaves its mount record before it
 *    lets go. Readers (`ls`, `cat`) hold the shared lock until their files are open; open files outlive their names.
 * 4. The critical section never waits for anything but the disk. What was taken away is renamed into tmp/ under
 *    the lock and removed after it. Another sweep may remove it at the same time, which hurts nobody.
 * 5. A layer that shares data needs the files it points into. Whoever makes one holds a lease on all layers until the
 *    new one is published, and it is under a lease or an image's name from then on.
 * 6. A crash in between leaves whole things under their names and debris in tmp/.
 */
import { join } from 'node:path';
import { VeneerError } from '../errors.ts';
import { discard, syncPathNow, unpublishDirectory, unpublishFile } from './atomic.ts';
import { isImageFile, listDirectory, syncCatalog } from './catalog.ts';
import { imageChains } from './chain-ids.ts';
import { findChainRecord } from './chain-records.ts';
import { collectDebris, type Debris, removeDebris, treeBytes } from './debris.ts';
import { deviceDigest, holdsDevice } from './device-path.ts';
import { readHolds } from './holds.ts';
import { storeError } from './io-errors.ts';
import { ownFiles } from './layer-files.ts';
import { hasLayer, readLayer } from './layers.ts';
import { digestHex, HEX64 } from './layout.ts';
import { readLeases } from './leases.ts';
import { throwIfAborted } from './locks.ts';
import { type ImageRecord, readImageRecord } from './records.ts';
import type { Store } from './store.ts';
import { VERITY_SCOPES } from './verity.ts';

export interface GcOptions {
  /** Only tell what would go. */
  readonly dryRun?: boolean;
  /**
   * Files of the store that mounts use, as the mount records say. Called under the store lock, so that no mount
   * can come up between the look and the sweep.
   */
  readonly mountedFiles?: () => readonly string[];
  /** Leave unfinished downloads for the next pull. */
  readonly keepDownloads?: boolean;
  readonly signal?: AbortSignal;
}

/** What was removed, or would be. */
export interface GcReport {
  /** diffIDs. */
  readonly layers: string[];
  /** chainIDs of merged images, and of single layers with resolved links. */
  readonly chains: string[];
  /** Manifests, indexes, configs. */
  readonly blobs: string[];
  /** Digests of files of which parts were kept for others. */
  readonly remnants: string[];
  /** diffIDs of layers that stay only because others point into them: `compact` keeps less. */
  readonly shared: string[];
  /** Paths of what the dead left: work directories, leases, downloads. */
  readonly debris: string[];
  /** Bytes that it took on disk. */
  bytes: number;
}

/** Hex parts of what must stay. */
export interface Marks {
  readonly layers: Set<string>;
  /** Of files whose layer is gone. */
  readonly remnants: Set<string>;
  readonly chains: Set<string>;
  readonly blobs: Set<string>;
  readonly downloads: Set<string>;
}

/**
 * Removes every layer, chain and blob that no image, snapshot, running pull or mount needs, and what dead processes left.
 * Throws `store/corrupt` when an image record or a live lease cannot be read: then nobody knows what may go.
 */
export async function gc(store: Store, options: GcOptions = {}): Promise<GcReport> {
  const report: GcReport = {
    layers: [],
    chains: [],
    blobs: [],
    remnants: [],
    shared: [],
    debris: [],
    bytes: 0,
  };
  if (!store.exists()) return report;
  throwIfAborted(options.signal);
  const dryRun = options.dryRun ?? false;
  const trash: string[] = [];
  let debris: Debris | null = null;
  const lock = await store.exclusive(options.signal);
  try {
    const leases = readLeases(store); // before the images: see 2. above
    const marks = mark(store, leases.live, options.mountedFiles?.() ?? []);
    report.shared.push(...markSources(store, marks));
    sweepDirectories(store, marks, report, dryRun ? null : trash);
    sweepBlobs(store, marks, report, dryRun);
    sweepVerity(store, marks, report, dryRun ? null : trash);
    const downloads = options.keepDownloads === true ? null : marks.downloads;
    debris = collectDebris(store, leases.dead, { downloads, trash }, report, dryRun);
  } catch (error) {
    throw storeError('collect garbage', error);
  } finally {
    lock.release();
  }
  for (const path of trash) await discard(path);
  await removeDebris(debris);
  if (!dryRun) syncCatalog(store);
  return report;
}

/** What images, live leases and mounts name. */
export function mark(
  store: Store,
  leases: ReturnType<typeof readLeases>['live'],
  mounted: readonly string[],
): Marks {
  const marks: Marks = {
    layers: new Set(),
    remnants: new Set(),
    chains: new Set(),
    blobs: new Set(),
    downloads: new Set(),
  };
  const add = (set: Set<string>, digests: readonly string[]): void => {
    for (const digest of digests) set.add(digestHex(digest));
  };
  for (const needs of leases) {
    add(marks.layers, needs.layers);
    add(marks.chains, needs.chains);
    add(marks.blobs, needs.blobs);
    add(marks.downloads, needs.downloads);
  }
  for (const held of readHolds(store)) {
    add(marks.layers, held.layers);
    add(marks.chains, held.chains);
  }
  for (const image of readAllImages(store)) {
    add(
      marks.layers,
      image.layers.map((layer) => layer.diffId),
    );
    add(marks.chains, imageChains(image));
    add(marks.blobs, imageBlobs(image));
  }
  for (const path of mounted) {
    const [kind, hex] = storePart(path);
    if (kind === 'layers') marks.layers.add(hex);
    else if (kind === 'remnants') marks.remnants.add(hex);
    else if (kind === 'chains' || kind === 'linked') marks.chains.add(hex);
  }
  return marks;
}

/** Adds what the marked layers point into, and what a layer points into that is kept for its data. Returns those layers. */
function markSources(store: Store, marks: Marks): string[] {
  const added: string[] = [];
  const pending = [...marks.layers];
  for (let hex = pending.pop(); hex !== undefined; hex = pending.pop()) {
    const diffId = `sha256:${hex}`;
    if (!hasLayer(store, diffId)) continue;
    for (const device of readLayer(store, diffId).deduped?.sources ?? []) {
      const source = digestHex(device.diffId);
      if (!holdsDevice(store, device)) marks.remnants.add(digestHex(deviceDigest(store, device)));
      else if (!marks.layers.has(source)) {
        marks.layers.add(source);
        pending.push(source);
        added.push(device.diffId);
      }
    }
  }
  return added;
}

const STORED_FILE = /\/(layers|remnants|chains|linked)\/([0-9a-f]{64})\/[^/]+$/;

/**
 * `…/layers/HEX/layer.tar` → ['layers', HEX]; ['', ''] for anything else. The root is not compared: mount records
 * are this store's own, and may name it by another path.
 */
export function storePart(path: string): [kind: string, hex: string] {
  const match = STORED_FILE.exec(path);
  return match === null ? ['', ''] : [match[1]!, match[2]!];
}

export function imageBlobs(image: ImageRecord): string[] {
  const blobs = [image.manifest.digest, image.config.digest];
  if (image.index !== null) blobs.push(image.index.digest);
  return blobs;
}

/** Every image record, straight from the files. Throws when one cannot be read. */
function readAllImages(store: Store): ImageRecord[] {
  const images: ImageRecord[] = [];
  for (const file of listDirectory(store.layout.images)) {
    if (!isImageFile(file)) continue;
    try {
      images.push(readImageRecord(join(store.layout.images, file)));
    } catch (error) {
      // `rm` may take a name away at any time.
      if (error instanceof VeneerError && error.code === 'store/missing') continue;
      throw error;
    }
  }
  return images;
}

function sweepDirectories(store: Store, marks: Marks, report: GcReport, trash: string[] | null): void {
  const { layout } = store;
  // What is made of layers goes before the layers, so that a crash leaves no chain whose layers are gone.
  const rooms: [dir: string, marked: Set<string>, removed: string[]][] = [
    [layout.linked, marks.chains, report.chains],
    [layout.chains, marks.chains, report.chains],
    [layout.layers, marks.layers, report.layers],
    [layout.remnants, marks.remnants, report.remnants],
  ];
  for (const [dir, marked, removed] of rooms) {
    for (const hex of listDirectory(dir)) {
      if (!HEX64.test(hex) || marked.has(hex)) continue;
      const path = join(dir, hex);
      report.bytes += treeBytes(path);
      const digest = `sha256:${hex}`;
      if (!removed.includes(digest)) removed.push(digest);
      if (trash === null) continue;
      // Straight into tmp/, not into a work directory of our own: on a full disk none could be made.
      const moved = unpublishDirectory(path, { work: layout.tmp, fsync: false });
      if (moved !== null) trash.push(moved);
    }
    // One for all: the renames must be durable before the files inside are removed.
    if (trash !== null && trash.length > 0 && store.fsync) syncPathNow(dir);
  }
}

/** Hash trees and fs-verity digests of files that nothing marked holds any more. */
function sweepVerity(store: Store, marks: Marks, report: GcReport, trash: string[] | null): void {
  const { layout } = store;
  const kept = storedDigests(store, marks);
  if (kept === null) return;
  for (const scope of VERITY_SCOPES) {
    const dir = join(layout.verity, scope);
    for (const hex of listDirectory(dir)) {
      if (!HEX64.test(hex) || kept.has(hex)) continue;
      const path = join(dir, hex);
      report.bytes += treeBytes(path);
      const moved = trash === null ? null : unpublishDirectory(path, { work: layout.tmp, fsync: false });
      if (moved !== null) trash!.push(moved);
    }
  }
  const dir = join(layout.verity, 'fs');
  for (const name of listDirectory(dir)) {
    const hex = name.replace(/\.json$/, '');
    if (!HEX64.test(hex) || kept.has(hex)) continue;
    report.bytes += treeBytes(join(dir, name));
    if (trash !== null) unpublishFile(join(dir, name), { fsync: false });
  }
}

/**
 * Hex digests of the files in marked directories; null when nothing depends on them, or when a record cannot be read:
 * then nobody knows what may go.
 */
function storedDigests(store: Store, marks: Marks): Set<string> | null {
  const { layout } = store;
  if (![...VERITY_SCOPES, 'fs'].some((scope) => listDirectory(join(layout.verity, scope)).length > 0))
    return null;
  const digests = new Set([...marks.layers, ...marks.remnants]);
  const add = (digest: string | undefined): void => {
    if (digest !== undefined) digests.add(digestHex(digest));
  };
  try {
    for (const hex of marks.layers)
      if (hasLayer(store, `sha256:${hex}`))
        for (const { digest } of ownFiles(readLayer(store, `sha256:${hex}`))) add(digest);
    for (const hex of marks.chains) {
      const chainId = `sha256:${hex}`;
      add(findChainRecord(layout.chain(chainId), chainId)?.image.digest);
      add(findChainRecord(layout.linkedLayer(chainId), chainId)?.image.digest);
    }
  } catch (error) {
    if (error instanceof VeneerError) return null;
    throw error;
  }
  return digests;
}

function sweepBlobs(store: Store, marks: Marks, report: GcReport, dryRun: boolean): void {
  for (const hex of listDirectory(store.layout.blobs)) {
    if (!HEX64.test(hex) || marks.blobs.has(hex)) continue;
    const path = join(store.layout.blobs, hex);
    report.bytes += treeBytes(path);
    report.blobs.push(`sha256:${hex}`);
    if (!dryRun) unpublishFile(path, { fsync: false });
  }
}
