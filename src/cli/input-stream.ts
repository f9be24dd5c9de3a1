/** A file or standard input ("-") as a stream of large chunks. */
import { closeSync, openSync, readSync } from 'node:fs';

const CHUNK = 1 << 20;

/** Each chunk is good until the next is asked for. Throws the signal's reason when it is aborted. */
export async function* readInput(path: string, signal: AbortSignal): AsyncGenerator<Buffer, void, undefined> {
  if (path === '-') {
    for await (const chunk of process.stdin) {
      signal.throwIfAborted();
      yield chunk as Buffer;
    }
    return;
  }
  // Synchronous, into one buffer: what the consumer does with the bytes takes longer than the read.
  const buffer = Buffer.allocUnsafeSlow(CHUNK);
  const fd = openSync(path, 'r');
  try {
    for (;;) {
      signal.throwIfAborted();
      const bytesRead = readSync(fd, buffer, 0, CHUNK, null);
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
      // Lets signals in.
      await new Promise(setImmediate);
    }
  } finally {
    closeSync(fd);
  }
}
