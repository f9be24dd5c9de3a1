/**
 * The layers of an image, from blobs to trees with their data at hand. Compressed ones are inflated into files that
 * have no name: whatever happens, nothing of them stays. They are made side by side, a thread a core.
 */
import { closeSync, constants, fstatSync, openSync, readSync, unlinkSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { ByteSource } from '../bytes/io.ts';
import { detectCompression } from '../compress/index.ts';
import { VeneerError } from '../errors.ts';
import type { FileRange } from '../oci/source.ts';
import { scanSource } from '../tar/index.ts';
import { threadFile } from '../threads/thread-file.ts';
import { runInThreads } from '../threads/thread-pool.ts';
import { type FileTree, TreeBuilder } from '../tree/index.ts';
import { type InflateJob, inflateLayer, type LayerNames } from './inflate-layer.ts';

export interface LayerBlob extends LayerNames {
  readonly range: FileRange;
}

export interface OpenLayer {
  /** What the layer says, whiteouts and all. `sources[0]` is the tar. */
  readonly tree: FileTree;
  /** Open file of the tar. */
  readonly file: number;
}

export interface OpenLayersOptions {
  /** A directory for nameless files, on the disk that has room. */
  readonly temporary: string;
  /** Told when a layer is ready. */
  readonly onLayer?: (layer: LayerBlob) => void;
  readonly signal?: AbortSignal | undefined;
}

/** A small image is not worth a thread. */
const SMALL_BYTES = 4 << 20;
const DETECT_BYTES = 16;

/**
 * Calls `use` with the layers, bottom-up, when every digest is checked; their files are closed behind it. Throws what
 * inflating, scanning and building trees throw.
 */
export async function withLayers<T>(
  blobs: readonly LayerBlob[],
  options: OpenLayersOptions,
  use: (layers: readonly OpenLayer[]) => Promise<T>,
): Promise<T> {
  const opened = new OpenFiles();
  try {
    const cancelled = new Int32Array(new SharedArrayBuffer(4));
    const cancel = (): void => {
      Atomics.store(cancelled, 0, 1);
    };
    options.signal?.addEventListener('abort', cancel, { once: true });
    try {
      const jobs = blobs.map((blob) => opened.prepare(blob, options.temporary, cancelled));
      return await use(await inflateAll(blobs, jobs, options, cancel));
    } finally {
      options.signal?.removeEventListener('abort', cancel);
    }
  } finally {
    opened.close();
  }
}

/** Files to be closed in the end. */
class OpenFiles {
  readonly #files: number[] = [];

  prepare(blob: LayerBlob, temporary: string, cancelled: Int32Array): InflateJob {
    const { range } = blob;
    const file = openSync(range.path, 'r');
    this.#files.push(file);
    if (!fstatSync(file).isFile() || range.length !== blob.size) {
      throw new VeneerError(
        'oci/digest-mismatch',
        `Cannot unpack the layer ${blob.digest}: its blob is damaged`,
      );
    }
    const head = Buffer.alloc(DETECT_BYTES);
    const count = readSync(file, head, 0, DETECT_BYTES, range.offset);
    const plain = detectCompression(head.subarray(0, count)) === 'none' && range.offset === 0;
    const tar = plain ? null : this.#makeNameless(temporary);
    return { layer: blob, blob: file, offset: range.offset, tar, cancelled };
  }

  #makeNameless(directory: string): number {
    const path = join(directory, `.veneer-${process.pid}-${this.#files.length}`);
    const file = openSync(
      path,
      constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
      0o600,
    );
    unlinkSync(path);
    this.#files.push(file);
    return file;
  }

  close(): void {
    for (const file of this.#files) closeSync(file);
  }
}

async function inflateAll(
  blobs: readonly LayerBlob[],
  jobs: readonly InflateJob[],
  { onLayer, signal }: OpenLayersOptions,
  cancel: () => void,
): Promise<OpenLayer[]> {
  const layers: OpenLayer[] = [];
  const total = blobs.reduce((sum, { size }) => sum + size, 0);
  // The largest first, so that no thread is left with it in the end.
  const queue = jobs.map((_, index) => index).sort((a, b) => blobs[b]!.size - blobs[a]!.size);
  const next = (): number | undefined => {
    signal?.throwIfAborted();
    return queue.shift();
  };
  const onDone = (index: number, size: number): void => {
    const job = jobs[index]!;
    layers[index] = { tree: scanLayer(job, size), file: job.tar ?? job.blob };
    onLayer?.(blobs[index]!);
  };
  if (total <= SMALL_BYTES) {
    for (let index = next(); index !== undefined; index = next())
      onDone(index, await inflateLayer(jobs[index]!));
  } else {
    await runInThreads<number, number>({
      code: threadFile(import.meta.url, 'inflate-worker'),
      threads: Math.min(availableParallelism(), jobs.length),
      ahead: 1,
      data: null,
      next: () => next() ?? null,
      messageOf: (index) => jobs[index],
      onDone,
      onFail: cancel,
    });
  }
  return layers;
}

function scanLayer({ layer, blob, tar }: InflateJob, size: number): FileTree {
  const file = tar ?? blob;
  const source: ByteSource = {
    size,
    read(offset, length, scratch) {
      const bytes = scratch?.subarray(0, length) ?? Buffer.allocUnsafe(length);
      for (let done = 0; done < length; ) {
        const got = readSync(file, bytes, done, length - done, offset + done);
        if (got === 0)
          throw new VeneerError('io/failed', `Cannot read the layer ${layer.digest}: its file ends early`);
        done += got;
      }
      return bytes;
    },
  };
  const builder = new TreeBuilder({ kind: 'tar', digest: layer.diffId, size, alignment: 512 });
  scanSource(source, { onEntry: (entry) => builder.add(entry) });
  return builder.finish();
}
