/** One layer's blob made a tar: both digests are checked as the bytes pass. */
import { createHash } from 'node:crypto';
import { readSync, writeSync } from 'node:fs';
import { decompress } from '../compress/index.ts';
import { type ErrorCode, VeneerError } from '../errors.ts';
import { fastestInflater } from '../sys/isal.ts';

/** A layer as a manifest and a config name it. */
export interface LayerNames {
  /** Of the blob. */
  readonly digest: string;
  /** Of the blob, bytes. */
  readonly size: number;
  /** Digest of the tar in it. */
  readonly diffId: string;
}

export interface InflateJob {
  readonly layer: LayerNames;
  /** Open file with the blob, and where it begins there. */
  readonly blob: number;
  readonly offset: number;
  /** Open empty file for the tar; null when the blob is a tar itself and stays where it is. */
  readonly tar: number | null;
  /** Element 0 becomes 1 when nobody wants it any more: a thread that inflates sees no messages. */
  readonly cancelled: Int32Array;
}

const READ_BYTES = 1 << 18;

/** Returns the size of the tar, bytes. Throws `oci/digest-mismatch`, `compress/corrupt`, `io/failed`, `io/cancelled`. */
export async function inflateLayer(job: InflateJob): Promise<number> {
  const { layer, tar } = job;
  const blobHash = createHash('sha256');
  const tarHash = createHash('sha256');
  let size = 0;
  async function* blob(): AsyncGenerator<Buffer> {
    for (const chunk of readBlob(job)) {
      blobHash.update(chunk);
      yield chunk;
    }
  }
  for await (const chunk of decompress(blob(), fastestInflater)) {
    tarHash.update(chunk);
    if (tar !== null) writeAll(tar, chunk, size, layer);
    size += chunk.length;
  }
  const blobDigest = `sha256:${blobHash.digest('hex')}`;
  if (blobDigest !== layer.digest) throw failed('oci/digest-mismatch', layer, `its digest is ${blobDigest}`);
  const diffId = `sha256:${tarHash.digest('hex')}`;
  if (diffId !== layer.diffId) {
    throw failed('oci/digest-mismatch', layer, `diffid mismatch: got ${diffId} expected ${layer.diffId}`);
  }
  return size;
}

function* readBlob({ layer, blob, offset, cancelled }: InflateJob): Generator<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  for (let done = 0; done < layer.size; ) {
    if (Atomics.load(cancelled, 0) !== 0) throw failed('io/cancelled', layer, 'cancelled');
    const count = readSync(blob, buffer, 0, Math.min(READ_BYTES, layer.size - done), offset + done);
    if (count === 0) throw failed('io/failed', layer, `its file ends at byte ${done}`);
    done += count;
    yield buffer.subarray(0, count);
  }
}

function writeAll(file: number, bytes: Buffer, at: number, layer: LayerNames): void {
  try {
    for (let done = 0; done < bytes.length; )
      done += writeSync(file, bytes, done, bytes.length - done, at + done);
  } catch (cause) {
    const full = ['ENOSPC', 'EDQUOT'].includes((cause as NodeJS.ErrnoException).code ?? '');
    throw failed(full ? 'io/no-space' : 'io/failed', layer, (cause as Error).message, cause);
  }
}

function failed(code: ErrorCode, { digest }: LayerNames, reason: string, cause?: unknown): VeneerError {
  return new VeneerError(code, `Cannot unpack the layer ${digest}: ${reason}`, { cause });
}
