/** The layers of a pull: side by side, each under its own lock, each published when it is verified. */
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { type Finding, VeneerError } from '../errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { FileRange, ImageSource } from '../oci/source.ts';
import type { OnProgress } from '../progress/events.ts';
import { discard, publishDirectory, writeNewFile } from './atomic.ts';
import { openDownload, openLocalBlob } from './downloads.ts';
import type { IngestedLayer } from './ingest.ts';
import { IngestPool } from './ingest-pool.ts';
import { isNoSpace, storeError } from './io-errors.ts';
import { hasLayer } from './layers.ts';
import { digestHex, LAYER_FACTS, LAYER_IMAGE, LAYER_TAR, shortDigest } from './layout.ts';
import { type Lock, throwIfAborted, tryLockName, waitForLock } from './locks.ts';
import { type LayerRecord, recordText } from './records.ts';
import type { Store } from './store.ts';

/** One layer to have. */
export interface LayerTask {
  readonly diffId: string;
  /** First position in the image, from 0. */
  readonly position: number;
  readonly descriptor: Descriptor;
}

export interface PullLayersOptions {
  readonly concurrency: number;
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
  const pool = new IngestPool(Math.min(options.concurrency, availableParallelism()));
  const layerPull = new LayerPull(store, source, pool, { ...options, signal });
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
  await pool.close();
  throwIfAborted(options.signal);
  if (firstError !== undefined) throw firstError;
}

class LayerPull {
  readonly #store: Store;
  readonly #source: ImageSource;
  readonly #pool: IngestPool;
  readonly #options: PullLayersOptions;

  constructor(store: Store, source: ImageSource, pool: IngestPool, options: PullLayersOptions) {
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
    if (this.#source.local) {
      const range = await this.#source.locateBlob(descriptor);
      return this.#ingest(task, range ?? (await openLocalBlob(this.#source, descriptor, signal)));
    }
    for (;;) {
      const download = openDownload(this.#store, this.#source, descriptor, signal);
      let keep = false;
      try {
        return await this.#ingest(task, download.bytes);
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

  /**
   * Ingests into a directory of our own and publishes it. A crash leaves the directory without its final name,
   * inside a work directory whose lock is free then; the next pull sweeps it and starts this layer again.
   */
  async #ingest(task: LayerTask, input: FileRange | AsyncIterable<Buffer>): Promise<IngestedLayer> {
    const store = this.#store;
    const { diffId, descriptor } = task;
    const dir = join(store.work(), `layer-${randomBytes(9).toString('hex')}`);
    try {
      mkdirSync(dir, { mode: 0o700 });
      const ingested = await this.#pool.ingest(input, dir, {
        expectBlob: { digest: descriptor.digest, size: descriptor.size },
        expectDiffId: diffId,
        fsync: store.fsync,
        id: diffId,
        onProgress: this.#options.onProgress,
        signal: this.#options.signal,
      });
      throwIfAborted(this.#options.signal);
      const record: LayerRecord = {
        version: 1,
        diffId,
        tarSize: ingested.tarSize,
        entries: ingested.entries,
        blob: { digest: descriptor.digest, size: descriptor.size, mediaType: descriptor.mediaType },
        needsChain: ingested.needsChain,
        namesRoot: ingested.namesRoot,
        opaqueRoot: ingested.opaqueRoot,
        usesTar: ingested.usesTar,
        image: ingested.image,
      };
      await writeNewFile(join(dir, LAYER_FACTS), recordText(record), { fsync: store.fsync });
      const files = [LAYER_TAR, LAYER_IMAGE, LAYER_FACTS];
      const published = await publishDirectory(dir, store.layout.layer(diffId), {
        fsync: store.fsync,
        files,
      });
      if (!published) await discard(dir);
      return ingested;
    } catch (error) {
      await discard(dir);
      throw storeError(`store layer ${diffId}`, error);
    }
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
