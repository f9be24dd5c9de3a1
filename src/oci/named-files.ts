/** Named files inside one place (a directory, a tar): the little that layouts and archives need, and never a way out of it. */

import { closeSync, constants, fstatSync, openSync, read, readSync, realpathSync } from 'node:fs';
import { join, sep } from 'node:path';
import { promisify } from 'node:util';
import { VeneerError } from '../errors.ts';
import type { FileRange } from './source.ts';

export interface NamedFiles {
  /** Where the file's bytes stand, or null when there is no such file. `path` is relative, with `/`. */
  locate(path: string): Promise<FileRange | null>;
  close(): Promise<void>;
}

/** Bytes of one read; large enough that hashing and inflating behind it set the pace. */
const READ_BYTES = 1 << 18;

/** Without waiting for it here. */
export const readPiece = promisify(read);

/** The whole of a small file, read at once: a thread to wait in takes longer. Throws `oci/limit` beyond `limit` bytes. */
export async function readRange(range: FileRange, limit: number, what: string): Promise<Buffer> {
  if (range.length > limit) {
    throw new VeneerError(
      'oci/limit',
      `Cannot read ${what}: ${range.length} bytes, more than the limit of ${limit}`,
    );
  }
  const fd = openRegular(range.path, what);
  try {
    const bytes = Buffer.allocUnsafe(range.length);
    for (let done = 0; done < bytes.length; ) {
      const count = readSync(fd, bytes, done, bytes.length - done, range.offset + done);
      if (count === 0) throw endsBefore(range, range.offset + done, what);
      done += count;
    }
    return bytes;
  } catch (cause) {
    throw cannotRead(cause, range, range.offset, what);
  } finally {
    closeSync(fd);
  }
}

/** The bytes of `range` from byte `skip` on; fails when the file has become shorter. Opens it when the iteration starts. */
export async function* streamRange(
  range: FileRange,
  skip: number,
  what: string,
): AsyncGenerator<Buffer, void, void> {
  const fd = openRegular(range.path, what);
  let at = range.offset + skip;
  const end = range.offset + range.length;
  // One read is always under way while the consumer works on the chunk before it.
  let next = at < end ? readAt(fd, at, end) : null;
  try {
    while (next !== null) {
      const chunk: Buffer = await next;
      if (chunk.length === 0) throw endsBefore(range, at, what);
      at += chunk.length;
      next = at < end ? readAt(fd, at, end) : null;
      next?.catch(() => {});
      yield chunk;
    }
  } catch (cause) {
    throw cannotRead(cause, range, at, what);
  } finally {
    // Behind a consumer that has stopped, the number must not be another file's before the read has ended.
    await next?.catch(() => {});
    closeSync(fd);
  }
}

async function readAt(fd: number, at: number, end: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(Math.min(READ_BYTES, end - at));
  const { bytesRead } = await readPiece(fd, buffer, 0, buffer.length, at);
  return bytesRead === buffer.length ? buffer : buffer.subarray(0, bytesRead);
}

function endsBefore(range: FileRange, at: number, what: string): VeneerError {
  const end = range.offset + range.length;
  return new VeneerError(
    'io/failed',
    `Cannot read ${what}: ${range.path} ends at byte ${at}, before byte ${end}`,
  );
}

function cannotRead(cause: unknown, { path }: FileRange, at: number, what: string): VeneerError {
  if (cause instanceof VeneerError) return cause;
  return new VeneerError('io/failed', `Cannot read ${what}: ${path} at byte ${at}: ${reasonOf(cause)}`, {
    cause,
  });
}

/** Opens for reading; refuses everything but regular files, and does not wait on a FIFO. */
export function openRegular(path: string, what: string): number {
  let fd: number | undefined;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    if (fstatSync(fd).isFile()) return fd;
  } catch (cause) {
    if (fd !== undefined) closeSync(fd);
    const code = errnoOf(cause) === 'ENOENT' ? 'oci/not-found' : 'io/failed';
    throw new VeneerError(code, `Cannot open ${what}: ${path}: ${reasonOf(cause)}`, { cause });
  }
  closeSync(fd);
  throw new VeneerError('oci/invalid', `Cannot open ${what}: ${path} is not a regular file`);
}

/** The files below a directory. Symlinks are followed while they stay inside; one that leaves is `oci/invalid`. */
export async function directoryFiles(dir: string): Promise<NamedFiles> {
  let root: string;
  try {
    root = realpathSync(dir);
  } catch (cause) {
    const code = errnoOf(cause) === 'ENOENT' ? 'oci/not-found' : 'io/failed';
    throw new VeneerError(code, `Cannot open the image in ${dir}: ${reasonOf(cause)}`, { cause });
  }
  return {
    async locate(path) {
      let real: string;
      try {
        real = realpathSync(join(root, path));
      } catch (cause) {
        if (errnoOf(cause) === 'ENOENT' || errnoOf(cause) === 'ENOTDIR') return null;
        throw new VeneerError('io/failed', `Cannot read ${path} in ${dir}: ${reasonOf(cause)}`, { cause });
      }
      if (!real.startsWith(root === sep ? sep : root + sep)) {
        throw new VeneerError(
          'oci/invalid',
          `Cannot read ${path} in ${dir}: it is a symlink that leaves the directory`,
        );
      }
      const fd = openRegular(real, `${path} in ${dir}`);
      try {
        return { path: real, offset: 0, length: fstatSync(fd).size };
      } finally {
        closeSync(fd);
      }
    },
    async close() {},
  };
}

function errnoOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | undefined)?.code;
}

/** Without the path and the call, which the message around it names already. */
function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT') return 'no such file or directory';
  if (code === 'EACCES') return 'permission denied';
  return code ?? message;
}
