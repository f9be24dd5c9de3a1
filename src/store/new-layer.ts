/** One layer on its way into the store: ingested where nobody looks, then published under its diffID. */
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { OCI_LAYER } from '../oci/media-type.ts';
import type { OnProgress } from '../progress/events.ts';
import { discard, publishDirectory, writeNewFile } from './atomic.ts';
import type { BaseFile } from './base-files.ts';
import { publishLoneChain } from './chains.ts';
import type { IngestedLayer } from './ingest.ts';
import type { IngestPool, TarStream } from './ingest-pool.ts';
import type { BlobFile } from './ingest-worker.ts';
import { storeError } from './io-errors.ts';
import { ownFiles } from './layer-files.ts';
import { LAYER_FACTS } from './layout.ts';
import { throwIfAborted } from './locks.ts';
import { type BlobRef, type LayerRecord, recordText } from './records.ts';
import type { Store } from './store.ts';

export interface NewLayerOptions {
  /** Names the layer in progress events. */
  readonly id: string;
  /** What is ingested; digest and size are verified. Null: a tar that was made here. */
  readonly blob: BlobRef | null;
  /** Absent where only the blob's digest is known. */
  readonly expectDiffId?: string | undefined;
  /** Keep only what these do not have. Hold a lease on their layers until the new one is published. */
  readonly bases?: readonly BaseFile[] | undefined;
  /** The image has no other layer: its merged image is made and published too. */
  readonly alone?: boolean | undefined;
  readonly onProgress?: OnProgress | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A layer that is verified but has no name yet. Call one of both functions. */
export interface NewLayer {
  readonly ingested: IngestedLayer;
  /** Makes it durable and gives it its name, unless the name is taken: then what stands there is the same. */
  publish(): Promise<void>;
  discard(): Promise<void>;
}

/**
 * Ingests into a directory of our own. A crash leaves the directory without its final name, inside a work directory
 * whose lock is free then; whoever sweeps removes it. Nothing is left of it when this throws.
 */
export async function ingestNewLayer(
  store: Store,
  pool: IngestPool,
  input: BlobFile | TarStream,
  options: NewLayerOptions,
): Promise<NewLayer> {
  const { id, blob, expectDiffId, bases, alone = false, onProgress, signal } = options;
  const dir = join(store.work(), `layer-${randomBytes(9).toString('hex')}`);
  const chainDir = alone ? `${dir}-chain` : undefined;
  const drop = async (): Promise<void> => {
    for (const one of [dir, chainDir]) if (one !== undefined) await discard(one);
  };
  try {
    mkdirSync(dir, { mode: 0o700 });
    if (chainDir !== undefined) mkdirSync(chainDir, { mode: 0o700 });
    const ingested = await pool.ingest(input, dir, {
      ...(blob === null ? {} : { expectBlob: { digest: blob.digest, size: blob.size } }),
      ...(expectDiffId === undefined ? {} : { expectDiffId }),
      made: blob === null,
      chainDir,
      fsync: store.fsync,
      id,
      bases,
      onProgress,
      signal,
    });
    throwIfAborted(signal);
    const record = recordOf(ingested, blob);
    await writeNewFile(join(dir, LAYER_FACTS), recordText(record), { fsync: false });
    return {
      ingested,
      publish: async () => {
        await publish(store, dir, record);
        if (chainDir === undefined) return;
        if (ingested.chain === undefined) await discard(chainDir);
        else await publishLoneChain(store, chainDir, record, ingested.chain);
      },
      discard: drop,
    };
  } catch (error) {
    await drop();
    throw storeError(`store layer ${id}`, error);
  }
}

function recordOf(ingested: IngestedLayer, blob: BlobRef | null): LayerRecord {
  const { digest, size, mediaType } = blob ?? {
    digest: ingested.diffId,
    size: ingested.tarSize,
    mediaType: OCI_LAYER,
  };
  return {
    version: ingested.deduped === undefined ? 1 : 2,
    diffId: ingested.diffId,
    tarSize: ingested.tarSize,
    entries: ingested.entries,
    blob: { digest, size, mediaType },
    needsChain: ingested.needsChain,
    namesRoot: ingested.namesRoot,
    opaqueRoot: ingested.opaqueRoot,
    usesTar: ingested.usesTar,
    image: ingested.image,
    ...(ingested.deduped === undefined ? {} : { deduped: ingested.deduped }),
  };
}

async function publish(store: Store, dir: string, record: LayerRecord): Promise<void> {
  const { diffId } = record;
  try {
    const files = [...ownFiles(record).map(({ file }) => file), LAYER_FACTS];
    const published = await publishDirectory(dir, store.layout.layer(diffId), { fsync: store.fsync, files });
    if (!published) await discard(dir);
  } catch (error) {
    await discard(dir);
    throw storeError(`store layer ${diffId}`, error);
  }
}
