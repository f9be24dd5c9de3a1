/** Pull: from an image source into the store, ready to mount. */
import { statSync } from 'node:fs';
import { type Finding, VeneerError } from '../errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { checkDigest, digestOf } from '../oci/digest.ts';
import { formatPlatform, hostPlatform, type Platform } from '../oci/platform.ts';
import type { ImageSource, ResolvedImage } from '../oci/source.ts';
import type { OnProgress } from '../progress/events.ts';
import { formatBytes } from '../progress/units.ts';
import { syncPath, writeFileAtomic } from './atomic.ts';
import { syncCatalog } from './catalog.ts';
import { chainOf } from './chain-ids.ts';
import { hasChain } from './chain-records.ts';
import { ensureChain } from './chains.ts';
import { sweepDebris } from './debris.ts';
import { makeImmutable, sealImage } from './fs-verity.ts';
import { checkImageName, putImage, readBlob } from './images.ts';
import type { IngestPool } from './ingest-pool.ts';
import { freeSpace, isNoSpace, storeError } from './io-errors.ts';
import { hasLayer, readLayer } from './layers.ts';
import { isDigest } from './layout.ts';
import { takeLease } from './leases.ts';
import { orAborted, throwIfAborted } from './locks.ts';
import { type LayerTask, pullLayers, type RebuildLayer } from './pull-layers.ts';
import type { BlobRef, ImageRecord } from './records.ts';
import { readSettings } from './settings.ts';
import type { Store } from './store.ts';

export interface PullOptions {
  /** Name in the store; the source's own when not given. */
  readonly name?: string;
  /** Default: this machine's. */
  readonly platform?: Platform;
  /** Layers at a time; default 4. */
  readonly concurrency?: number;
  /** Threads that the caller has started, and ends. */
  readonly pool?: IngestPool;
  /** Where layers come from before their blobs are fetched. */
  readonly rebuild?: RebuildLayer;
  /** The source has no blobs: what cannot be rebuilt fails. */
  readonly rebuildOnly?: boolean;
  readonly onProgress?: OnProgress;
  readonly onFinding?: (finding: Finding) => void;
  /** Keep of new layers only what no other layer has; default: what the store is set to, and layers that are rebuilt. */
  readonly dedupe?: boolean;
  /** Set the immutable flag of the image's files. Throws `store/unsupported` where there is none. */
  readonly immutable?: boolean;
  /** Ends the pull with `io/cancelled`; what is complete stays, downloads stay resumable. */
  readonly signal?: AbortSignal;
}

const DEFAULT_CONCURRENCY = 4;

/**
 * Pulls the image of `source` and publishes it under its name. Layers, chains and blobs that are stored already
 * are used. Every digest is verified before anything gets its final name; the image record comes last, so the
 * name leads to a complete image or to what it led to before.
 *
 * Throws what the source throws, `store/mismatch` and the digest errors of the oci room for wrong content,
 * `io/no-space` with what is needed, `io/cancelled`.
 */
export async function pullImage(
  store: Store,
  source: ImageSource,
  options: PullOptions = {},
): Promise<ImageRecord> {
  const name = options.name ?? source.name;
  checkImageName(name);
  store.prepare();
  await sweepDebris(store);
  throwIfAborted(options.signal);
  const resolved = await orAborted(source.resolve(options.platform ?? hostPlatform()), options.signal);
  for (const finding of resolved.findings) options.onFinding?.(finding);
  const record = describeImage(name, resolved);
  const blobs = imageDocuments(record, resolved);

  const lease = takeLease(store, `pull ${name}`, {
    layers: record.layers.map((layer) => layer.diffId),
    chains: [record.chainId],
    blobs: blobs.map((blob) => blob.digest),
    downloads: source.local ? [] : record.layers.map((layer) => layer.blob.digest),
  });
  try {
    checkSpace(store, record);
    // Their fsyncs run beside the layers.
    const documents = Promise.allSettled(blobs.map((blob) => storeBlob(store, blob.digest, blob.bytes)));
    try {
      await pullLayers(store, source, layerTasks(record, resolved), {
        concurrency: Math.max(1, options.concurrency ?? DEFAULT_CONCURRENCY),
        alone: record.layers.length === 1,
        pool: options.pool,
        rebuild: options.rebuild,
        rebuildOnly: options.rebuildOnly ?? false,
        dedupe: dedupeWhat(store, options),
        signal: options.signal,
        onProgress: options.onProgress,
        onFinding: options.onFinding,
      });
    } finally {
      await documents;
    }
    for (const one of await documents) if (one.status === 'rejected') throw one.reason;
    await mergeChain(store, record, options);
    await sealImage(store, record, options);
    throwIfAborted(options.signal);
    await syncNames(store);
    await putImage(store, { ...record, version: recordVersion(store, record) });
    if (options.immutable) makeImmutable(store, record);
    // Given back only now: see the order of reading in gc.ts.
  } catch (error) {
    throw explain(store, record, error);
  } finally {
    lease.release();
  }
  try {
    syncCatalog(store);
  } catch (error) {
    // The image is published; the database catches up when it is next asked.
    const reason = error instanceof Error ? error.message : String(error);
    options.onFinding?.({ code: 'store/database', message: `the index of the store is behind: ${reason}` });
  }
  return record;
}

/** The record as it will be stored. All digests in it become file names, so their form is checked here. */
function describeImage(name: string, resolved: ResolvedImage): ImageRecord {
  const { manifest, config } = resolved;
  checkDigest(resolved.manifestBytes, resolved.manifestDigest, `the manifest of ${name}`);
  checkDigest(resolved.configBytes, manifest.config.digest, `the config of ${name}`);
  if (resolved.index !== undefined)
    checkDigest(resolved.index.bytes, resolved.index.digest, `the index of ${name}`);
  if (config.diffIds.length !== manifest.layers.length) {
    throw new VeneerError(
      'store/mismatch',
      `Cannot pull ${name}: its manifest has ${manifest.layers.length} layers, its config ${config.diffIds.length}`,
    );
  }
  const layers = manifest.layers.map((layer, i) => ({ diffId: config.diffIds[i]!, blob: blobRef(layer) }));
  const index = resolved.index;
  const record: ImageRecord = {
    version: 1,
    name,
    manifest: {
      digest: resolved.manifestDigest,
      size: resolved.manifestBytes.length,
      mediaType: manifest.mediaType,
    },
    config: blobRef(manifest.config),
    index:
      index === undefined
        ? null
        : { digest: index.digest, size: index.bytes.length, mediaType: index.mediaType },
    platform: formatPlatform(config.platform),
    layers,
    chainId: chainOf(config.diffIds),
    pulledAt: new Date().toISOString(),
  };
  const digests = [
    record.manifest.digest,
    record.config.digest,
    ...(index === undefined ? [] : [index.digest]),
  ];
  for (const layer of layers) digests.push(layer.diffId, layer.blob.digest);
  const strange = digests.find((digest) => !isDigest(digest));
  if (strange !== undefined) {
    throw new VeneerError(
      'store/unsupported',
      `Cannot pull ${name}: the store takes sha256 digests only, not ${strange}`,
    );
  }
  return record;
}

/** Layers that come as a delta are like others by nature. */
function dedupeWhat(store: Store, { dedupe }: PullOptions): 'all' | 'rebuilt' | 'none' {
  if (dedupe === undefined) return readSettings(store).dedupe ? 'all' : 'rebuilt';
  return dedupe ? 'all' : 'none';
}

/** One that is deduped makes the record one that a veneer which cannot know of sharing will not read, and sweep past. */
function recordVersion(store: Store, record: ImageRecord): 1 | 2 {
  return record.layers.some(({ diffId }) => readLayer(store, diffId).deduped !== undefined) ? 2 : 1;
}

function blobRef(descriptor: Descriptor): BlobRef {
  return { digest: descriptor.digest, size: descriptor.size, mediaType: descriptor.mediaType };
}

function imageDocuments(record: ImageRecord, resolved: ResolvedImage): { digest: string; bytes: Buffer }[] {
  const blobs = [
    { digest: record.config.digest, bytes: resolved.configBytes },
    { digest: record.manifest.digest, bytes: resolved.manifestBytes },
  ];
  if (resolved.index !== undefined)
    blobs.push({ digest: resolved.index.digest, bytes: resolved.index.bytes });
  return blobs;
}

/** Each layer once, though an image may have it several times. */
function layerTasks(record: ImageRecord, resolved: ResolvedImage): LayerTask[] {
  const tasks = new Map<string, LayerTask>();
  record.layers.forEach(({ diffId }, position) => {
    if (!tasks.has(diffId))
      tasks.set(diffId, { diffId, position, descriptor: resolved.manifest.layers[position]! });
  });
  return [...tasks.values()];
}

/**
 * Puts a small document under its digest. Its bytes were verified. One that is there with other content was
 * damaged, and is replaced.
 */
async function storeBlob(store: Store, digest: string, bytes: Buffer): Promise<void> {
  const path = store.layout.blob(digest);
  try {
    if (
      statSync(path, { throwIfNoEntry: false })?.size === bytes.length &&
      digestOf(readBlob(store, digest)) === digest
    )
      return;
    await writeFileAtomic(path, bytes, { work: store.work(), fsync: store.fsync });
  } catch (error) {
    throw storeError(`write ${path}`, error);
  }
}

/**
 * Makes the names of all that the image needs durable before the image has one: those that we gave, and those of
 * layers that another pull has only just published.
 */
async function syncNames(store: Store): Promise<void> {
  if (!store.fsync) return;
  const { layers, chains, blobs } = store.layout;
  await Promise.all([layers, chains, blobs].map(syncPath));
}

/** Bytes that the missing layers take at least: a tar is not smaller than its compressed blob. */
function missingBytes(store: Store, record: ImageRecord): number {
  const blobs = new Map<string, number>();
  for (const layer of record.layers)
    if (!hasLayer(store, layer.diffId)) blobs.set(layer.diffId, layer.blob.size);
  let bytes = 0;
  for (const size of blobs.values()) bytes += size;
  return bytes;
}

function noSpace(store: Store, record: ImageRecord, cause?: unknown): VeneerError {
  const { root } = store.layout;
  const needed = formatBytes(missingBytes(store, record));
  const free = formatBytes(freeSpace(root));
  return new VeneerError(
    'io/no-space',
    `Cannot pull ${record.name} into ${root}: its missing layers need more than ${needed}, ${free} are free`,
    { hint: 'the layers take more when uncompressed; free some space, for example with `veneer gc`', cause },
  );
}

/** Says at once what could not work. */
function checkSpace(store: Store, record: ImageRecord): void {
  if (missingBytes(store, record) > freeSpace(store.layout.root)) throw noSpace(store, record);
}

function explain(store: Store, record: ImageRecord, error: unknown): VeneerError {
  if (isNoSpace(error)) return noSpace(store, record, error);
  return storeError(`pull ${record.name}`, error);
}

async function mergeChain(store: Store, record: ImageRecord, options: PullOptions): Promise<void> {
  const id = `chain ${record.chainId}`;
  if (hasChain(store, record.chainId)) return;
  options.onProgress?.({ type: 'start', id, what: `merge ${record.layers.length} layers`, total: 0 });
  try {
    await ensureChain(
      store,
      record.layers.map((layer) => layer.diffId),
      { signal: options.signal },
    );
  } catch (error) {
    options.onProgress?.({ type: 'end', id, outcome: 'failed' });
    throw error;
  }
  options.onProgress?.({ type: 'end', id, outcome: 'done' });
}
