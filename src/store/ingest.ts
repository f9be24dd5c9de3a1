/**
 * One pass over a layer's blob: hash it, inflate it, hash the tar, scan it, build
 * its tree and write the tar, all overlapped; then the metadata image.
 */
import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { decompress } from '../compress/index.ts';
import { planImage } from '../erofs/index.ts';
import { type Finding, VeneerError } from '../errors.ts';
import type { OnProgress } from '../progress/events.ts';
import { TarScanner } from '../tar/index.ts';
import { type FileTree, TreeBuilder } from '../tree/index.ts';
import { readExactly } from './data-files.ts';
import { type WrittenImage, writeImageFile } from './image-file.ts';
import { storeError } from './io-errors.ts';
import { LAYER_IMAGE, LAYER_TAR } from './layout.ts';

/** A metadata image over a raw tar has the tar's own record size as its block size. */
const TAR_RECORD = 512;
/** With fsync: so many bytes are written between two rounds of writeback, so that the last one is short. */
const WRITEBACK_BYTES = 64 << 20;

export interface IngestedLayer {
  readonly diffId: string;
  readonly blobDigest: string;
  /** Bytes as transferred, and as a tar. */
  readonly blobSize: number;
  readonly tarSize: number;
  /** Members of the tar. */
  readonly entries: number;
  /** The metadata image. */
  readonly image: WrittenImage;
  readonly tree: FileTree;
  /** What was odd in the tar. */
  readonly findings: readonly Finding[];
}

export interface IngestOptions {
  /** Names the layer in progress events. */
  readonly id: string;
  readonly expectBlob?: { readonly digest: string; readonly size: number };
  readonly expectDiffId?: string;
  /** Make both files durable before returning. */
  readonly fsync: boolean;
  readonly onProgress?: OnProgress | undefined;
}

/**
 * Writes `dir`/layer.tar and `dir`/layer.erofs from the blob's bytes. The
 * directory has no final name yet: a crash leaves debris there that is swept.
 * Throws `store/mismatch` when a digest or size is not what was promised, and
 * what decompression, tar and tree throw.
 */
export async function ingestLayer(
  input: AsyncIterable<Buffer>,
  dir: string,
  options: IngestOptions,
): Promise<IngestedLayer> {
  const path = join(dir, LAYER_TAR);
  const file = await open(path, 'wx+', 0o444);
  try {
    const blob = new BlobMeter(options);
    const tarHash = createHash('sha256');
    const builder = new TreeBuilder();
    const scanner = new TarScanner({ onEntry: (entry) => builder.add(entry) });
    const writer = new WriteBehind(file, path, options.fsync);
    for await (const chunk of decompress(blob.measure(input))) {
      const written = writer.write(chunk);
      tarHash.update(chunk);
      scanner.write(chunk);
      await written;
    }
    scanner.end();
    const { digest: blobDigest, size: blobSize } = blob.finish();
    const diffId = `sha256:${tarHash.digest('hex')}`;
    if (options.expectDiffId !== undefined && diffId !== options.expectDiffId) {
      throw mismatch(
        `layer ${options.id}`,
        `its diffID is ${diffId}, the image says ${options.expectDiffId}`,
      );
    }
    const tree = builder.finish();
    const tar = tree.sources[0]!;
    tar.digest = diffId;
    tar.size = writer.size;
    await writer.finish();
    const [image] = await Promise.all([
      writeImageFile(
        join(dir, LAYER_IMAGE),
        planImage(tree, { blockSize: TAR_RECORD }),
        (_, at, length) => readExactly(file.fd, at, length, path),
        options,
      ),
      options.fsync ? writer.sync() : undefined,
    ]);
    return {
      diffId,
      blobDigest,
      blobSize,
      tarSize: writer.size,
      entries: scanner.entries,
      image,
      tree,
      findings: [...scanner.findings, ...tree.findings],
    };
  } finally {
    await file.close();
  }
}

/** Hashes and counts the blob as it passes by. */
class BlobMeter {
  readonly #options: IngestOptions;
  readonly #hash: Hash = createHash('sha256');
  #size = 0;
  #ended = false;

  constructor(options: IngestOptions) {
    this.#options = options;
  }

  async *measure(input: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
    const { id, expectBlob, onProgress } = this.#options;
    for await (const chunk of input) {
      this.#size += chunk.length;
      if (expectBlob !== undefined && this.#size > expectBlob.size) {
        throw mismatch(
          `blob ${expectBlob.digest}`,
          `it is longer than the ${expectBlob.size} bytes that the manifest says`,
        );
      }
      this.#hash.update(chunk);
      yield chunk;
      onProgress?.({ type: 'advance', id, done: this.#size });
    }
    this.#ended = true;
  }

  finish(): { digest: string; size: number } {
    const { expectBlob } = this.#options;
    const digest = `sha256:${this.#hash.digest('hex')}`;
    if (expectBlob !== undefined) {
      if (!this.#ended || this.#size !== expectBlob.size) {
        throw mismatch(
          `blob ${expectBlob.digest}`,
          `it has ${this.#size} bytes, the manifest says ${expectBlob.size}`,
        );
      }
      if (digest !== expectBlob.digest)
        throw mismatch(`blob ${expectBlob.digest}`, `its digest is ${digest}`);
    }
    return { digest, size: this.#size };
  }
}

function mismatch(what: string, reason: string): VeneerError {
  return new VeneerError('store/mismatch', `Cannot accept ${what}: ${reason}`, {
    hint: 'The source is damaged or was changed; nothing of it was kept.',
  });
}

/** Sequential writes, one under way while the next piece is made. */
class WriteBehind {
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #fsync: boolean;
  #pending: Promise<unknown> = Promise.resolve();
  #writeback: Promise<unknown> | null = null;
  #unsynced = 0;
  #syncError: unknown;
  size = 0;

  constructor(file: FileHandle, path: string, fsync: boolean) {
    this.#file = file;
    this.#path = path;
    this.#fsync = fsync;
  }

  /**
   * Resolves when `chunk` may be followed by the next one: the write before it is done. A failure counts as
   * handled also when nobody waits any more, because what came between has thrown.
   */
  write(chunk: Buffer): Promise<unknown> {
    const before = this.#pending;
    const at = this.size;
    this.size += chunk.length;
    this.#pending = before.then(() => this.#writeAll(chunk, at));
    this.#pending.catch(() => {});
    return before;
  }

  /** Resolves when all is written. */
  async finish(): Promise<void> {
    await this.#pending;
    await this.#writeback;
  }

  /** Resolves when all that is written is durable. */
  async sync(): Promise<void> {
    if (this.#syncError !== undefined) this.#fail(this.#syncError);
    await this.#file.sync().catch((error) => this.#fail(error));
  }

  async #writeAll(chunk: Buffer, at: number): Promise<void> {
    for (let done = 0; done < chunk.length; ) {
      const { bytesWritten } = await this.#file
        .write(chunk, done, chunk.length - done, at + done)
        .catch((error) => this.#fail(error));
      done += bytesWritten;
    }
    this.#unsynced += chunk.length;
    if (this.#fsync && this.#unsynced >= WRITEBACK_BYTES && this.#writeback === null) {
      this.#unsynced = 0;
      // the kernel reports a failed write-back once for each open file: kept for `sync`
      this.#writeback = this.#file
        .datasync()
        .catch((error: unknown) => {
          this.#syncError ??= error;
        })
        .then(() => {
          this.#writeback = null;
        });
    }
  }

  #fail(error: unknown): never {
    throw storeError(`write ${this.#path}`, error);
  }
}
