/**
 * Ingests layers side by side, one thread a core: inflating, hashing and scanning
 * are work for the processor, and the thread that asks stays free for the network.
 */
import { MessageChannel, Worker } from 'node:worker_threads';
import type { OriginNumbers } from '../dedupe/index.ts';
import { VeneerError } from '../errors.ts';
import { plainError, revivedError } from '../threads/plain-error.ts';
import { threadFile } from '../threads/thread-file.ts';
import type { IngestedLayer, IngestOptions } from './ingest.ts';
import type {
  BlobFile,
  IngestJob,
  InputMessage,
  OutputMessage,
  PlainIngestOptions,
} from './ingest-worker.ts';
import { throwIfAborted } from './locks.ts';

/** So many chunks of a stream are on their way to a thread at most. */
export const CHUNKS_AHEAD = 8;
/** Most of what a thread allocates is its layer's tree, which lives until the end: a small nursery is enough. */
const NURSERY_MB = 8;

/** Bytes of a blob, or of a tar that is made here. */
export interface TarStream extends AsyncIterable<Buffer> {
  /** What is known of such a tar, see `KnownTar`. */
  readonly known?: {
    readonly covered: readonly number[];
    /** Origins that became known since it was last asked; asked behind every piece. */
    takeOrigins(): OriginNumbers;
    /** Digest of all pieces; asked behind the last. */
    diffId(): string;
  };
}

interface Thread {
  readonly worker: Worker;
  /** Bytes of blobs that it has still to do, for choosing the next one. */
  load: number;
  /** Ends all its jobs when the thread dies. */
  readonly jobs: Set<(error: Error) => void>;
}

export class IngestPool {
  readonly #threads: Thread[] = [];
  readonly #size: number;
  readonly #restAfter: number | null;
  #rest: NodeJS.Timeout | null = null;

  /** At most `size` threads; each starts with its first job. `restAfter`: they end when idle for so many milliseconds. */
  constructor(size: number, options: { readonly restAfter?: number } = {}) {
    this.#size = Math.max(1, size);
    this.#restAfter = options.restAfter ?? null;
  }

  /** Has so many threads ready, all by default: their code is loaded when the first job comes. */
  start(count = this.#size): void {
    while (this.#threads.length < Math.min(count, this.#size)) this.#startThread();
  }

  /**
   * As {@link ingestLayer}, in a thread. A file is read there; a stream is sent over.
   * Throws what ingesting throws, `io/cancelled` when `signal` fires.
   */
  async ingest(
    input: BlobFile | TarStream,
    dir: string,
    options: PlainIngestOptions &
      Pick<IngestOptions, 'onProgress'> & { readonly signal?: AbortSignal | undefined },
  ): Promise<IngestedLayer> {
    const { onProgress, signal, ...plain } = options;
    throwIfAborted(signal);
    const stream = Symbol.asyncIterator in input ? input : null;
    const bytes = plain.expectBlob?.size ?? 0;
    if (this.#rest !== null) clearTimeout(this.#rest);
    const thread = this.#pickThread();
    const { port1: port, port2 } = new MessageChannel();
    const cancelled = new Int32Array(new SharedArrayBuffer(4));
    const cancel = (): void => {
      Atomics.store(cancelled, 0, 1);
    };
    signal?.addEventListener('abort', cancel, { once: true });
    thread.load += bytes;
    const feeder = stream === null ? null : new Feeder(stream, port, signal);
    try {
      return await new Promise<IngestedLayer>((resolve, reject) => {
        thread.jobs.add(reject);
        port.on('message', (message: OutputMessage) => {
          if (message.type === 'taken') feeder?.taken();
          else if (message.type === 'advance')
            onProgress?.({ type: 'advance', id: plain.id, done: message.done });
          else {
            thread.jobs.delete(reject);
            if (message.type === 'done') {
              onProgress?.({ type: 'advance', id: plain.id, done: message.layer.blobSize });
              resolve(message.layer);
            } else reject(feeder?.error ?? revivedError(message.error));
          }
        });
        const job: IngestJob = {
          dir,
          options: { ...plain, covered: stream?.known?.covered },
          range: stream === null ? (input as BlobFile) : null,
          cancelled,
          port: port2,
        };
        thread.worker.postMessage(job, [port2]);
        feeder?.start();
      });
    } finally {
      signal?.removeEventListener('abort', cancel);
      feeder?.stop();
      thread.load -= bytes;
      port.close();
      this.#restLater();
    }
  }

  /** Ends the threads; call it when no job is running. */
  async close(): Promise<void> {
    await Promise.all(this.#threads.splice(0).map(({ worker }) => worker.terminate()));
  }

  #restLater(): void {
    if (this.#restAfter === null || this.#threads.some(({ jobs }) => jobs.size > 0)) return;
    if (this.#rest !== null) clearTimeout(this.#rest);
    this.#rest = setTimeout(() => void this.close(), this.#restAfter).unref();
  }

  /** The thread with the least to do, or a new one while there may be more. */
  #pickThread(): Thread {
    const idle = this.#threads.find((thread) => thread.jobs.size === 0);
    if (idle !== undefined) return idle;
    if (this.#threads.length < this.#size) return this.#startThread();
    return this.#threads.reduce((least, thread) => (thread.load < least.load ? thread : least));
  }

  #startThread(): Thread {
    const worker = new Worker(threadFile(import.meta.url, 'ingest-worker'), {
      resourceLimits: { maxYoungGenerationSizeMb: NURSERY_MB },
    });
    const thread: Thread = { worker, load: 0, jobs: new Set() };
    const fail = (error: unknown): void => {
      const at = this.#threads.indexOf(thread);
      if (at >= 0) this.#threads.splice(at, 1);
      const reason = error instanceof Error ? error.message : `exit code ${error}`;
      for (const reject of thread.jobs) {
        reject(
          new VeneerError('io/failed', `Cannot ingest layer: the thread that did it ended: ${reason}`, {
            cause: error,
          }),
        );
      }
      thread.jobs.clear();
    };
    worker.on('error', fail);
    worker.on('exit', fail);
    this.#threads.push(thread);
    return thread;
  }
}

/**
 * Sends a stream to a job, never more than {@link CHUNKS_AHEAD} chunks ahead. Chunks are copied, for whoever made one may
 * be writing it anew; not those in memory that both threads see, which are good until as many more are asked for.
 */
class Feeder {
  readonly #chunks: AsyncIterator<Buffer>;
  readonly #known: TarStream['known'];
  readonly #port: MessageChannel['port1'];
  readonly #signal: AbortSignal | undefined;
  #ahead = 0;
  #stopped = false;
  #wake: (() => void) | null = null;
  /** What the stream threw: the caller gets it as it was. */
  error: unknown;

  constructor(stream: TarStream, port: MessageChannel['port1'], signal: AbortSignal | undefined) {
    this.#chunks = stream[Symbol.asyncIterator]();
    this.#known = stream.known;
    this.#port = port;
    this.#signal = signal;
  }

  start(): void {
    void this.#run();
  }

  taken(): void {
    this.#ahead--;
    this.#wake?.();
  }

  /** Lets go of the stream as soon as it answers; nobody waits for that, for a silent one never does. */
  stop(): void {
    this.#stopped = true;
    this.#wake?.();
  }

  async #run(): Promise<void> {
    try {
      for (;;) {
        while (this.#ahead >= CHUNKS_AHEAD && !this.#stopped) {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
        }
        if (this.#stopped) break;
        const next = await this.#chunks.next();
        if (this.#stopped) break;
        // Not every stream knows of the signal: what is put together here does not.
        throwIfAborted(this.#signal);
        if (next.done) {
          this.#send({ type: 'end', diffId: this.#known?.diffId() ?? '' });
          return;
        }
        const isShared = next.value.buffer instanceof SharedArrayBuffer;
        const bytes = isShared ? next.value : new Uint8Array(next.value);
        this.#ahead++;
        this.#send(
          { type: 'chunk', bytes, origins: this.#known?.takeOrigins() ?? null },
          isShared ? [] : [bytes.buffer as ArrayBuffer],
        );
      }
    } catch (error) {
      this.error = error;
      if (!this.#stopped) this.#send({ type: 'broken', error: plainError(error) });
    }
    // Whatever it throws now: nobody wants anything of it any more.
    await this.#chunks.return?.().catch(() => {});
  }

  #send(message: InputMessage, transfer: ArrayBuffer[] = []): void {
    this.#port.postMessage(message, transfer);
  }
}
