/** The other end of a thread of `runInThreads`. */
import { parentPort } from 'node:worker_threads';
import { type PlainError, plainError } from './plain-error.ts';

/** From the thread, one for each piece of work, in their order. */
export type ThreadReply<R> =
  | { readonly type: 'done'; readonly result: R }
  | { readonly type: 'failed'; readonly error: PlainError };

/** Does `work` with each message, and `close` when there are no more. Work that waits is for threads with one piece at a time. */
export function serveThread<M, R>(work: (message: M) => R | Promise<R>, close: () => void = () => {}): void {
  const attempt = async (message: M): Promise<ThreadReply<R>> => {
    try {
      return { type: 'done', result: await work(message) };
    } catch (error) {
      return { type: 'failed', error: plainError(error) };
    }
  };
  parentPort!.on('message', async (message: M | null) => {
    if (message !== null) {
      parentPort!.postMessage(await attempt(message));
      return;
    }
    close();
    parentPort!.close();
  });
}
