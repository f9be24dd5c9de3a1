/** A tar that is put together here, on its way into a file. */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';

/** One is written while the next is made. More writes at a time would wait for each other: it is one file. */
export const PIECES_AHEAD = 2;

/**
 * Writes `pieces`, each of them good until {@link PIECES_AHEAD} others are asked for, into a new file and hashes them:
 * while the next one is made and hashed, a thread of Node's writes. `onPiece` is told how many bytes have come. Throws what
 * making, writing and `onPiece` throw.
 */
export async function writeTar(
  pieces: Iterable<Buffer>,
  path: string,
  onPiece: (size: number) => void = () => {},
): Promise<{ readonly digest: string; readonly size: number }> {
  const hash = createHash('sha256');
  const file = await open(path, 'wx', 0o644);
  let write = Promise.resolve();
  let size = 0;
  try {
    for (const piece of pieces) {
      await write;
      write = writeAt(file, piece, size);
      // it is waited for later, and nobody listens until then
      write.catch(() => {});
      hash.update(piece);
      size += piece.length;
      onPiece(size);
    }
    await write;
  } finally {
    await write.catch(() => {});
    await file.close();
  }
  return { digest: `sha256:${hash.digest('hex')}`, size };
}

async function writeAt(file: FileHandle, bytes: Buffer, at: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await file.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
  }
}
