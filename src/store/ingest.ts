/**
 * One pass over a layer's blob: hash it, inflate it, hash the tar, scan it, build
 * its tree and write the tar, all overlapped; then the metadata image.
 */
import { createHash, type Hash } from 'node:crypto';
import { writeSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { decompress } from '../compress/index.ts';
import { planImage } from '../erofs/index.ts';
import { type Finding, VeneerError } from '../errors.ts';
import type { OnProgress } from '../progress/events.ts';
import { fastestInflater } from '../sys/isal.ts';
import { TarScanner } from '../tar/index.ts';
import { needsChain, TreeBuilder } from '../tree/index.ts';
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
  /** The metadata image, and whether the tar is its device (it maps no data otherwise). */
  readonly image: WrittenImage;
  readonly usesTar: boolean;
  /** See `LayerRecord`. */
  readonly needsChain: boolean;
  readonly namesRoot: boolean;
  readonly opaqueRoot: boolean;
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
  const file = await open(path, 'wx+', 0o444).catch((error: unknown) => {
    throw storeError(`write ${path}`, error);
  });
  try {
    const blob = new BlobMeter(options);
    const tarHash = createHash('sha256');
    const builder = new TreeBuilder();
    const scanner = new TarScanner({ onEntry: (entry) => builder.add(entry) });
    const writer = new TarWriter(file, path, options.fsync);
    for await (const chunk of decompress(blob.measure(input), fastestInflater)) {
      tarHash.update(chunk);
      scanner.write(chunk);
      writer.write(chunk);
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
    const plan = planImage(tree, { blockSize: TAR_RECORD });
    const [image] = await Promise.all([
      writeImageFile(
        join(dir, LAYER_IMAGE),
        plan,
        (_, at, length) => readExactly(file.fd, at, length, path),
        options,
      ),
      writer.finish(),
    ]);
    return {
      diffId,
      blobDigest,
      blobSize,
      tarSize: writer.size,
      entries: scanner.entries,
      image,
      usesTar: plan.devices.length > 0,
      needsChain: needsChain(tree),
      namesRoot: !tree.root.implied,
      opaqueRoot: tree.root.opaque,
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

/**
 * Sequential writes. They are synchronous, because waking a thread for each costs more than the copy into the page
 * cache; what goes to disk goes there behind our back.
 */
class TarWriter {
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #fsync: boolean;
  #writeback: Promise<void> | null = null;
  #writebackError: unknown;
  #unsynced = 0;
  size = 0;

  constructor(file: FileHandle, path: string, fsync: boolean) {
    this.#file = file;
    this.#path = path;
    this.#fsync = fsync;
  }

  write(chunk: Buffer): void {
    try {
      for (let done = 0; done < chunk.length; ) {
        done += writeSync(this.#file.fd, chunk, done, chunk.length - done, this.size + done);
      }
    } catch (error) {
      throw storeError(`write ${this.#path}`, error);
    }
    this.size += chunk.length;
    this.#unsynced += chunk.length;
    if (this.#fsync && this.#unsynced >= WRITEBACK_BYTES && this.#writeback === null) this.#startWriteback();
  }

  #startWriteback(): void {
    this.#unsynced = 0;
    this.#writeback = this.#file
      .datasync()
      .catch((error: unknown) => {
        // the kernel reports a failed write-back once for each open file: kept for `finish`
        this.#writebackError ??= error;
      })
      .then(() => {
        this.#writeback = null;
      });
  }

  /** Resolves when all that is written is durable, if that was asked for. */
  async finish(): Promise<void> {
    try {
      await this.#writeback;
      if (this.#writebackError !== undefined) throw this.#writebackError;
      if (this.#fsync) await this.#file.sync();
    } catch (error) {
      throw storeError(`write ${this.#path}`, error);
    }
  }
}
