/** Named files inside one place (a directory, a tar): the little that layouts and archives need, and never a way out of it. */

import { constants } from 'node:fs';
import { type FileHandle, open, realpath } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { VeneerError } from '../errors.ts';
import type { FileRange } from './source.ts';

export interface NamedFiles {
  /** Where the file's bytes stand, or null when there is no such file. `path` is relative, with `/`. */
  locate(path: string): Promise<FileRange | null>;
  close(): Promise<void>;
}

/** Bytes of one read; large enough that hashing and inflating behind it set the pace. */
const READ_BYTES = 1 << 18;

/** The whole of a small file. Throws `oci/limit` beyond `limit` bytes. */
export async function readRange(range: FileRange, limit: number, what: string): Promise<Buffer> {
  if (range.length > limit) {
    throw new VeneerError(
      'oci/limit',
      `Cannot read ${what}: ${range.length} bytes, more than the limit of ${limit}`,
    );
  }
  const chunks: Buffer[] = [];
  for await (const chunk of streamRange(range, 0, what)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** The bytes of `range` from byte `skip` on; fails when the file has become shorter. Opens it when the iteration starts. */
export async function* streamRange(
  range: FileRange,
  skip: number,
  what: string,
): AsyncGenerator<Buffer, void, void> {
  const handle = await openRegular(range.path, what);
  let at = range.offset + skip;
  const end = range.offset + range.length;
  try {
    // One read is always under way while the consumer works on the chunk before it.
    let next = at < end ? readAt(handle, at, end) : null;
    while (next !== null) {
      const chunk: Buffer = await next;
      if (chunk.length === 0) {
        throw new VeneerError(
          'io/failed',
          `Cannot read ${what}: ${range.path} ends at byte ${at}, before byte ${end}`,
        );
      }
      at += chunk.length;
      next = at < end ? readAt(handle, at, end) : null;
      next?.catch(() => {});
      yield chunk;
    }
  } catch (cause) {
    if (cause instanceof VeneerError) throw cause;
    throw new VeneerError(
      'io/failed',
      `Cannot read ${what}: ${range.path} at byte ${at}: ${reasonOf(cause)}`,
      { cause },
    );
  } finally {
    await handle.close();
  }
}

async function readAt(handle: FileHandle, at: number, end: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(Math.min(READ_BYTES, end - at));
  const { bytesRead } = await handle.read(buffer, 0, buffer.length, at);
  return bytesRead === buffer.length ? buffer : buffer.subarray(0, bytesRead);
}

/** Opens for reading; refuses everything but regular files, and does not wait on a FIFO. */
export async function openRegular(path: string, what: string): Promise<FileHandle> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stats = await handle.stat();
    if (stats.isFile()) return handle;
    await handle.close();
  } catch (cause) {
    await handle?.close();
    const code = errnoOf(cause) === 'ENOENT' ? 'oci/not-found' : 'io/failed';
    throw new VeneerError(code, `Cannot open ${what}: ${path}: ${reasonOf(cause)}`, { cause });
  }
  throw new VeneerError('oci/invalid', `Cannot open ${what}: ${path} is not a regular file`);
}

/** The files below a directory. Symlinks are followed while they stay inside; one that leaves is `oci/invalid`. */
export async function directoryFiles(dir: string): Promise<NamedFiles> {
  let root: string;
  try {
    root = await realpath(dir);
  } catch (cause) {
    const code = errnoOf(cause) === 'ENOENT' ? 'oci/not-found' : 'io/failed';
    throw new VeneerError(code, `Cannot open the image in ${dir}: ${reasonOf(cause)}`, { cause });
  }
  return {
    async locate(path) {
      let real: string;
      try {
        real = await realpath(join(root, path));
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
      const handle = await openRegular(real, `${path} in ${dir}`);
      try {
        return { path: real, offset: 0, length: (await handle.stat()).size };
      } finally {
        await handle.close();
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
