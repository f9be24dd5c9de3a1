/**
 * Several layers at once, one a core. Everybody, this thread too, takes the next largest input from a counter in
 * shared memory, so nobody waits for anybody.
 */
import { statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { VeneerError } from '../errors.ts';
import type { OnProgress } from '../progress/events.ts';
import { type PlainError, revivedError } from '../threads/plain-error.ts';
import { threadFile } from '../threads/thread-file.ts';
import { type LayerImage, type LayerJob, makeLayerImage } from './layer-image.ts';
import { removeUnfinished } from './output-file.ts';

/** Every thread holds the tree of its layer: more threads, more memory. */
const MAX_THREADS = 4;
/** Starting a thread takes about as long as indexing a tar of so many bytes. */
const WORTH_A_THREAD = 64 << 20;

const MORE_MEMORY = 'let Node have more, with NODE_OPTIONS=--max-old-space-size=8192 for 8 GB in each thread';

/** Elements of the shared counter. */
const NEXT = 0;
const STOP = 1;

/** What a thread is started with. */
export interface SideWork {
  readonly jobs: readonly LayerJob[];
  /** Indexes into `jobs` in the order in which they are taken. */
  readonly order: readonly number[];
  readonly shared: Int32Array;
}

/** What a thread says. */
export type SideMessage =
  | { readonly type: 'progress'; readonly event: Parameters<OnProgress>[0] }
  | { readonly type: 'done'; readonly index: number; readonly made: LayerImage }
  | { readonly type: 'failed'; readonly index: number; readonly error: PlainError };

export interface SideBySideOptions {
  readonly signal: AbortSignal;
  readonly onProgress: OnProgress;
  /** Called in the order of the jobs. */
  readonly onDone: (made: LayerImage, job: LayerJob) => void;
}

/**
 * Makes all images. When one fails no other is begun; those that were made meanwhile stay, and then the failure of
 * the first of the jobs that failed is thrown.
 */
export async function sideBySide(jobs: readonly LayerJob[], options: SideBySideOptions): Promise<void> {
  const results = new Results(jobs, options);
  const sizes = jobs.map(({ input }) => sizeOf(input));
  const order = [...jobs.keys()].sort((a, b) => sizes[b]! - sizes[a]! || a - b);
  const shared = new Int32Array(new SharedArrayBuffer(8));
  const work: SideWork = { jobs, order, shared };
  const largest = sizes[order[0]!] ?? 0;
  const others = sizes.reduce((sum, size) => sum + size, 0) - largest;
  const wanted = Math.min(Math.floor(others / WORTH_A_THREAD), jobs.length - 1, MAX_THREADS - 1);
  const threads: Promise<void>[] = [];
  for (let i = 0; i < Math.min(wanted, availableParallelism() - 1); i++) {
    const worker = startThread(work);
    if (worker === null) break;
    threads.push(runThread(worker, work, results, options));
  }
  await takeJobs(work, options.signal, {
    onProgress: options.onProgress,
    onDone: (index, made) => results.add(index, made),
    onFailed: (index, error) => results.fail(index, error),
  });
  await Promise.all(threads);
  // Where a thread died, its file is still there; of what was made or discarded nothing is found.
  if (results.died) for (const { image, mark } of jobs) removeUnfinished(image, mark);
  results.finish();
}

/** 0 for what cannot be looked at: whoever opens it says why. */
function sizeOf(path: string): number {
  try {
    return statSync(path).size;
  } catch {
    return 0;
  }
}

/** Takes jobs until there are none, or somebody failed. Never throws. */
export async function takeJobs(
  { jobs, order, shared }: SideWork,
  signal: AbortSignal,
  on: {
    readonly onProgress: OnProgress;
    readonly onDone: (index: number, made: LayerImage) => void;
    readonly onFailed: (index: number, error: unknown) => void;
  },
): Promise<void> {
  while (Atomics.load(shared, STOP) === 0) {
    const index = order[Atomics.add(shared, NEXT, 1)];
    if (index === undefined) return;
    try {
      on.onDone(index, await makeLayerImage(jobs[index]!, signal, on.onProgress));
    } catch (error) {
      Atomics.store(shared, STOP, 1);
      on.onFailed(index, error);
    }
  }
}

/** Null when there can be no more threads (`ulimit -u`, a container's limit): then those that are there do the work. */
function startThread(work: SideWork): Worker | null {
  try {
    return new Worker(threadFile(import.meta.url, 'side-worker'), { workerData: work });
  } catch {
    return null;
  }
}

/** Resolves when the thread has ended. */
function runThread(
  worker: Worker,
  work: SideWork,
  results: Results,
  { signal, onProgress }: SideBySideOptions,
): Promise<void> {
  const cancel = (): void => worker.postMessage('cancel');
  signal.addEventListener('abort', cancel, { once: true });
  return new Promise<void>((resolve) => {
    worker.on('message', (message: SideMessage) => {
      if (message.type === 'progress') onProgress(message.event);
      else if (message.type === 'done') results.add(message.index, message.made);
      else results.fail(message.index, revivedError(message.error));
    });
    worker.on('error', (cause: NodeJS.ErrnoException) => {
      Atomics.store(work.shared, STOP, 1);
      results.died = true;
      const hint = cause.code === 'ERR_WORKER_OUT_OF_MEMORY' ? { hint: MORE_MEMORY } : {};
      const message = `Cannot go on: a thread ended: ${cause.message}`;
      results.fail(work.jobs.length, new VeneerError('io/failed', message, { cause, ...hint }));
    });
    worker.on('exit', () => {
      signal.removeEventListener('abort', cancel);
      resolve();
    });
  });
}

/** What came so far, told in the order of the jobs. */
class Results {
  readonly #jobs: readonly LayerJob[];
  readonly #onDone: SideBySideOptions['onDone'];
  readonly #made = new Map<number, LayerImage>();
  /** A thread ended in the middle of its work. */
  died = false;
  #told = 0;
  #failure: { readonly index: number; readonly error: unknown } | null = null;

  constructor(jobs: readonly LayerJob[], { onDone }: SideBySideOptions) {
    this.#jobs = jobs;
    this.#onDone = onDone;
  }

  add(index: number, made: LayerImage): void {
    this.#made.set(index, made);
    while (this.#made.has(this.#told)) this.#tell(this.#told++);
  }

  fail(index: number, error: unknown): void {
    if (this.#failure === null || index < this.#failure.index) this.#failure = { index, error };
  }

  finish(): void {
    for (const index of [...this.#made.keys()].sort((a, b) => a - b)) this.#tell(index);
    if (this.#failure !== null) throw this.#failure.error;
  }

  #tell(index: number): void {
    const made = this.#made.get(index)!;
    this.#made.delete(index);
    this.#onDone(made, this.#jobs[index]!);
  }
}
