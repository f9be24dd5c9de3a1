/** Work for several threads, a thread a core: each gets the next piece as soon as it has done one. */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { VeneerError } from '../errors.ts';
import { revivedError } from './plain-error.ts';
import type { ThreadReply } from './serve-thread.ts';

/** More threads get in each other's way: they look up names in one file system. */
const MAX_THREADS = 8;
/** Pieces on their way to one thread, so that it never waits for the next. */
const AHEAD = 2;

export interface ThreadWork<P, R> {
  /** Of a module that calls `serveThread`. */
  readonly code: URL;
  /** Default: one a core. */
  readonly threads?: number;
  /** Pieces on their way to one thread at most. */
  readonly ahead?: number;
  /** Its `workerData`. */
  readonly data: unknown;
  /** The next piece, or null. What it throws ends the work. */
  readonly next: () => P | null;
  /** What a thread is told of a piece. */
  readonly messageOf: (piece: P) => unknown;
  readonly onDone: (piece: P, result: R) => void;
  /** Told once, when something has failed and the pieces that are under way are in vain. */
  readonly onFail?: () => void;
}

/** All threads have ended when it returns, or throws the first error. */
export async function runInThreads<P, R>(work: ThreadWork<P, R>): Promise<void> {
  const threads = work.threads ?? Math.min(MAX_THREADS, Math.max(2, availableParallelism()));
  const stop = { error: undefined as unknown, failed: false };
  await Promise.all(Array.from({ length: threads }, () => runThread(work, stop)));
  if (stop.failed) throw stop.error;
}

/** Feeds one thread until there is no more, or another one has failed; resolves when it has ended. */
async function runThread<P, R>(
  { code, data, ahead = AHEAD, next, messageOf, onDone, onFail }: ThreadWork<P, R>,
  stop: { error: unknown; failed: boolean },
): Promise<void> {
  const fail = (error: unknown): void => {
    if (stop.failed) return;
    stop.error = error;
    stop.failed = true;
    onFail?.();
  };
  let worker: Worker;
  try {
    // Most files are opened by calls that Node does not see.
    worker = new Worker(code, { workerData: data, trackUnmanagedFds: false });
  } catch (error) {
    fail(error);
    return;
  }
  const sent: P[] = [];
  let ended = false;
  const attempt = (step: () => void): void => {
    try {
      step();
    } catch (error) {
      fail(error);
    }
  };
  const feed = (): void => {
    while (!ended && !stop.failed && sent.length < ahead) {
      const piece = next();
      if (piece === null) break;
      sent.push(piece);
      worker.postMessage(messageOf(piece));
    }
  };
  const settle = (): void => {
    attempt(feed);
    if (sent.length > 0 || ended) return;
    ended = true;
    worker.postMessage(null);
  };
  await new Promise<void>((resolve) => {
    worker.on('message', (reply: ThreadReply<R>) => {
      const piece = sent.shift()!;
      if (reply.type === 'failed') fail(revivedError(reply.error));
      else if (!stop.failed) attempt(() => onDone(piece, reply.result));
      settle();
    });
    // A thread that dies by itself has run out of memory, or has a bug.
    worker.on('error', fail);
    worker.on('exit', () => {
      if (sent.length > 0)
        fail(new VeneerError('io/failed', 'Cannot go on: a thread ended in the middle of its work'));
      resolve();
    });
    settle();
  });
}
