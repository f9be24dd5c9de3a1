/** Writes a planned EROFS image to a new file and hashes it on the way. */
import { createHash } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
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
 * The file is read-only and must not exist; it has no final name yet, and is not durable. Writing is
 * synchronous: metadata is a few megabytes, and copied data must not pile up in memory.
 */
export function writeImageFile(path: string, plan: ErofsPlan, read: ReadData): WrittenImage {
  try {
    const hash = createHash('sha256');
    const fd = openSync(path, 'wx', 0o444);
    try {
      const sink: ByteSink = {
        write(chunk, at) {
          hash.update(chunk);
          for (let done = 0; done < chunk.length; ) {
            done += writeSync(fd, chunk, done, chunk.length - done, at + done);
          }
        },
      };
      writeImage(plan, sink, read);
    } finally {
      closeSync(fd);
    }
    return { digest: `sha256:${hash.digest('hex')}`, size: plan.size };
  } catch (error) {
    throw storeError(`write ${path}`, error);
  }
}
