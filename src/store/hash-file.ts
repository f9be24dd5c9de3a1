/** The digest of a file. */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { throwIfAborted } from './locks.ts';

const CHUNK = 1 << 20;

/** Hashes a file; the next piece is read while one is hashed. */
export async function hashFile(
  path: string,
  signal?: AbortSignal,
  onRead?: (bytes: number) => void,
): Promise<string> {
  const hash = createHash('sha256');
  const file: FileHandle = await open(path, 'r');
  try {
    let ahead = file.read(Buffer.allocUnsafe(CHUNK), 0, CHUNK, null);
    let spare = Buffer.allocUnsafe(CHUNK);
    for (;;) {
      const { bytesRead, buffer } = await ahead;
      throwIfAborted(signal);
      if (bytesRead === 0) return `sha256:${hash.digest('hex')}`;
      ahead = file.read(spare, 0, CHUNK, null);
      // A failing read is reported by the next turn; without this it would be unhandled if the hash threw.
      ahead.catch(() => undefined);
      hash.update(buffer.subarray(0, bytesRead));
      onRead?.(bytesRead);
      spare = buffer;
    }
  } finally {
    await file.close();
  }
}
