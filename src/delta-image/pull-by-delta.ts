/**
 * A pull that takes layers out of a delta, where the source has one from what the store has. A delta only ever saves
 * bytes: what is wrong with it, or missing, is told, and the blobs are fetched as without it.
 */
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type Finding, VeneerError } from '../errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { isManifestType } from '../oci/media-type.ts';
import { hostPlatform } from '../oci/platform.ts';
import type { FileRange, ImageSource, ReadDocument, ResolvedImage } from '../oci/source.ts';
import { formatBytes } from '../progress/units.ts';
import { openDownload, openLocalBlob } from '../store/downloads.ts';
import { isNoSpace, storeError } from '../store/io-errors.ts';
import { hasLayer } from '../store/layers.ts';
import { shortDigest } from '../store/layout.ts';
import { NO_NEEDS, takeLease } from '../store/leases.ts';
import { orAborted, throwIfAborted } from '../store/locks.ts';
import { type PullOptions, pullImage } from '../store/pull.ts';
import type { ImageRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import { ARTIFACT_TYPE, SOURCE_ANNOTATION } from './artifact.ts';
import { type OpenDelta, readDelta } from './open-delta.ts';
import { layersOf, missingLayers, rebuildStored } from './rebuild-stored.ts';

export interface PulledByDelta {
  readonly record: ImageRecord;
  /** The delta that was used and what was fetched of it; null when there was none. */
  readonly delta: { readonly digest: string; readonly bytes: number } | null;
}

/** Deltas that are looked into at most. */
const MAX_CANDIDATES = 16;

/** Pulls as {@link pullImage} does. `base` is the image of the store whose delta is taken when there are several. */
export async function pullByDelta(
  store: Store,
  source: ImageSource,
  base: ImageRecord,
  options: PullOptions = {},
): Promise<PulledByDelta> {
  store.prepare();
  const { signal, onFinding } = options;
  const resolved = await orAborted(source.resolve(options.platform ?? hostPlatform()), signal);
  const known: ImageSource = { ...source, resolve: async () => resolved };
  const whole = async (): Promise<PulledByDelta> => {
    return { record: await pullImage(store, known, options), delta: null };
  };
  const wanted = new Set(resolved.config.diffIds.filter((diffId) => !hasLayer(store, diffId)));
  if (wanted.size === 0) return whole();
  const delta = await tryTo(onFinding, signal, () => findDelta(store, source, resolved, base, onFinding));
  if (delta === null) return whole();
  const cost = costOf(delta, resolved, wanted);
  if (cost.delta >= cost.blobs) {
    onFinding?.(unused(`the delta has ${formatBytes(cost.delta)}, the layers ${formatBytes(cost.blobs)}`));
    return whole();
  }
  const lease = takeLease(store, `delta ${delta.digest}`, {
    ...NO_NEEDS,
    layers: layersOf(delta),
    downloads: [...delta.manifest.layerDeltas.keys()],
  });
  try {
    // A sweep may have been between the look and the lease.
    if (missingLayers(store, delta).length > 0) return await whole();
    const blobs = new DeltaBlobs(store, source, delta, options);
    const rebuild = rebuildStored(store, delta, (digest) => blobs.locate(digest));
    const record = await pullImage(store, known, { ...options, rebuild });
    return { record, delta: { digest: delta.digest, bytes: blobs.bytes } };
  } finally {
    lease.release();
  }
}

/** The first delta that leads to the image and takes nothing that the store lacks; null when there is none. */
async function findDelta(
  store: Store,
  source: ImageSource,
  resolved: ResolvedImage,
  base: ImageRecord,
  onFinding: PullOptions['onFinding'],
): Promise<OpenDelta | null> {
  const { referrers, name } = source;
  if (referrers === undefined) throw new VeneerError('delta/base', `Cannot find deltas: ${name} lists none`);
  const listed = await referrers.list(resolved.manifestDigest, ARTIFACT_TYPE);
  const fits = (entry: Descriptor): boolean => entry.annotations[SOURCE_ANNOTATION] === base.config.digest;
  const entries = [...listed.filter(fits), ...listed.filter((entry) => !fits(entry))];
  const read: ReadDocument = async (descriptor, limit) =>
    isManifestType(descriptor.mediaType)
      ? referrers.read(descriptor)
      : readSmall(await source.openBlob(descriptor, 0), Math.min(limit, descriptor.size));
  for (const entry of entries.slice(0, MAX_CANDIDATES)) {
    const what = `the delta ${shortDigest(entry.digest)}`;
    try {
      const delta = await readDelta(entry, read, what);
      if (delta.manifest.subject.digest !== resolved.manifestDigest)
        throw new VeneerError('delta/mismatch', `Cannot use ${what}: it leads to another image`);
      if (missingLayers(store, delta).length === 0) return delta;
    } catch (error) {
      if (!(error instanceof VeneerError) || error.code === 'io/cancelled') throw error;
      onFinding?.(unused(error.message));
    }
  }
  const count =
    entries.length === 0 ? 'there is none' : `none of ${entries.length} is from layers of the store`;
  throw new VeneerError('delta/base', `Cannot find a delta for ${name}: ${count}`);
}

/** One byte more than the limit is enough to see that it is too long. */
async function readSmall(bytes: AsyncIterable<Buffer>, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of bytes) {
    chunks.push(Buffer.from(chunk));
    length += chunk.length;
    if (length > limit) break;
  }
  return Buffer.concat(chunks);
}

/** Null, and a finding, when it cannot be done. */
async function tryTo<T>(
  onFinding: PullOptions['onFinding'],
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T | null> {
  try {
    return await orAborted(work(), signal);
  } catch (error) {
    throwIfAborted(signal);
    if (!(error instanceof VeneerError) || isNoSpace(error)) throw error;
    onFinding?.(unused(error.message));
    return null;
  }
}

const unused = (reason: string): Finding => ({
  code: 'delta/unused',
  message: `no delta is used: ${reason}`,
});

/** Bytes of what either way would be fetched. */
function costOf(
  { config, manifest }: OpenDelta,
  resolved: ResolvedImage,
  wanted: ReadonlySet<string>,
): { delta: number; blobs: number } {
  const deltas = new Map<string, number>();
  const blobs = new Map<string, number>();
  config.layers.forEach(({ diffId, delta }, i) => {
    if (!wanted.has(diffId)) return;
    blobs.set(diffId, resolved.manifest.layers[i]!.size);
    if (delta !== null) deltas.set(delta, manifest.layerDeltas.get(delta)!.size);
  });
  const sum = (sizes: ReadonlyMap<string, number>): number =>
    [...sizes.values()].reduce((all, one) => all + one, 0);
  return { delta: sum(deltas), blobs: sum(blobs) };
}

/** The blobs of a delta as files: each is fetched when it is first asked for, checked, and gone with the store's work. */
class DeltaBlobs {
  readonly #store: Store;
  readonly #source: ImageSource;
  readonly #delta: OpenDelta;
  readonly #options: PullOptions;
  readonly #files = new Map<string, Promise<FileRange>>();
  /** Fetched. */
  bytes = 0;

  constructor(store: Store, source: ImageSource, delta: OpenDelta, options: PullOptions) {
    this.#store = store;
    this.#source = source;
    this.#delta = delta;
    this.#options = options;
  }

  locate(digest: string): Promise<FileRange> {
    let file = this.#files.get(digest);
    if (file === undefined) this.#files.set(digest, (file = this.#fetch(digest)));
    return file;
  }

  async #fetch(digest: string): Promise<FileRange> {
    const { onProgress } = this.#options;
    const descriptor = this.#delta.manifest.layerDeltas.get(digest)!;
    const id = `delta ${digest}`;
    onProgress?.({ type: 'start', id, what: `delta ${shortDigest(digest)}`, total: descriptor.size });
    try {
      const range = await this.#write(descriptor, id);
      onProgress?.({ type: 'end', id, outcome: 'done' });
      return range;
    } catch (error) {
      onProgress?.({ type: 'end', id, outcome: 'failed' });
      throw error;
    }
  }

  async #write(descriptor: Descriptor, id: string): Promise<FileRange> {
    const { signal, onProgress } = this.#options;
    const download = this.#source.local ? null : openDownload(this.#store, this.#source, descriptor, signal);
    const input = download?.bytes ?? (await openLocalBlob(this.#source, descriptor, signal));
    const path = join(this.#store.work(), `delta-${randomBytes(9).toString('hex')}`);
    const hash = createHash('sha256');
    let keep = true;
    let at = 0;
    try {
      const fd = openSync(path, 'wx', 0o600);
      try {
        for await (const chunk of input) {
          hash.update(chunk);
          for (let done = 0; done < chunk.length; ) done += writeSync(fd, chunk, done);
          at += chunk.length;
          onProgress?.({ type: 'advance', id, done: at });
        }
      } finally {
        closeSync(fd);
      }
      // Right or wrong, nobody needs the part again.
      keep = false;
    } catch (error) {
      keep &&= !isNoSpace(error);
      throw storeError(`write ${path}`, error);
    } finally {
      await download?.dispose(keep);
    }
    this.bytes += at;
    const found = `sha256:${hash.digest('hex')}`;
    if (found !== descriptor.digest || at !== descriptor.size) {
      throw new VeneerError(
        'oci/digest-mismatch',
        `Cannot use the blob ${descriptor.digest} of a delta: ${at} bytes with the digest ${found} came`,
      );
    }
    return { path, offset: 0, length: at };
  }
}
