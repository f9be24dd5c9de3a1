/**
 * Diff: what one snapshot has over another, as an OCI layer in containerd's content store. Same snapshots, same bytes.
 *
 * Two questions are asked in practice, and each is answered from what is there: a writable snapshot against its parent
 * is the upper directory; a committed one against its parent is the layer's own tar, byte for byte.
 */
import { createHash, randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import { createGzip, createZstdCompress } from 'node:zlib';
import { VeneerError } from '../errors.ts';
import { type Compression, describeLayerType, OCI_LAYER } from '../oci/media-type.ts';
import { locateLayerTar, readTar } from '../store/layer-tar.ts';
import { throwIfAborted } from '../store/locks.ts';
import type { Store } from '../store/store.ts';
import { END_OF_ARCHIVE_SIZE } from '../tar/encode.ts';
import type { AppliedLayer } from './apply.ts';
import { BlobWriter, blobInfo, setLabel } from './content-client.ts';
import type { Mount } from './gen/types_pb.ts';
import type { CallContext, RpcClient } from './rpc-client.ts';
import { type Below, readUpperLayer } from './upper-layer.ts';

/** What the mounts of a snapshot show. */
export interface SnapshotLayers {
  /** diffIDs, bottom first. */
  readonly layers: readonly string[];
  /** The upper directory, when it is writable. */
  readonly upper: string | null;
  /** Where what is below the upper directory is mounted; null when there are no layers. */
  readonly lower: string | null;
}

export interface CompareTargets {
  /** Null when the mounts are not ours. */
  layersOf(mounts: readonly Mount[]): SnapshotLayers | null;
}

export interface CompareOptions {
  /** '' for gzip. */
  readonly mediaType: string;
  /** Name of the upload; '' for one of our own. */
  readonly ref: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Seconds. */
  readonly epoch?: number | undefined;
}

/** What a layer's uncompressed digest is noted under. */
const UNCOMPRESSED = 'containerd.io/uncompressed';
/** Pieces for containerd are about this large. */
const PIECE = 1 << 20;

/** Throws `containerd/unsupported`, so that containerd asks the next differ, for anything but the two questions. */
export async function compareSnapshots(
  store: Store,
  client: RpcClient,
  targets: CompareTargets,
  sides: { readonly left: readonly Mount[]; readonly right: readonly Mount[] },
  options: CompareOptions,
  call: CallContext,
): Promise<AppliedLayer> {
  const mediaType = options.mediaType === '' ? `${OCI_LAYER}+gzip` : options.mediaType;
  const compression = describeLayerType(mediaType)?.compression ?? 'unknown';
  if (!mediaType.startsWith(OCI_LAYER) || compression === 'unknown') {
    throw unsupported(`veneer does not write ${mediaType}`);
  }
  const source = await openDifference(store, targets, sides, options.epoch, call);
  try {
    const label = compression === 'none' ? null : UNCOMPRESSED;
    const blob = await writeBlob(client, source.pieces, compression, label, options, call);
    return { mediaType, ...blob };
  } finally {
    source.close();
  }
}

interface Difference {
  readonly pieces: AsyncIterable<Buffer> | Iterable<Buffer>;
  close(): void;
}

async function openDifference(
  store: Store,
  targets: CompareTargets,
  sides: { readonly left: readonly Mount[]; readonly right: readonly Mount[] },
  epoch: number | undefined,
  { signal }: CallContext,
): Promise<Difference> {
  const left = targets.layersOf(sides.left);
  const right = targets.layersOf(sides.right);
  if (left === null || right === null) throw unsupported('the mounts are not of this snapshotter');
  const isBelow = left.upper === null && left.layers.every((diffId, i) => right.layers[i] === diffId);
  const more = right.layers.length - left.layers.length;
  if (isBelow && more === 0) {
    if (right.upper !== null) {
      const below: Below =
        right.lower === null ? { kind: 'nothing' } : { kind: 'mounted', path: right.lower };
      return readUpperLayer(right.upper, below, { epoch, signal });
    }
    return { pieces: [Buffer.alloc(END_OF_ARCHIVE_SIZE)], close: () => {} };
  }
  if (isBelow && more === 1 && right.upper === null) {
    const tar = readTar(locateLayerTar(store, right.layers.at(-1)!));
    return { pieces: tar, close: () => void tar.return(undefined) };
  }
  throw unsupported('it takes a snapshot and its parent');
}

/** Compresses, hashes and uploads in one pass. Nothing stays in a containerd that answers when this throws. */
async function writeBlob(
  client: RpcClient,
  pieces: Difference['pieces'],
  compression: Compression,
  label: string | null,
  { ref, labels }: CompareOptions,
  call: CallContext,
): Promise<{ digest: string; size: number }> {
  const writer = await BlobWriter.open(client, ref === '' ? `veneer-diff-${randomUUID()}` : ref, call);
  try {
    const tarHash = createHash('sha256');
    const blobHash = createHash('sha256');
    async function* hashed(): AsyncGenerator<Buffer> {
      for await (const piece of pieces) {
        throwIfAborted(call.signal);
        tarHash.update(piece);
        yield piece;
      }
    }
    for await (const piece of gather(compress(hashed(), compression))) {
      blobHash.update(piece);
      await writer.write(piece);
    }
    const digest = `sha256:${blobHash.digest('hex')}`;
    const uncompressed = label === null ? {} : { [label]: `sha256:${tarHash.digest('hex')}` };
    await writer.commit(digest, { ...labels, ...uncompressed });
    if (label !== null) await ensureLabel(client, digest, label, uncompressed[label]!, call);
    return { digest, size: writer.size };
  } catch (error) {
    await writer.abort();
    throw error;
  }
}

/** A blob that was there before kept the labels it had. */
async function ensureLabel(
  client: RpcClient,
  digest: string,
  name: string,
  value: string,
  call: CallContext,
): Promise<void> {
  const info = await blobInfo(client, digest, call);
  if (info.labels[name] === undefined) await setLabel(client, digest, { name, value }, call);
}

function compress(pieces: AsyncGenerator<Buffer>, compression: Compression): AsyncIterable<Buffer> {
  if (compression === 'none') return pieces;
  const engine = compression === 'gzip' ? createGzip() : createZstdCompress();
  return Readable.from(pieces, { objectMode: false }).compose(engine) as AsyncIterable<Buffer>;
}

/** Small pieces put together: each is a round trip. */
async function* gather(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let held: Buffer[] = [];
  let bytes = 0;
  for await (const piece of pieces) {
    held.push(piece);
    bytes += piece.length;
    if (bytes < PIECE) continue;
    yield Buffer.concat(held);
    held = [];
    bytes = 0;
  }
  if (bytes > 0) yield Buffer.concat(held);
}

function unsupported(reason: string): VeneerError {
  return new VeneerError('containerd/unsupported', `Cannot make a layer of the difference: ${reason}`);
}
