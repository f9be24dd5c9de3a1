/** Merges chains in a thread of its own, which lives while there is work and a little longer. */
import { Worker } from 'node:worker_threads';
import { VeneerError } from '../errors.ts';
import { revivedError } from '../threads/plain-error.ts';
import { threadFile } from '../threads/thread-file.ts';
import { chainOf } from './chain-ids.ts';
import { hasChain } from './chain-records.ts';
import { NO_NEEDS, takeLease } from './leases.ts';
import type { MergeJob, MergeResult } from './merge-worker.ts';
import type { Store } from './store.ts';

/** An idle thread gives its memory back after so long. */
const IDLE_MS = 5000;

interface Waiting {
  /** Who does it. */
  readonly worker: Worker;
  readonly done: () => void;
  readonly failed: (error: Error) => void;
}

export class MergeThread {
  readonly #store: Store;
  readonly #waiting = new Map<number, Waiting>();
  #worker: Worker | null = null;
  #idle: NodeJS.Timeout | null = null;
  #next = 0;

  constructor(store: Store) {
    this.#store = store;
  }

  /** How many merges are under way, and have been asked for so far. */
  get load(): { readonly running: number; readonly asked: number } {
    return { running: this.#waiting.size, asked: this.#next };
  }

  /** Has the thread ready: its code is loaded when the first job comes. */
  start(): void {
    this.#worker ??= this.#start();
  }

  /**
   * Makes the merged image of a chain where it is missing; no sweep takes its layers meanwhile. Throws what
   * `ensureChain` throws.
   */
  async merge(diffIds: readonly string[]): Promise<void> {
    const chain = chainOf(diffIds);
    if (hasChain(this.#store, chain)) return;
    this.#store.prepare();
    const lease = takeLease(this.#store, 'merge', { ...NO_NEEDS, layers: diffIds, chains: [chain] });
    try {
      await this.#run(diffIds);
    } finally {
      lease.release();
    }
  }

  /** Some layers of a chain that will be merged are there: they are read while the others come. Only costs time. */
  readAhead(diffIds: readonly string[]): void {
    this.#awake().postMessage({ id: null, diffIds } satisfies MergeJob);
    this.#restLater();
  }

  async #run(diffIds: readonly string[]): Promise<void> {
    const worker = this.#awake();
    const id = this.#next++;
    try {
      await new Promise<void>((done, failed) => {
        this.#waiting.set(id, { worker, done, failed });
        worker.postMessage({ id, diffIds } satisfies MergeJob);
      });
    } finally {
      this.#waiting.delete(id);
      this.#restLater();
    }
  }

  #awake(): Worker {
    if (this.#idle !== null) clearTimeout(this.#idle);
    this.#idle = null;
    this.#worker ??= this.#start();
    return this.#worker;
  }

  #restLater(): void {
    if (this.#waiting.size === 0) this.#idle = setTimeout(() => void this.#stop(), IDLE_MS).unref();
  }

  /** Ends the thread; what it was at is left unfinished in tmp/. */
  async close(): Promise<void> {
    await this.#stop();
  }

  #start(): Worker {
    const { layout, fsync } = this.#store;
    const worker = new Worker(threadFile(import.meta.url, 'merge-worker'), {
      workerData: { root: layout.root, fsync },
    });
    worker.on('message', ({ id, error }: MergeResult) => {
      const waiting = this.#waiting.get(id);
      if (error === null) waiting?.done();
      else waiting?.failed(revivedError(error));
    });
    const fail = (cause: unknown): void => {
      if (this.#worker === worker) this.#worker = null;
      const reason = cause instanceof Error ? cause.message : `exit code ${cause}`;
      const error = new VeneerError(
        'io/failed',
        `Cannot merge layers: the thread that did it ended: ${reason}`,
      );
      // An idle one ends a moment after it was told to, and others may wait for its successor by then.
      for (const waiting of this.#waiting.values()) if (waiting.worker === worker) waiting.failed(error);
    };
    worker.on('error', fail);
    worker.on('exit', fail);
    worker.unref();
    return worker;
  }

  async #stop(): Promise<void> {
    const worker = this.#worker;
    this.#worker = null;
    if (this.#idle !== null) clearTimeout(this.#idle);
    this.#idle = null;
    await worker?.terminate();
  }
}
