/**
 * Blobs that are being made into layers: each once, however many want it, and ahead of time where a processor is free.
 *
 * A converted layer stands in the store under a lease of ours until whoever wants it holds it by other means; what
 * nobody takes is left to the next sweep.
 */
import { statSync } from 'node:fs';
import { detectCompression } from '../compress/index.ts';
import { OCI_LAYER } from '../oci/media-type.ts';
import { IngestPool, type TarStream } from '../store/ingest-pool.ts';
import type { BlobFile } from '../store/ingest-worker.ts';
import { isDigest } from '../store/layout.ts';
import { NO_NEEDS, takeLease } from '../store/leases.ts';
import { type Lock, orAborted, throwIfAborted } from '../store/locks.ts';
import { ingestNewLayer, type NewLayer } from '../store/new-layer.ts';
import type { BlobRef } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import { blobInfo, readBlobBytes } from './content-client.ts';
import type { ContentRoot } from './content-root.ts';
import type { Info } from './gen/content_pb.ts';
import { type CallContext, passOn, type RpcClient } from './rpc-client.ts';
import { Slots } from './slots.ts';
import { hasSpareRoom } from './spare-room.ts';
import type { Upload } from './uploads.ts';

/** A layer that was made ahead waits for so many milliseconds; the layers below it may be large. */
const KEPT_AHEAD = 120_000;
/** When nothing was asked for or converted for so long, nobody is unpacking its image. */
const QUIET = 20_000;
/** containerd and its clients label blobs that they have made with their diffID; what was fetched has it later. */
const MADE_HERE = 'containerd.io/uncompressed';
/** Threads that nobody needs give back after so many what they have in memory. */
const IDLE = 10_000;
/** A slot that whoever asks finds free, however much is made ahead. */
const KEPT_FREE = 1;
/** While guesses are made into layers, the disk is looked at so often: a small blob can become a very large layer. */
const ROOM_LOOK = 250;

/** A blob that may be asked for, and in whose name containerd is asked for it. */
export interface Expected {
  readonly blob: BlobRef;
  readonly call: CallContext;
}

/** Told with what containerd says of the blob, null where it is not there. */
type IsWanted = (expected: Expected, info: Info | null) => boolean;

interface Converted {
  readonly diffId: string;
  readonly lease: Lock;
}

interface Conversion {
  readonly layer: Promise<Converted>;
  readonly stop: AbortController;
  /** Callers that need it. */
  waiting: number;
  /** Made without being asked for, and not asked for yet. */
  ahead: boolean;
  /** It came in, and that is all that speaks for it. */
  guess: boolean;
  /** It is converted as it is uploaded; null once it is done. */
  upload: Upload | null;
}

type HowBegun = Pick<Conversion, 'ahead' | 'guess' | 'upload'>;
const ASKED_FOR: HowBegun = { ahead: false, guess: false, upload: null };

export interface ConversionsOptions {
  readonly contentRoot: ContentRoot;
  readonly threads: number;
  readonly slots: number;
  /** A layer was converted, and is in the store. */
  readonly onLayer: (diffId: string) => void;
  /** Layers may be in the store that nobody holds. */
  readonly onGarbage: () => void;
  /** A layer was made ahead, and nobody asked for it. */
  readonly onUnused: () => void;
  readonly onProblem: (what: string, error: unknown) => void;
}

export class Conversions {
  readonly #store: Store;
  readonly #client: RpcClient;
  readonly #contentRoot: ContentRoot;
  readonly #pool: IngestPool;
  readonly #slots: Slots;
  readonly #options: ConversionsOptions;
  readonly #running = new Map<string, Conversion>();
  /** Abandoned ones that are not cleared away yet. */
  readonly #leaving = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  #busy = 0;
  /** So many of them are uploads. */
  #following = 0;
  #idle: NodeJS.Timeout | null = null;
  #quiet: NodeJS.Timeout | null = null;
  #room: NodeJS.Timeout | null = null;

  constructor(store: Store, client: RpcClient, options: ConversionsOptions) {
    this.#store = store;
    this.#client = client;
    this.#options = options;
    this.#contentRoot = options.contentRoot;
    this.#pool = new IngestPool(options.threads);
    this.#pool.start();
    this.#slots = new Slots(options.slots);
  }

  /** Blobs at work, and those that wait for a slot. */
  get load(): { readonly running: number; readonly waiting: number } {
    return { running: this.#busy, waiting: this.#slots.waiting };
  }

  /** Whether somebody is at the blob, or its layer waits to be asked for. */
  has(digest: string): boolean {
    return this.#running.has(digest);
  }

  /**
   * Converts the blob, or waits for whoever is at it, and calls `use` with the diffID. The layer stays until then.
   * The work ends when nobody waits for it any more.
   */
  async take<T>(blob: BlobRef, call: CallContext, use: (diffId: string) => Promise<T>): Promise<T> {
    for (;;) {
      const conversion = this.#find(blob.digest) ?? this.#start(blob, call);
      conversion.waiting++;
      this.#awaitQuiet();
      let isUsed = false;
      try {
        const layer = await orAborted(conversion.layer, call.signal).catch((error: unknown) => {
          if (conversion.upload === null || call.signal?.aborted) throw error;
        });
        // What was uploaded was not the blob, or not all of it; by now it is there.
        if (layer === undefined) continue;
        conversion.ahead = false;
        const result = await use(layer.diffId);
        isUsed = true;
        return result;
      } finally {
        conversion.waiting--;
        if (conversion.waiting === 0 && !conversion.ahead) this.#end(blob.digest, conversion, isUsed);
      }
    }
  }

  /** Who is at a blob that containerd has: not whoever follows an upload that claims to be it, and is not. */
  #find(digest: string): Conversion | undefined {
    const conversion = this.#running.get(digest);
    if (conversion === undefined || conversion.upload === null) return conversion;
    const { target, inode } = conversion.upload;
    // containerd commits by renaming the file, when it has the digest.
    if (statSync(target, { throwIfNoEntry: false })?.ino === inode) return conversion;
    this.#end(digest, conversion);
    return undefined;
  }

  /** Whether blobs that are there are being converted. */
  get isBusy(): boolean {
    return this.#busy > this.#following;
  }

  /** Whether an upload may be begun with: it may take long, and the disk may have no room for what may be in vain. */
  mayFollow(): boolean {
    const most = Math.max(1, this.#options.slots - KEPT_FREE - 1);
    return this.#following < most && this.#slots.free > KEPT_FREE && hasSpareRoom(this.#store.layout.root);
  }

  /** Converts a blob as it is uploaded, and calls `onEnd` then. Call it when {@link mayFollow} says so. */
  follow(upload: Upload, onEnd: () => void): void {
    const { blob, path } = upload;
    const input = { path, offset: 0, length: blob.size, grows: true };
    const work = (signal: AbortSignal) => this.#ingest(blob, input, signal);
    const conversion = this.#launch(blob, work, { ahead: true, guess: true, upload });
    this.#following++;
    conversion.layer
      .then(
        () => {
          conversion.upload = null;
        },
        () => {},
      )
      .finally(() => {
        this.#following--;
        onEnd();
      });
  }

  /** Nobody will ask for these any more: ends what was begun ahead and is not waited for. */
  drop(digests: Iterable<string>): void {
    for (const digest of digests) {
      const conversion = this.#running.get(digest);
      if (conversion?.waiting === 0) this.#end(digest, conversion);
    }
  }

  /**
   * Begins with blobs that came in, while the disk has room for what may be in vain. They leave the map as they are
   * begun with, or turn out to be for nobody.
   */
  async workOnArrived(arrived: Map<string, Expected>): Promise<void> {
    const isWanted: IsWanted = ({ blob }, info) => {
      arrived.delete(blob.digest);
      return info !== null && info.labels[MADE_HERE] === undefined && hasSpareRoom(this.#store.layout.root);
    };
    await this.#workAhead(() => [...arrived.values()], isWanted, true);
  }

  /**
   * Begins with blobs that will be asked for, as many as there are slots free, and goes on with those that `left` names
   * then. Blobs that are not there yet are left out.
   */
  async workAhead(left: () => readonly Expected[]): Promise<void> {
    for (const { blob } of left()) {
      const conversion = this.#running.get(blob.digest);
      if (conversion?.upload === null) conversion.guess = false;
    }
    await this.#workAhead(left, (_, info) => info !== null, false);
  }

  async #workAhead(left: () => readonly Expected[], isWanted: IsWanted, guess: boolean): Promise<void> {
    for (const expected of left()) {
      const { blob, call } = expected;
      if (this.#slots.free <= KEPT_FREE) return;
      if (this.#running.has(blob.digest) || !isDigest(blob.digest)) continue;
      const found = await blobInfo(this.#client, blob.digest, call).catch(() => null);
      if (this.#closing.signal.aborted || this.#slots.free <= KEPT_FREE) return;
      // It was asked for meanwhile, and is done or begun with.
      if (!left().includes(expected) || this.#running.has(blob.digest)) continue;
      if (!isWanted(expected, found?.size === BigInt(blob.size) ? found : null)) continue;
      const conversion = this.#start(blob, call, { ahead: true, guess, upload: null });
      conversion.layer.then(
        () => void this.#workAhead(left, isWanted, guess).catch(() => {}),
        // Whoever asks for it is told.
        () => {},
      );
    }
  }

  /**
   * What the blob would be as a layer, by its first bytes: null for what is no compressed one, and where containerd's
   * files are not to be seen.
   */
  async guessLayer(digest: string, size: number, call: CallContext): Promise<BlobRef | null> {
    const head = await this.#contentRoot.peek(digest, size, call);
    const compression = head === null ? 'none' : detectCompression(head);
    return compression === 'none' ? null : { digest, size, mediaType: `${OCI_LAYER}+${compression}` };
  }

  /** Ends the threads and throws away what nobody took; call it when no caller waits. Nothing is begun after it. */
  async close(): Promise<void> {
    this.#closing.abort();
    for (const timer of [this.#idle, this.#quiet, this.#room]) if (timer !== null) clearTimeout(timer);
    for (const [digest, conversion] of this.#running) this.#end(digest, conversion);
    await Promise.all(this.#leaving);
    await this.#pool.close();
  }

  #start(blob: BlobRef, call: CallContext, how = ASKED_FOR): Conversion {
    // Not under the caller's signal: others may wait, too.
    const { metadata } = passOn(call.metadata);
    const work = async (signal: AbortSignal): Promise<Converted> => {
      const own: CallContext = { metadata, signal };
      const file = await this.#contentRoot.locate(blob.digest, blob.size, own);
      return this.#ingest(blob, file ?? readBlobBytes(this.#client, blob.digest, own), signal);
    };
    return this.#launch(blob, work, how);
  }

  #launch(blob: BlobRef, work: (signal: AbortSignal) => Promise<Converted>, how: HowBegun): Conversion {
    throwIfAborted(this.#closing.signal);
    const stop = new AbortController();
    const layer = this.#slots.run(() => this.#busily(() => work(stop.signal)), stop.signal);
    const conversion: Conversion = { layer, stop, waiting: 0, ...how };
    this.#running.set(blob.digest, conversion);
    if (how.guess) this.#watchRoom();
    layer
      .then(
        ({ diffId }) => {
          if (how.ahead) this.#expireLater(blob.digest, conversion);
          this.#options.onLayer(diffId);
        },
        () => this.#forget(blob.digest, conversion),
      )
      .catch((error: unknown) => this.#options.onProblem('tell of a new layer', error));
    return conversion;
  }

  async #ingest(blob: BlobRef, input: BlobFile | TarStream, signal: AbortSignal): Promise<Converted> {
    const layer = await ingestNewLayer(this.#store, this.#pool, input, { id: blob.digest, blob, signal });
    const { diffId } = layer.ingested;
    return { diffId, lease: await this.#publish(layer) };
  }

  async #busily<T>(work: () => Promise<T>): Promise<T> {
    this.#busy++;
    if (this.#idle !== null) clearTimeout(this.#idle);
    try {
      return await work();
    } finally {
      this.#busy--;
      this.#awaitQuiet();
      if (this.#busy === 0) {
        this.#idle = setTimeout(() => void this.#renewThreads(), IDLE).unref();
      }
    }
  }

  async #renewThreads(): Promise<void> {
    try {
      await this.#pool.close();
      if (!this.#closing.signal.aborted) this.#pool.start();
    } catch (error) {
      this.#options.onProblem('renew idle threads', error);
    }
  }

  async #publish(layer: NewLayer): Promise<Lock> {
    let lease: Lock;
    try {
      lease = takeLease(this.#store, 'convert', { ...NO_NEEDS, layers: [layer.ingested.diffId] });
    } catch (error) {
      await layer.discard();
      throw error;
    }
    try {
      await layer.publish();
      return lease;
    } catch (error) {
      lease.release();
      throw error;
    }
  }

  /** Guesses are let go of while the disk is short of room; a sweep gives it back. */
  #watchRoom(): void {
    this.#room ??= setInterval(() => {
      const guesses = [...this.#running].filter(([, { guess, waiting }]) => guess && waiting === 0);
      if (guesses.length === 0) {
        clearInterval(this.#room!);
        this.#room = null;
      } else if (!hasSpareRoom(this.#store.layout.root)) this.drop(guesses.map(([digest]) => digest));
    }, ROOM_LOOK).unref();
  }

  #expireLater(digest: string, conversion: Conversion): void {
    setTimeout(() => {
      // Layers of a pull wait for the largest of them.
      if (this.#following > 0) this.#expireLater(digest, conversion);
      else this.#expire(digest, conversion);
    }, KEPT_AHEAD).unref();
  }

  #expire(digest: string, conversion: Conversion): void {
    if (this.#running.get(digest) !== conversion || conversion.waiting > 0) return;
    this.#options.onUnused();
    this.drop([digest]);
  }

  #awaitQuiet(): void {
    if (this.#quiet !== null) clearTimeout(this.#quiet);
    this.#quiet = setTimeout(() => {
      if (this.#busy > 0) this.#awaitQuiet();
      else for (const [digest, conversion] of this.#running) this.#expire(digest, conversion);
    }, QUIET).unref();
  }

  #forget(digest: string, conversion: Conversion): void {
    if (this.#running.get(digest) === conversion) this.#running.delete(digest);
  }

  /** Nobody needs it, or needs us for it, any more. */
  #end(digest: string, conversion: Conversion, isUsed = false): void {
    this.#forget(digest, conversion);
    conversion.stop.abort();
    const left = conversion.layer
      .then(({ lease }) => {
        lease.release();
        if (!isUsed && !this.#closing.signal.aborted) this.#options.onGarbage();
      })
      .catch(() => {});
    this.#leaving.add(left);
    void left.then(() => this.#leaving.delete(left));
  }
}
