/** A file or standard input ("-") as a stream of large chunks. */
import { open } from 'node:fs/promises';

const CHUNK = 1 << 20;

/** Each chunk is the reader's to keep. Throws the signal's reason when it is aborted. */
export async function* readInput(path: string, signal: AbortSignal): AsyncGenerator<Buffer, void, undefined> {
  if (path === '-') {
    for await (const chunk of process.stdin) {
      signal.throwIfAborted();
      yield chunk as Buffer;
    }
    return;
  }
  const file = await open(path, 'r');
  try {
    for (;;) {
      signal.throwIfAborted();
      const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(CHUNK), 0, CHUNK, null);
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
}
