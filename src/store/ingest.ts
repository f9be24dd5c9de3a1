/**
 * One pass over a layer's blob: hash it, inflate it, hash the tar, scan it, build
 * its tree and write the tar, all overlapped; then the metadata image.
 */
import { createHash, type Hash } from 'node:crypto';
import { join } from 'node:path';
import { decompress } from '../compress/index.ts';
import { type ErofsPlan, fittingBlockSize, planImage } from '../erofs/index.ts';
import { type Finding, VeneerError } from '../errors.ts';
import type { OnProgress } from '../progress/events.ts';
import { fastestInflater, inflaterAhead } from '../sys/isal.ts';
import { TarScanner } from '../tar/index.ts';
import { needsChain, TreeBuilder } from '../tree/index.ts';
import { mergeLayers } from '../tree/merge.ts';
import type { BaseFiles } from './base-files.ts';
import { type WrittenImage, writeImageFile } from './image-file.ts';
import { type KnownTar, openDedupeSink, openTarSink, type SettledTar } from './layer-sink.ts';
import { CHAIN_IMAGE, LAYER_IMAGE } from './layout.ts';
import type { DedupedTar } from './records.ts';

/** From so many bytes on a blob is inflated in a thread beside ours: the rest takes as long. */
const LARGE_BLOB = 4 << 20;
/** A metadata image over a raw tar has the tar's own record size as its block size. */
const TAR_RECORD = 512;

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
  /** Set when what other layers have is not kept again. */
  readonly deduped?: DedupedTar;
  /** See `LayerRecord`. */
  readonly needsChain: boolean;
  readonly namesRoot: boolean;
  readonly opaqueRoot: boolean;
  /** See `IngestOptions.chainDir`; `devices`: which of the files that its tar is put together from. */
  readonly chain?: { readonly image: WrittenImage; readonly devices: readonly number[] };
  /** What was odd in the tar. */
  readonly findings: readonly Finding[];
}

export interface IngestOptions {
  /** Names the layer in progress events. */
  readonly id: string;
  readonly expectBlob?: { readonly digest: string; readonly size: number };
  readonly expectDiffId?: string;
  /** The caller is going to make all files durable: what is large is sent to the disk meanwhile. */
  readonly fsync: boolean;
  /** Share with these what is the same, and keep no tar. */
  readonly bases?: BaseFiles | undefined;
  /** The image has no other layer: its merged image is written there, while the tree is at hand. */
  readonly chainDir?: string | undefined;
  /** The input is a tar that was made here: it is not inflated, and its digest as a blob is its diffID. */
  readonly made?: boolean | undefined;
  /** What is known of that. */
  readonly known?: KnownTar | undefined;
  readonly onProgress?: OnProgress | undefined;
}

/**
 * Writes layer.tar, or layer.data and layer.recipe, and layer.erofs into `dir` from the blob's bytes. The
 * directory has no final name yet: a crash leaves debris there that is swept.
 * Throws `store/mismatch` when a digest or size is not what was promised, and
 * what decompression, tar and tree throw.
 */
export async function ingestLayer(
  input: AsyncIterable<Buffer>,
  dir: string,
  options: IngestOptions,
): Promise<IngestedLayer> {
  const { bases } = options;
  const sink = await (bases === undefined ? openTarSink(dir, options) : openDedupeSink(dir, bases, options));
  try {
    const blob = new BlobMeter(options);
    const { known } = options;
    const tarHash = known === undefined ? createHash('sha256') : null;
    const builder = new TreeBuilder();
    const scanner = new TarScanner({
      onEntry(entry) {
        sink.expectFile(entry.payloadOffset, entry.payloadSize);
        builder.add(entry);
      },
    });
    const isLarge = options.expectBlob !== undefined && options.expectBlob.size >= LARGE_BLOB;
    const make = isLarge ? inflaterAhead : fastestInflater;
    const bytes = blob.measure(input);
    for await (const chunk of options.made ? bytes : decompress(bytes, make)) {
      tarHash?.update(chunk);
      scanner.write(chunk);
      sink.write(chunk);
    }
    const tarSize = scanner.offset;
    scanner.end();
    const diffId = tarHash === null ? known!.diffId : `sha256:${tarHash.digest('hex')}`;
    const { digest: blobDigest, size: blobSize } = blob.finish(diffId);
    if (options.expectDiffId !== undefined && diffId !== options.expectDiffId) {
      throw mismatch(
        `layer ${options.id}`,
        `its diffID is ${diffId}, the image says ${options.expectDiffId}`,
      );
    }
    const tree = builder.finish();
    const kept = await sink.settle(tree, diffId);
    const plan = planImage(kept.tree, { blockSize: TAR_RECORD });
    const image = writeImageFile(join(dir, LAYER_IMAGE), plan, kept.read);
    const layer = {
      diffId,
      blobDigest,
      blobSize,
      tarSize,
      entries: scanner.entries,
      image,
      usesTar: kept.deduped === null && plan.devices.length > 0,
      ...(kept.deduped === null ? {} : { deduped: describeDeduped(kept.deduped, plan) }),
      needsChain: needsChain(tree),
      namesRoot: !tree.root.implied,
      opaqueRoot: tree.root.opaque,
      findings: [...scanner.findings, ...tree.findings],
    };
    // data that is copied is taken from the layer's image there, which has no name yet
    const isCopied = plan.copiesAt < plan.size;
    if (options.chainDir === undefined || layer.needsChain || isCopied) return layer;
    return { ...layer, chain: writeChain(options.chainDir, kept) };
  } finally {
    await sink.close();
  }
}

/** The image of the layer alone, as a merge makes it. Consumes the tree. */
function writeChain(dir: string, { tree, read }: SettledTar): NonNullable<IngestedLayer['chain']> {
  const merged = mergeLayers([tree]);
  const plan = planImage(merged, { blockSize: fittingBlockSize(merged.sources) });
  const image = writeImageFile(join(dir, CHAIN_IMAGE), plan, read);
  return { image, devices: plan.devices.map(({ source }) => source) };
}

function describeDeduped(
  { data, recipe, sources, files }: NonNullable<SettledTar['deduped']>,
  plan: ErofsPlan,
): DedupedTar {
  return { data, recipe, sources, devices: plan.devices.map(({ source }) => files[source]!) };
}

/** Hashes and counts the blob as it passes by. */
class BlobMeter {
  readonly #options: IngestOptions;
  readonly #hash: Hash | null;
  #size = 0;
  #ended = false;

  constructor(options: IngestOptions) {
    this.#options = options;
    this.#hash = options.made ? null : createHash('sha256');
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
      this.#hash?.update(chunk);
      yield chunk;
      onProgress?.({ type: 'advance', id, done: this.#size });
    }
    this.#ended = true;
  }

  finish(diffId: string): { digest: string; size: number } {
    const { expectBlob } = this.#options;
    const digest = this.#hash === null ? diffId : `sha256:${this.#hash.digest('hex')}`;
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
