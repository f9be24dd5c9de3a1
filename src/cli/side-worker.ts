/** A thread that makes layer images beside the main one (see side-by-side.ts). */
import { parentPort, workerData } from 'node:worker_threads';
import { plainError } from '../threads/plain-error.ts';
import { type SideMessage, type SideWork, takeJobs } from './side-by-side.ts';

const cancellation = new AbortController();
const port = parentPort!;
const send = (message: SideMessage): void => port.postMessage(message);

port.once('message', () => cancellation.abort());
void takeJobs(workerData as SideWork, cancellation.signal, {
  onProgress: (event) => send({ type: 'progress', event }),
  onDone: (index, made) => send({ type: 'done', index, made }),
  onFailed: (index, error) => send({ type: 'failed', index, error: plainError(error) }),
}).then(() => port.close());
