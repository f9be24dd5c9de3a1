/** The layers of a pull: side by side, each under its own lock, each published when it is verified. */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { type Finding, VeneerError } from '../errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { FileRange, ImageSource } from '../oci/source.ts';
import type { OnProgress } from '../progress/events.ts';
import type { BaseFile } from './base-files.ts';
import { chooseBases } from './choose-bases.ts';
import { openDownload, openLocalBlob } from './downloads.ts';
import type { IngestedLayer } from './ingest.ts';
import { IngestPool, type TarStream } from './ingest-pool.ts';
import { isNoSpace } from './io-errors.ts';
import { hasLayer } from './layers.ts';
import { digestHex, shortDigest } from './layout.ts';
import { type Lock, throwIfAborted, tryLockName, waitForLock } from './locks.ts';
import { ingestNewLayer } from './new-layer.ts';
import type { Store } from './store.ts';

/** One layer to have. */
export interface LayerTask {
  readonly diffId: string;
  /** First position in the image, from 0. */
  readonly position: number;
  readonly descriptor: Descriptor;
}

/**
 * The exact tar of a layer, put together from what is here; null when there is nothing to put it together from.
 * It is hashed; when it is not right, the blob is fetched instead. Its origins name what it shares with `bases`.
 */
export type RebuildLayer = (diffId: string, bases: readonly BaseFile[]) => TarStream | null;

export interface PullLayersOptions {
  readonly rebuild: RebuildLayer | undefined;
  /** There are no blobs: what cannot be rebuilt fails. */
  readonly rebuildOnly: boolean;
  readonly concurrency: number;
  /** The image has one layer. */
  readonly alone: boolean;
  /** Threads of the caller. */
  readonly pool: IngestPool | undefined;
  /** Of which layers only what no other layer has is kept. */
  readonly dedupe: 'all' | 'rebuilt' | 'none';
  readonly signal: AbortSignal | undefined;
  readonly onProgress: OnProgress | undefined;
  readonly onFinding: ((finding: Finding) => void) | undefined;
}

/**
 * Brings all layers into the store, the largest first. When one fails the others stop too; what was published
 * stays for the next try. Call it with a lease on the layers.
 */
export async function pullLayers(
  store: Store,
  source: ImageSource,
  tasks: readonly LayerTask[],
  options: PullLayersOptions,
): Promise<void> {
  const failure = new AbortController();
  const signal =
    options.signal === undefined ? failure.signal : AbortSignal.any([options.signal, failure.signal]);
  const pool = options.pool ?? new IngestPool(Math.min(options.concurrency, availableParallelism()));
  const sharing = options.dedupe === 'all' || (options.dedupe === 'rebuilt' && options.rebuild !== undefined);
  const chosen = sharing ? chooseBases(store) : null;
  const layerPull = new LayerPull(store, source, pool, { ...options, bases: chosen?.bases, signal });
  const queue = [...tasks].sort((a, b) => b.descriptor.size - a.descriptor.size || a.position - b.position);
  /** Layers that somebody else is at: looked at again when nothing else is left to do. */
  const busy: LayerTask[] = [];
  let firstError: unknown;

  const work = async (): Promise<void> => {
    try {
      for (;;) {
        throwIfAborted(signal);
        const next = queue.shift();
        if (next !== undefined) {
          if (!(await layerPull.tryPull(next))) busy.push(next);
          continue;
        }
        const waited = busy.shift();
        if (waited === undefined) return;
        await layerPull.waitAndPull(waited);
      }
    } catch (error) {
      firstError ??= error;
      failure.abort(error);
    }
  };
  // Each worker ends by itself and cleans up behind it, so nothing runs on when this throws.
  await Promise.all(Array.from({ length: Math.min(options.concurrency, tasks.length) }, work));
  if (options.pool === undefined) await pool.close();
  chosen?.lease.release();
  throwIfAborted(options.signal);
  if (firstError !== undefined) throw firstError;
}

type LayerPullOptions = PullLayersOptions & { readonly bases: readonly BaseFile[] | undefined };

class LayerPull {
  readonly #store: Store;
  readonly #source: ImageSource;
  readonly #pool: IngestPool;
  readonly #options: LayerPullOptions;

  constructor(store: Store, source: ImageSource, pool: IngestPool, options: LayerPullOptions) {
    this.#store = store;
    this.#pool = pool;
    this.#source = source;
    this.#options = options;
  }

  /** False when another pull is at this layer. */
  async tryPull(task: LayerTask): Promise<boolean> {
    if (this.#exists(task)) return true;
    const lock = tryLockName(this.#lockPath(task));
    if (lock === null) return false;
    await this.#pullLocked(task, lock);
    return true;
  }

  async waitAndPull(task: LayerTask): Promise<void> {
    const lock = await waitForLock(() => tryLockName(this.#lockPath(task)), {
      signal: this.#options.signal,
      onWait: () =>
        this.#options.onProgress?.({
          type: 'note',
          id: task.diffId,
          message: `layer ${shortDigest(task.diffId)}: waiting for another pull that is at it`,
        }),
    });
    await this.#pullLocked(task, lock);
  }

  #lockPath(task: LayerTask): string {
    return join(this.#store.layout.locks, `layer-${digestHex(task.diffId)}`);
  }

  #exists(task: LayerTask): boolean {
    if (!hasLayer(this.#store, task.diffId)) return false;
    const id = task.diffId;
    this.#options.onProgress?.({ type: 'start', id, what: layerName(task), total: task.descriptor.size });
    this.#options.onProgress?.({ type: 'end', id, outcome: 'exists' });
    return true;
  }

  async #pullLocked(task: LayerTask, lock: Lock): Promise<void> {
    try {
      if (this.#exists(task)) return;
      const id = task.diffId;
      this.#options.onProgress?.({ type: 'start', id, what: layerName(task), total: task.descriptor.size });
      try {
        const ingested = await this.#fetch(task);
        for (const finding of ingested.findings) this.#options.onFinding?.(finding);
      } catch (error) {
        this.#options.onProgress?.({ type: 'end', id, outcome: 'failed' });
        throw error;
      }
      this.#options.onProgress?.({ type: 'end', id, outcome: 'done' });
    } finally {
      lock.release();
    }
  }

  async #fetch(task: LayerTask): Promise<IngestedLayer> {
    const { signal } = this.#options;
    const { descriptor } = task;
    const rebuilt = await this.#rebuild(task);
    if (rebuilt !== null) return rebuilt;
    if (this.#source.local) {
      const range = await this.#source.locateBlob(descriptor);
      const input = range ?? (await openLocalBlob(this.#source, descriptor, signal));
      return this.#ingest(task, input, descriptor);
    }
    for (;;) {
      const download = openDownload(this.#store, this.#source, descriptor, signal);
      let keep = false;
      try {
        return await this.#ingest(task, download.bytes, descriptor);
      } catch (error) {
        const wrong = isWrongContent(error);
        // A cut or a cancellation keeps what came; a full disk needs the room; wrong bytes are worth nothing.
        keep = !wrong && !isNoSpace(error);
        // What an earlier try left may be what is wrong: once more, from the first byte.
        if (wrong && download.resumed > 0) continue;
        throw error;
      } finally {
        await download.dispose(keep);
      }
    }
  }

  /** Null when the layer has to be fetched. */
  async #rebuild(task: LayerTask): Promise<IngestedLayer | null> {
    const { rebuild, signal, onFinding } = this.#options;
    const tar = rebuild?.(task.diffId, this.#options.bases ?? []) ?? null;
    if (tar === null) return null;
    try {
      return await this.#ingest(task, tar, null);
    } catch (error) {
      throwIfAborted(signal);
      if (this.#options.rebuildOnly || isNoSpace(error)) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      onFinding?.({
        code: 'store/not-rebuilt',
        message: `${layerName(task)} is fetched whole, it could not be rebuilt: ${reason}`,
      });
      return null;
    }
  }

  /** `blob`: what `input` is; null for a tar that was rebuilt here. */
  async #ingest(
    task: LayerTask,
    input: FileRange | TarStream,
    blob: Descriptor | null,
  ): Promise<IngestedLayer> {
    const { diffId } = task;
    const layer = await ingestNewLayer(this.#store, this.#pool, input, {
      id: diffId,
      blob: blob === null ? null : { digest: blob.digest, size: blob.size, mediaType: blob.mediaType },
      expectDiffId: diffId,
      bases: blob === null || this.#options.dedupe === 'all' ? this.#options.bases : undefined,
      alone: this.#options.alone,
      onProgress: this.#options.onProgress,
      signal: this.#options.signal,
    });
    await layer.publish();
    return layer.ingested;
  }
}

function layerName(task: LayerTask): string {
  return `layer ${shortDigest(task.diffId)}`;
}

const WRONG_CONTENT = /^(?:store\/mismatch|oci\/digest-mismatch|compress\/|tar\/|tree\/)/;

/** True when the bytes themselves were wrong: fetching the same again gives the same, unless it was the part that rotted. */
function isWrongContent(error: unknown): boolean {
  return error instanceof VeneerError && WRONG_CONTENT.test(error.code);
}
