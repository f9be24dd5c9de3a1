/**
 * The thread that ingests layers: one message on its port starts a job, and the
 * job's own port carries input, progress and the result (see ingest-pool.ts).
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { type MessagePort, parentPort } from 'node:worker_threads';
import { VeneerError } from '../errors.ts';
import type { FileRange } from '../oci/source.ts';
import type { OnProgress } from '../progress/events.ts';
import { type IngestedLayer, type IngestOptions, ingestLayer } from './ingest.ts';
import { storeError } from './io-errors.ts';
import { type PlainError, plainError, revivedError } from './plain-error.ts';

export interface IngestJob {
  readonly dir: string;
  readonly options: Omit<IngestOptions, 'onProgress'>;
  /** Where the blob stands; null: it comes over the port. */
  readonly range: FileRange | null;
  /** Element 0 becomes 1 when the job is cancelled: a thread that reads and inflates sees no messages. */
  readonly cancelled: Int32Array;
  readonly port: MessagePort;
}

/** From the pool: the next piece of the blob, its end, or why there is no more. */
export type InputMessage =
  | { readonly type: 'chunk'; readonly bytes: Uint8Array }
  | { readonly type: 'end' }
  | { readonly type: 'broken'; readonly error: PlainError };

/** To the pool. `taken`: one chunk was used up. */
export type OutputMessage =
  | { readonly type: 'taken' }
  | { readonly type: 'advance'; readonly done: number }
  | { readonly type: 'done'; readonly layer: IngestedLayer }
  | { readonly type: 'failed'; readonly error: PlainError };

/** Bytes of one read. */
const READ_BYTES = 1 << 18;
/** Progress is told in steps of so many bytes: every message wakes the other thread. */
const PROGRESS_STEP = 1 << 22;

parentPort?.on('message', (job: IngestJob) => {
  void runJob(job);
});

async function runJob(job: IngestJob): Promise<void> {
  const { port } = job;
  const send = (message: OutputMessage): void => port.postMessage(message);
  let told = 0;
  const onProgress: OnProgress = (event) => {
    if (event.type !== 'advance' || event.done < told + PROGRESS_STEP) return;
    told = event.done;
    send({ type: 'advance', done: told });
  };
  try {
    const input = job.range === null ? receiveChunks(port) : readRange(job.range, job.cancelled);
    send({ type: 'done', layer: await ingestLayer(input, job.dir, { ...job.options, onProgress }) });
  } catch (error) {
    send({ type: 'failed', error: plainError(error) });
  } finally {
    port.close();
  }
}

/** The blob from a file, always through the same buffer: each piece is good until the next is asked for. */
async function* readRange(range: FileRange, cancelled: Int32Array): AsyncGenerator<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  let fd = -1;
  try {
    fd = openSync(range.path, 'r');
    for (let done = 0; done < range.length; ) {
      if (Atomics.load(cancelled, 0) !== 0)
        throw new VeneerError('io/cancelled', `Cannot go on with ${range.path}: cancelled`);
      const count = readSync(fd, buffer, 0, Math.min(READ_BYTES, range.length - done), range.offset + done);
      if (count === 0)
        throw new VeneerError(
          'io/failed',
          `Cannot read ${range.path} at ${range.offset + done}: the file ends there`,
        );
      done += count;
      yield buffer.subarray(0, count);
    }
  } catch (error) {
    throw storeError(`read ${range.path}`, error);
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}

/** The blob as the pool sends it. */
async function* receiveChunks(port: MessagePort): AsyncGenerator<Buffer> {
  const waiting: InputMessage[] = [];
  let wake: (() => void) | null = null;
  port.on('message', (message: InputMessage) => {
    waiting.push(message);
    wake?.();
  });
  for (;;) {
    const message = waiting.shift();
    if (message === undefined) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
      wake = null;
    } else if (message.type === 'chunk') {
      const { buffer, byteOffset, byteLength } = message.bytes;
      yield Buffer.from(buffer, byteOffset, byteLength);
      port.postMessage({ type: 'taken' } satisfies OutputMessage);
    } else if (message.type === 'broken') {
      throw revivedError(message.error);
    } else {
      return;
    }
  }
}
