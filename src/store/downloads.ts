/**
 * Blobs from far away, resumable.
 *
 * What arrives goes to the consumer at once and, beside it, into tmp/downloads/HEX.part. After a crash or a cut
 * the next try reads the part first and asks the source for the rest. Nothing here is trusted: the consumer hashes
 * all bytes, those of the part too, because a machine crash may have left holes in it.
 */
import {
  closeSync,
  constants,
  createReadStream,
  fstatSync,
  ftruncateSync,
  openSync,
  rmSync,
  statSync,
  write,
} from 'node:fs';
import { promisify } from 'node:util';
import { VeneerError } from '../errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { ImageSource } from '../oci/source.ts';
import { flock } from '../sys/flock.ts';
import { isMissing, storeError } from './io-errors.ts';
import { throwIfAborted } from './locks.ts';
import type { Store } from './store.ts';

const writeAsync = promisify(write);

const READ_CHUNK = 1 << 18;

/** A download in progress; `dispose` it in the end, whatever happened. */
export interface Download {
  /** The blob from its first byte on, never more than its size. */
  readonly bytes: AsyncIterable<Buffer>;
  /** Bytes that an earlier try had left. */
  readonly resumed: number;
  /** Closes the part; `keep` leaves it for the next try. What comes of `bytes` after that is not kept. */
  dispose(keep: boolean): Promise<void>;
}

/** Yields `input` and ends with `io/cancelled` as soon as the signal fires, even while the source is silent. */
export async function* abortable(
  input: AsyncIterable<Buffer>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  throwIfAborted(signal);
  const iterator = input[Symbol.asyncIterator]();
  let stop: (() => void) | undefined;
  const stopped = new Promise<'stopped'>((resolve) => {
    stop = () => resolve('stopped');
    signal?.addEventListener('abort', stop, { once: true });
  });
  let ended = false;
  try {
    for (;;) {
      const next = await Promise.race([iterator.next(), stopped]);
      if (next === 'stopped') throwIfAborted(signal);
      else if (next.done === true) {
        ended = true;
        return;
      } else yield next.value;
    }
  } finally {
    if (stop !== undefined) signal?.removeEventListener('abort', stop);
    // Not awaited: a generator that waits for the network would only answer when its wait is over.
    if (!ended) void iterator.return?.()?.then(undefined, () => undefined);
  }
}

/** Passes `input` on and throws as soon as it is longer than `size`, so that nobody stores an endless answer. */
async function* limited(input: AsyncIterable<Buffer>, size: number, digest: string): AsyncGenerator<Buffer> {
  let seen = 0;
  for await (const chunk of input) {
    seen += chunk.length;
    if (seen > size) {
      throw new VeneerError(
        'store/mismatch',
        `Cannot use blob ${digest}: more than the ${size} bytes of its descriptor came`,
      );
    }
    yield chunk;
  }
}

/** Streams a blob of a source that is on this machine but in no file: no part file, nothing to resume. */
export async function openLocalBlob(
  source: ImageSource,
  descriptor: Descriptor,
  signal: AbortSignal | undefined,
): Promise<AsyncIterable<Buffer>> {
  const bytes = await source.openBlob(descriptor, 0);
  return limited(abortable(bytes, signal), descriptor.size, descriptor.digest);
}

/** Opens the part and takes its lock; null when somebody else is at it. */
function openPart(path: string): number | null {
  for (;;) {
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_APPEND, 0o600);
    try {
      if (!flock(fd, 'exclusive', { block: false })) {
        closeSync(fd);
        return null;
      }
      // The one who held it before may have removed it: then the name leads elsewhere or nowhere.
      const named = statSync(path, { throwIfNoEntry: false });
      if (named !== undefined && named.ino === fstatSync(fd).ino) return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    closeSync(fd);
  }
}

/**
 * Starts or resumes the download of a blob. When another download of the same blob holds the part, this one goes
 * without: it works, only it cannot be resumed.
 */
export function openDownload(
  store: Store,
  source: ImageSource,
  descriptor: Descriptor,
  signal: AbortSignal | undefined,
): Download {
  const path = store.layout.download(descriptor.digest);
  let fd: number | null;
  let resumed = 0;
  try {
    fd = openPart(path);
    if (fd !== null) {
      resumed = fstatSync(fd).size;
      if (resumed > descriptor.size) {
        ftruncateSync(fd, 0);
        resumed = 0;
      }
    }
  } catch (error) {
    throw storeError(`open ${path}`, error);
  }
  const part = fd;
  const from = resumed;
  let open = part !== null;
  let writing: Promise<void> = Promise.resolve();

  async function* run(): AsyncGenerator<Buffer> {
    if (part !== null && from > 0) {
      const input = createReadStream(path, { highWaterMark: READ_CHUNK, start: 0, end: from - 1 });
      for await (const chunk of abortable(input, signal)) yield chunk;
    }
    if (from === descriptor.size) return;
    const rest = abortable(await source.openBlob(descriptor, from), signal);
    for await (const chunk of limited(rest, descriptor.size - from, descriptor.digest)) {
      // The write of one chunk overlaps what the consumer does with it.
      await writing;
      // A chunk that was on its way when the part was closed: its number may be another file's by now.
      if (part !== null && open) writing = append(part, chunk, path);
      writing.catch(() => undefined);
      yield chunk;
    }
    await writing;
  }

  return {
    bytes: run(),
    resumed,
    async dispose(keep) {
      if (!open || part === null) return;
      open = false;
      // Closing under a write in flight could hand its descriptor to another file.
      await writing.catch(() => undefined);
      // Unlinked while the lock is held; an empty part is worth nothing either.
      if (!keep || fstatSync(part).size === 0) rmSync(path, { force: true });
      closeSync(part);
    },
  };
}

async function append(fd: number, chunk: Buffer, path: string): Promise<void> {
  try {
    for (let at = 0; at < chunk.length; ) {
      const { bytesWritten } = await writeAsync(fd, chunk, at, chunk.length - at, null);
      at += bytesWritten;
    }
  } catch (error) {
    throw storeError(`write ${path}`, error);
  }
}

/** True when nobody is writing to the part; for sweeps. False when it is gone. */
export function isIdleDownload(path: string): boolean {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDWR);
  } catch (error) {
    if (isMissing(error)) return false;
    throw storeError(`open ${path}`, error);
  }
  try {
    return flock(fd, 'exclusive', { block: false });
  } finally {
    closeSync(fd);
  }
}
