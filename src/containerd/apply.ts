/**
 * Apply: a blob of containerd's content store becomes a layer of ours, and the snapshot whose mounts came with it shows
 * that layer. Nothing is unpacked; the mounts only tell which snapshot it is.
 */
import { availableParallelism } from 'node:os';
import { VeneerError } from '../errors.ts';
import { describeLayerType, OCI_LAYER } from '../oci/media-type.ts';
import { readLayer } from '../store/layers.ts';
import { isDigest } from '../store/layout.ts';
import { throwIfAborted } from '../store/locks.ts';
import type { BlobRef } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import { blobInfo } from './content-client.ts';
import { ContentRoot } from './content-root.ts';
import { Conversions, type Expected } from './conversions.ts';
import type { Mount } from './gen/types_pb.ts';
import { layersBeside, layersOf } from './image-layers.ts';
import { KnownLayers } from './known-layers.ts';
import type { CallContext, RpcClient } from './rpc-client.ts';
import { Slots } from './slots.ts';
import type { Upload } from './uploads.ts';

/** What the differ needs of the snapshotter. */
export interface LayerTargets {
  /** The active snapshot that these mounts came from; null when they are not ours. */
  findByMounts(mounts: readonly Mount[]): number | null;
  /** Makes the snapshot show the layer, which stays as long as the snapshot. False when the layer is not there. */
  addLayer(id: number, diffId: string): Promise<boolean>;
  /** Makes the snapshot's mounts such that any other differ can unpack into them. */
  expose(id: number): void | Promise<void>;
}

/** The uncompressed layer, as containerd wants to know it. */
export interface AppliedLayer {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

export interface ApplyDescriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/** Images whose layers are remembered, so that containerd is asked once an image. */
const IMAGES_KEPT = 64;
/** Blobs that wait for a free slot before they are asked for; more than that are not converted ahead. */
const ARRIVALS_KEPT = 256;
/** Blobs that are looked at at a time, whether they are layers or name some. */
const LOOKS = 2;

export interface ApplierOptions {
  /** Default: one of its own. */
  readonly contentRoot?: ContentRoot;
  /** Blobs that are converted at a time; default two more than there are processors. */
  readonly concurrency?: number | undefined;
  /** All layers of an image are in the store, but not yet all in its snapshots; diffIDs, bottom first. */
  readonly onImage?: (diffIds: readonly string[]) => void;
  /** Some layers of an image are in the store, told once each: the others are on their way. */
  readonly onLayers?: (diffIds: readonly string[]) => void;
  /** Layers may be in the store that nobody holds. */
  readonly onGarbage?: () => void;
  readonly onProblem?: (what: string, error: unknown) => void;
}

/** An image that is being unpacked. */
interface Unpacking {
  readonly layers: readonly BlobRef[];
  /** Digests of blobs that no snapshot has been given yet. */
  readonly left: Set<string>;
  /** diffIDs that `onLayers` has been told of. */
  readonly seen: Set<string>;
  /** `onImage` has been told of it. */
  told: boolean;
}

export class Applier {
  readonly #store: Store;
  readonly #client: RpcClient;
  readonly #targets: LayerTargets;
  readonly #conversions: Conversions;
  readonly #known: KnownLayers;
  readonly #onImage: (diffIds: readonly string[]) => void;
  readonly #onLayers: (diffIds: readonly string[]) => void;
  /** The latest last. */
  readonly #images: Unpacking[] = [];
  /** Blobs that came in, and may be asked for as layers. */
  readonly #arrived = new Map<string, Expected>();
  readonly #looks = new Slots(LOOKS);
  /** Blobs that come in are for us: thought until one is not asked for, and again when one is. */
  #expectant = true;

  constructor(store: Store, client: RpcClient, targets: LayerTargets, options: ApplierOptions = {}) {
    const threads = availableParallelism();
    this.#store = store;
    this.#client = client;
    this.#targets = targets;
    // While one waits for the disk, another has its thread; and one slot is kept for what is asked for.
    const slots = options.concurrency ?? threads + 2;
    const onLayer = (diffId: string): void => {
      // Imports name the layers of an image last: until then each may be one that will be merged. Before the merge is
      // begun with, which makes reading ahead vain.
      if (this.#expectant) onLayers([diffId]);
      this.#tell();
    };
    const { onImage = () => {}, onLayers = () => {}, onGarbage = () => {}, onProblem = () => {} } = options;
    const onUnused = (): void => {
      this.#expectant = false;
      this.#arrived.clear();
      for (const image of [...this.#images]) this.#forget(image);
    };
    const told = { onLayer, onGarbage, onUnused, onProblem };
    const { contentRoot = new ContentRoot(client) } = options;
    this.#conversions = new Conversions(store, client, { contentRoot, threads, slots, ...told });
    this.#known = new KnownLayers(store);
    this.#onImage = onImage;
    this.#onLayers = onLayers;
  }

  /** Blobs that are being converted, and that wait for their turn. */
  get load(): { readonly running: number; readonly waiting: number } {
    return this.#conversions.load;
  }

  /** Whether blobs are being converted that are there: those that are still coming may come for a long time. */
  get isConverting(): boolean {
    return this.#conversions.isBusy;
  }

  /**
   * Throws `containerd/unsupported`, so that containerd asks the next differ, when the mounts are not ours or the
   * blob is no layer that we read (an encrypted one is not); what ingesting throws; `io/cancelled`.
   */
  async apply(
    descriptor: ApplyDescriptor,
    mounts: readonly Mount[],
    call: CallContext,
  ): Promise<AppliedLayer> {
    const id = this.#targets.findByMounts(mounts);
    if (id === null) throw unsupported(descriptor, 'the mounts are not of this snapshotter');
    this.#expectant = true;
    const reason = whyUnread(descriptor);
    if (reason !== null) {
      await this.#targets.expose(id);
      throw unsupported(descriptor, reason);
    }
    // Asked for each caller anew: another namespace's blobs are none of its business.
    const { size } = await blobInfo(this.#client, descriptor.digest, call);
    const blob = {
      digest: descriptor.digest,
      size: checkedSize(descriptor, size),
      mediaType: descriptor.mediaType,
    };
    const diffId = await this.#addLayer(id, blob, call).catch((error: unknown) => {
      if (call.signal?.aborted) this.#giveUp(blob.digest);
      throw error;
    });
    return { mediaType: OCI_LAYER, digest: diffId, size: readLayer(this.#store, diffId).tarSize };
  }

  /** containerd has a new blob: begins with it when it looks like a layer that will be asked for, or says which will. */
  async blobArrived(digest: string, size: bigint, call: CallContext): Promise<void> {
    if (!this.#expectant || size > BigInt(Number.MAX_SAFE_INTEGER)) return;
    await this.#looks.run(() => this.#lookAt(digest, size, call));
  }

  /** A blob is being uploaded that looks like a layer. False: nothing is done about it yet. */
  uploadBegan(upload: Upload): boolean {
    const { digest } = upload.blob;
    if (!this.#expectant || this.#conversions.has(digest)) return true;
    if (!this.#conversions.mayFollow()) return false;
    if (this.#known.find(digest) !== null) return true;
    this.#conversions.follow(upload, () => {
      void this.#conversions.workOnArrived(this.#arrived).catch(() => {});
    });
    return true;
  }

  /** containerd has let go of a blob. */
  blobDeleted(digest: string): void {
    this.#arrived.delete(digest);
    for (const image of this.#images.filter(({ left }) => left.has(digest))) this.#forget(image);
    this.#conversions.drop([digest]);
  }

  /** Ends the threads; call it when no call is running. */
  close(): Promise<void> {
    this.#expectant = false;
    return this.#conversions.close();
  }

  /** What was thought when the blob came may be over when its turn is, and when containerd has answered. */
  async #lookAt(digest: string, size: bigint, call: CallContext): Promise<void> {
    if (!this.#expectant) return;
    const blob = await this.#conversions.guessLayer(digest, Number(size), call);
    if (blob === null) {
      if (!this.#expectant) return;
      const layers = await layersOf(this.#client, { digest, size }, call);
      if (this.#expectant) this.#remember(layers);
    } else if (this.#expectant && this.#known.find(digest) === null) {
      if (this.#arrived.size < ARRIVALS_KEPT) this.#arrived.set(digest, { blob, call });
      await this.#conversions.workOnArrived(this.#arrived);
    }
  }

  async #addLayer(id: number, blob: BlobRef, call: CallContext): Promise<string> {
    void this.#workAhead(blob, call).catch(() => {});
    for (;;) {
      throwIfAborted(call.signal);
      const add = async (diffId: string): Promise<string | null> =>
        (await this.#targets.addLayer(id, diffId)) ? diffId : null;
      const stored = this.#conversions.has(blob.digest) ? null : this.#known.find(blob.digest);
      const diffId = await (stored === null ? this.#conversions.take(blob, call, add) : add(stored));
      // It went away in this moment.
      if (diffId === null) continue;
      this.#markDone(blob.digest);
      return diffId;
    }
  }

  /** Others of the same image, which containerd will ask for next. */
  async #workAhead(blob: BlobRef, call: CallContext): Promise<void> {
    let image = this.#imageWith(blob.digest);
    if (image === undefined) {
      const layers = await layersBeside(this.#client, blob.digest, call);
      // Asked once also when containerd does not tell.
      image = this.#remember(layers, [blob, ...layers]);
      if (image === undefined) return;
    }
    const { layers, left } = image;
    const expected = layers.map((layer) => ({ blob: layer, call }));
    await this.#conversions.workAhead(() => expected.filter((one) => left.has(one.blob.digest)));
  }

  /** `blobs`: what may be asked for. Undefined when there is nothing left to do for them. */
  #remember(layers: readonly BlobRef[], blobs = layers): Unpacking | undefined {
    const digests = blobs.map(({ digest }) => digest);
    const known = this.#known.all();
    const left = digests.filter((digest) => !known.has(digest) || this.#conversions.has(digest));
    if (left.length === 0) return undefined;
    const image = { layers, left: new Set(left), seen: new Set<string>(), told: false };
    this.#images.push(image);
    if (this.#images.length > IMAGES_KEPT) this.#forget(this.#images[0]!);
    this.#tell();
    return image;
  }

  #imageWith(digest: string): Unpacking | undefined {
    return this.#images.findLast(({ left }) => left.has(digest));
  }

  /** Nothing more is begun for it. */
  #forget(image: Unpacking): void {
    image.left.clear();
    const at = this.#images.indexOf(image);
    if (at >= 0) this.#images.splice(at, 1);
  }

  /** What has become known of images. */
  #tell(): void {
    const images = this.#images.filter(({ layers, told }) => layers.length > 0 && !told);
    if (images.length === 0) return;
    const known = this.#known.all();
    for (const image of images) {
      const diffIds = image.layers.map(({ digest }) => known.get(digest)).filter((one) => one !== undefined);
      if (diffIds.length === image.layers.length) {
        image.told = true;
        this.#onImage(diffIds);
        continue;
      }
      const unseen = diffIds.filter((diffId) => !image.seen.has(diffId));
      for (const diffId of unseen) image.seen.add(diffId);
      if (unseen.length > 0) this.#onLayers(unseen);
    }
  }

  /** Whoever goes on with the image begins anew. */
  #giveUp(digest: string): void {
    const image = this.#imageWith(digest);
    if (image === undefined) return;
    this.#conversions.drop(image.left);
    for (const left of image.left) this.#arrived.delete(left);
    this.#forget(image);
  }

  #markDone(digest: string): void {
    this.#arrived.delete(digest);
    for (const image of [...this.#images]) {
      image.left.delete(digest);
      if (image.left.size === 0) this.#forget(image);
    }
  }
}

function whyUnread({ mediaType, digest }: ApplyDescriptor): string | null {
  if (describeLayerType(mediaType) === null) return `${mediaType} is no layer that veneer reads`;
  if (!isDigest(digest)) return 'veneer takes sha256 digests only';
  return null;
}

function checkedSize({ digest, size }: ApplyDescriptor, stored: bigint): number {
  // Some clients leave the size out.
  if (stored < 0n || stored > BigInt(Number.MAX_SAFE_INTEGER) || (size !== 0 && BigInt(size) !== stored)) {
    throw new VeneerError(
      'store/mismatch',
      `Cannot accept blob ${digest}: it has ${stored} bytes, its descriptor says ${size}`,
    );
  }
  return Number(stored);
}

function unsupported({ digest }: ApplyDescriptor, reason: string): VeneerError {
  return new VeneerError('containerd/unsupported', `Cannot apply ${digest}: ${reason}`);
}
