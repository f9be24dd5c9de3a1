/** Writes a planned EROFS image to a new file and hashes it on the way. */
import { createHash } from 'node:crypto';
import { writeSync } from 'node:fs';
import { open } from 'node:fs/promises';
import type { ByteSink } from '../bytes/io.ts';
import { type ErofsPlan, type ReadData, writeImage } from '../erofs/index.ts';
import { storeError } from './io-errors.ts';

export interface WrittenImage {
  /** `sha256:…` of the file. */
  readonly digest: string;
  /** Bytes. */
  readonly size: number;
}

/**
 * The file is read-only and must not exist; it has no final name yet. Writing is
 * synchronous: metadata is a few megabytes, and copied data must not pile up in memory.
 */
export async function writeImageFile(
  path: string,
  plan: ErofsPlan,
  read: ReadData,
  options: { readonly fsync: boolean },
): Promise<WrittenImage> {
  try {
    const hash = createHash('sha256');
    const file = await open(path, 'wx', 0o444);
    try {
      const sink: ByteSink = {
        write(chunk, at) {
          hash.update(chunk);
          for (let done = 0; done < chunk.length; ) {
            done += writeSync(file.fd, chunk, done, chunk.length - done, at + done);
          }
        },
      };
      writeImage(plan, sink, read);
      if (options.fsync) await file.sync();
    } finally {
      await file.close();
    }
    return { digest: `sha256:${hash.digest('hex')}`, size: plan.size };
  } catch (error) {
    throw storeError(`write ${path}`, error);
  }
}
