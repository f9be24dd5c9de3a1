/**
 * The thread that ingests layers: one message on its port starts a job, and the
 * job's own port carries input, progress and the result (see ingest-pool.ts).
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { type MessagePort, parentPort } from 'node:worker_threads';
import { type OriginNumbers, Origins } from '../dedupe/index.ts';
import { VeneerError } from '../errors.ts';
import type { FileRange } from '../oci/source.ts';
import type { OnProgress } from '../progress/events.ts';
import { type PlainError, plainError, revivedError } from '../threads/plain-error.ts';
import { type BaseFile, BaseFiles } from './base-files.ts';
import { type IngestedLayer, type IngestOptions, ingestLayer } from './ingest.ts';
import { storeError } from './io-errors.ts';
import type { KnownTar } from './layer-sink.ts';

/** What can be sent to a thread. */
export type PlainIngestOptions = Omit<IngestOptions, 'onProgress' | 'bases' | 'known'> & {
  readonly bases?: readonly BaseFile[] | undefined;
  /** See `KnownTar`; the rest of it comes with the chunks. */
  readonly covered?: readonly number[] | undefined;
};

export interface IngestJob {
  readonly dir: string;
  readonly options: PlainIngestOptions;
  /** Where the blob stands; null: it comes over the port. */
  readonly range: BlobFile | null;
  /** Element 0 becomes 1 when the job is cancelled: a thread that reads and inflates sees no messages. */
  readonly cancelled: Int32Array;
  readonly port: MessagePort;
}

/** The bytes of a blob in a file. */
export interface BlobFile extends FileRange {
  /** Somebody is still writing them: what is not there yet is waited for. */
  readonly grows?: boolean;
}

/** From the pool: the next piece of the blob, its end, or why there is no more. */
export type InputMessage =
  | { readonly type: 'chunk'; readonly bytes: Uint8Array; readonly origins: OriginNumbers | null }
  | { readonly type: 'end'; readonly diffId: string }
  | { readonly type: 'broken'; readonly error: PlainError };

/** To the pool. `taken`: one chunk was used up. */
export type OutputMessage =
  | { readonly type: 'taken' }
  | { readonly type: 'advance'; readonly done: number }
  | { readonly type: 'done'; readonly layer: IngestedLayer }
  | { readonly type: 'failed'; readonly error: PlainError };

/** Bytes of one read: enough for a piece that is inflated ahead. */
const READ_BYTES = 1 << 20;
/** Progress is told in steps of so many bytes: every message wakes the other thread. */
const PROGRESS_STEP = 1 << 22;
/** A file that grows is looked at every so many milliseconds, */
const LOOK = 10;
/** and given up when the next piece takes longer than so many: a thread, and memory, would wait for a very slow network. */
const STALLED = 10_000;

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
  const { bases: files, covered, ...options } = job.options;
  const bases = files === undefined ? null : takeBases(files);
  try {
    const known = covered === undefined ? undefined : { origins: new Origins(), covered, diffId: '' };
    const input = job.range === null ? receiveChunks(port, known) : readRange(job.range, job.cancelled);
    const layer = await ingestLayer(input, job.dir, { ...options, bases: bases?.files, known, onProgress });
    send({ type: 'done', layer });
  } catch (error) {
    send({ type: 'failed', error: plainError(error) });
  } finally {
    bases?.release();
    port.close();
  }
}

/** Base files of jobs that run, and of the last one: mostly the next job has the same, and their index is large. */
const held = new Map<string, { files: BaseFiles; users: number }>();

function takeBases(files: readonly BaseFile[]): { files: BaseFiles; release(): void } {
  const key = files.map(({ path }) => path).join('\n');
  const entry = held.get(key) ?? { files: new BaseFiles(files), users: 0 };
  held.set(key, entry);
  entry.users++;
  for (const [other, { files, users }] of held) {
    if (other === key || users > 0) continue;
    files.close();
    held.delete(other);
  }
  return {
    files: entry.files,
    release() {
      entry.users--;
    },
  };
}

/** The blob from a file, always through the same buffer: each piece is good until the next is asked for. */
async function* readRange(range: BlobFile, cancelled: Int32Array): AsyncGenerator<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  let fd = -1;
  try {
    fd = openSync(range.path, 'r');
    for (let done = 0; done < range.length; ) {
      const wanted = Math.min(READ_BYTES, range.length - done);
      if (range.grows) await untilWritten(fd, range, done + wanted, cancelled);
      if (Atomics.load(cancelled, 0) !== 0)
        throw new VeneerError('io/cancelled', `Cannot go on with ${range.path}: cancelled`);
      const count = readSync(fd, buffer, 0, wanted, range.offset + done);
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

/** Waits for the first `count` bytes of the range, or for the end of the job. */
async function untilWritten(
  fd: number,
  { path, offset }: BlobFile,
  count: number,
  cancelled: Int32Array,
): Promise<void> {
  for (const since = performance.now(); Atomics.load(cancelled, 0) === 0; await delay(LOOK)) {
    const { size, nlink } = fstatSync(fd);
    if (nlink === 0)
      throw new VeneerError('io/failed', `Cannot read ${path}: it was removed as it was written`);
    if (size >= offset + count) return;
    if (performance.now() - since > STALLED)
      throw new VeneerError('io/failed', `Cannot read ${path}: too little comes`);
  }
}

/** The blob as the pool sends it; what is known of each chunk is told first. */
async function* receiveChunks(port: MessagePort, known: KnownTar | undefined): AsyncGenerator<Buffer> {
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
      if (message.origins !== null) known?.origins.add(message.origins);
      yield Buffer.from(buffer, byteOffset, byteLength);
      port.postMessage({ type: 'taken' } satisfies OutputMessage);
    } else if (message.type === 'broken') {
      throw revivedError(message.error);
    } else {
      if (known !== undefined) known.diffId = message.diffId;
      return;
    }
  }
}
