/** Fsck: whether records, files and database agree, by names and sizes; contents are `verify`'s. */
import { statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { VeneerError } from '../errors.ts';
import { parseImageConfig } from '../oci/config.ts';
import { digestOf } from '../oci/digest.ts';
import { discard, unpublishDirectory, unpublishFile } from './atomic.ts';
import { isImageFile, listDirectory, stampOf } from './catalog.ts';
import { imageChains } from './chain-ids.ts';
import { findChainRecord } from './chain-records.ts';
import { checkedName } from './checked.ts';
import { sweepDebris } from './debris.ts';
import { deviceDigest, holdsDevice } from './device-path.ts';
import { checkFsVerity, hasImmutableFlag, imageFiles } from './fs-verity.ts';
import { checkDatabase } from './fsck-database.ts';
import { imageBlobs } from './gc.ts';
import { readHolds } from './holds.ts';
import { readBlob } from './images.ts';
import { storeError } from './io-errors.ts';
import { ownFiles } from './layer-files.ts';
import { sharedRanges } from './layer-tar.ts';
import { readLayer } from './layers.ts';
import {
  CHAIN_FACTS,
  CHAIN_IMAGE,
  digestHex,
  HEX64,
  LAYER_FACTS,
  LAYER_IMAGE,
  LAYER_UNITS,
  REMNANT_DATA,
  REMNANT_FACTS,
} from './layout.ts';
import { readLeases } from './leases.ts';
import { throwIfAborted } from './locks.ts';
import { type DeviceRecord, type ImageRecord, readImageRecord, readRemnantRecord } from './records.ts';
import { coverRanges, mergeRanges, type Range } from './remnants.ts';
import type { Store } from './store.ts';
import { findTree, VERITY_FACTS, VERITY_SCOPES, VERITY_TREE } from './verity.ts';

export interface FsckOptions {
  /** Remove what is broken, what dead processes left, and images whose layers are gone; rebuild a wrong database. */
  readonly repair?: boolean;
  /** Make the database anew from the files, wrong or not. */
  readonly rebuild?: boolean;
  readonly signal?: AbortSignal;
}

export interface FsckProblem {
  /**
   * `error`: something that the store promises is not so. `note`: worth knowing and harmless, such as debris of a
   * killed process.
   */
  readonly severity: 'error' | 'note';
  readonly path: string;
  readonly message: string;
  /** What `repair` did about it. */
  repaired: boolean;
}

export interface FsckReport {
  readonly problems: FsckProblem[];
  /** Names of images that were removed because they were not whole. */
  readonly droppedImages: string[];
  readonly images: number;
  readonly layers: number;
  readonly chains: number;
  /** True when no error was found, or all were repaired. */
  readonly ok: boolean;
}

/** An image record as it was read; `problem` says why it could not be. */
interface FoundImage {
  readonly path: string;
  readonly stamp: string;
  readonly record: ImageRecord | null;
  readonly problem: string | null;
}

/**
 * Checks the store, and repairs it when asked. Safe beside pulls: what a running one needs is left alone and
 * reported as such. Throws only when the store cannot be read at all.
 */
export async function fsck(store: Store, options: FsckOptions = {}): Promise<FsckReport> {
  if (!store.exists()) return { problems: [], droppedImages: [], images: 0, layers: 0, chains: 0, ok: true };
  throwIfAborted(options.signal);
  const repair = options.repair ?? false;
  // Checking alone wants no sweep in between; repairing wants nobody to begin meanwhile.
  const lock = repair ? await store.exclusive(options.signal) : store.share();
  const run = new FsckRun(store, repair);
  try {
    run.checkAll();
  } catch (error) {
    throw storeError(`check the store ${store.layout.root}`, error);
  } finally {
    lock.release();
  }
  for (const path of run.trash) await discard(path);
  if (repair) await sweepDebris(store);
  const rebuild = options.rebuild ?? false;
  const database = checkDatabase(store, { repair: repair || rebuild, rebuild });
  if (database !== null) run.error(store.layout.database, database.message, database.repaired);
  return run.report();
}

class FsckRun {
  readonly problems: FsckProblem[] = [];
  readonly dropped: string[] = [];
  readonly trash: string[] = [];
  readonly #store: Store;
  readonly #repair: boolean;
  /** Hex of what live leases and holds need. */
  readonly #busy = new Set<string>();
  readonly #goodLayers = new Set<string>();
  /** What deduped layers point into, by hex of their diffIDs. */
  readonly #sharing = new Map<string, readonly DeviceRecord[]>();
  /** Where remnants have bytes, by hex of the digest of the whole file. */
  readonly #kept = new Map<string, readonly Range[]>();
  #images = 0;
  #chains = 0;

  constructor(store: Store, repair: boolean) {
    this.#store = store;
    this.#repair = repair;
  }

  report(): FsckReport {
    return {
      problems: this.problems,
      droppedImages: this.dropped,
      images: this.#images,
      layers: this.#goodLayers.size,
      chains: this.#chains,
      ok: this.problems.every((problem) => problem.severity === 'note' || problem.repaired),
    };
  }

  /** Synchronous from end to end: it runs under the store lock. */
  checkAll(): void {
    const { layout } = this.#store;
    const mode = statSync(layout.root).mode & 0o777;
    if ((mode & 0o077) !== 0) {
      this.note(layout.root, `others than the owner may look into the store (mode ${mode.toString(8)})`);
    }
    const leases = readLeases(this.#store);
    for (const needs of leases.live) {
      for (const digest of [...needs.layers, ...needs.chains, ...needs.blobs])
        this.#busy.add(digestHex(digest));
    }
    for (const held of readHolds(this.#store)) {
      for (const digest of [...held.layers, ...held.chains]) this.#busy.add(digestHex(digest));
    }
    for (const path of leases.dead) this.note(path, 'the lease of a process that is gone', this.#repair);
    // A pull publishes without the store lock: layers and documents, then what is made of them, the name last. So we
    // look the other way round, and whatever we have seen stands on things that are there when we come to them.
    const records = this.#readImages();
    const chains = this.#entries(layout.chains);
    const linked = this.#entries(layout.linked);
    this.#checkLayers();
    const remnants = this.#checkRemnants();
    this.#checkSharing(remnants);
    const blobs = this.#checkBlobs();
    const images = this.#checkImages(records, blobs);
    this.#checkChains(layout.chains, chains, CHAIN_IMAGE, images, remnants);
    this.#checkChains(layout.linked, linked, LAYER_IMAGE, images, remnants);
    this.#checkVerity();
    for (const image of images) this.#noteMutable(image);
    this.#noteUnused(images, blobs, remnants);
    this.#checkNames();
    this.#noteDebris();
  }

  error(path: string, message: string, repaired = false): void {
    this.problems.push({ severity: 'error', path, message, repaired });
  }

  note(path: string, message: string, repaired = false): void {
    this.problems.push({ severity: 'note', path, message, repaired });
  }

  /** Takes a broken directory or file away, unless a running pull counts on it. */
  #remove(path: string, hex: string, kind: 'directory' | 'file'): boolean {
    if (!this.#repair || this.#busy.has(hex)) return false;
    const { fsync } = this.#store;
    if (kind === 'file') return unpublishFile(path, { fsync });
    const trash = unpublishDirectory(path, { work: this.#store.layout.tmp, fsync });
    if (trash !== null) this.trash.push(trash);
    return true;
  }

  #entries(dir: string): string[] {
    const names: string[] = [];
    for (const name of listDirectory(dir)) {
      if (HEX64.test(name)) names.push(name);
      else this.note(join(dir, name), 'not a file of the store');
    }
    return names;
  }

  #checkLayers(): void {
    const { layers } = this.#store.layout;
    for (const hex of this.#entries(layers)) {
      const path = join(layers, hex);
      let files: string[] = [];
      const reason = this.#tryReason(() => {
        const record = readLayer(this.#store, `sha256:${hex}`);
        for (const { file, digest, size } of ownFiles(record)) {
          const problem = wrongSize(path, file, size) ?? this.#fsVerityProblem(join(path, file), digest);
          if (problem !== null) return problem;
        }
        files = ownFiles(record).map(({ file }) => file);
        if (record.deduped !== undefined) this.#sharing.set(hex, record.deduped.sources);
        return null;
      });
      if (reason === null) {
        this.#goodLayers.add(hex);
        this.#noteStrangers(path, [...files, checkedName(LAYER_IMAGE), LAYER_UNITS, LAYER_FACTS]);
      } else {
        this.error(path, reason, this.#remove(path, hex, 'directory'));
      }
    }
  }

  /** What is kept of files whose layers are gone. Hex of those that are whole. */
  #checkRemnants(): Set<string> {
    const { remnants } = this.#store.layout;
    const good = new Set<string>();
    for (const hex of this.#entries(remnants)) {
      const path = join(remnants, hex);
      const reason = this.#tryReason(() => {
        const record = readRemnantRecord(join(path, REMNANT_FACTS));
        if (record.digest !== `sha256:${hex}`) return `it is about ${record.digest}`;
        this.#kept.set(hex, mergeRanges(record.ranges, record.size));
        return wrongSize(path, REMNANT_DATA, record.size);
      });
      if (reason === null) {
        good.add(hex);
        this.#noteStrangers(path, [REMNANT_DATA, REMNANT_FACTS]);
      } else {
        this.error(path, reason, this.#remove(path, hex, 'directory'));
      }
    }
    return good;
  }

  /** Layers that share data are whole when all that they point into is. One may take away what another one needs. */
  #checkSharing(remnants: ReadonlySet<string>): void {
    const { layout } = this.#store;
    for (let changed = true; changed; ) {
      changed = false;
      for (const [hex, sources] of this.#sharing) {
        if (!this.#goodLayers.has(hex)) continue;
        const gone = sources.find((device) => !this.#isThere(device, remnants));
        const message =
          gone === undefined
            ? this.#tryReason(() => this.#notKept(hex))
            : `it shares data with ${gone.file} of layer ${gone.diffId}, which is missing or damaged`;
        if (message === null) continue;
        changed = true;
        this.#goodLayers.delete(hex);
        const path = join(layout.layers, hex);
        this.error(path, message, this.#remove(path, hex, 'directory'));
      }
    }
  }

  /** What a layer needs of files of which only a part was kept, and is not in that part. */
  #notKept(hex: string): string | null {
    const store = this.#store;
    const isLeft = (device: DeviceRecord): boolean =>
      !(this.#goodLayers.has(digestHex(device.diffId)) && holdsDevice(store, device));
    if (!this.#sharing.get(hex)!.some(isLeft)) return null;
    for (const { device, ranges } of sharedRanges(store, readLayer(store, `sha256:${hex}`))) {
      if (!isLeft(device)) continue;
      const kept = this.#kept.get(digestHex(deviceDigest(store, device)))!;
      if (!coverRanges(kept, mergeRanges(ranges, device.size)))
        return `it shares data with ${device.file} of layer ${device.diffId}, of which less was kept than it needs`;
    }
    return null;
  }

  #isThere(device: DeviceRecord, remnants: ReadonlySet<string>): boolean {
    if (this.#goodLayers.has(digestHex(device.diffId)) && holdsDevice(this.#store, device)) return true;
    return remnants.has(digestHex(deviceDigest(this.#store, device)));
  }

  /** Small documents: hashing them costs nothing. Returns the hex of the good ones. */
  #checkBlobs(): Set<string> {
    const { blobs } = this.#store.layout;
    const good = new Set<string>();
    for (const hex of this.#entries(blobs)) {
      const path = join(blobs, hex);
      const reason = this.#tryReason(() => {
        const found = digestOf(readBlob(this.#store, `sha256:${hex}`));
        return found === `sha256:${hex}` ? null : `its content has the digest ${found}`;
      });
      if (reason === null) good.add(hex);
      else this.error(path, reason, this.#remove(path, hex, 'file'));
    }
    return good;
  }

  #readImages(): FoundImage[] {
    const found: FoundImage[] = [];
    for (const file of listDirectory(this.#store.layout.images)) {
      const path = join(this.#store.layout.images, file);
      if (!isImageFile(file)) {
        this.note(path, 'not a file of the store');
        continue;
      }
      const stamp = stampOf(path);
      let record: ImageRecord | null = null;
      const problem = this.#tryReason(() => {
        record = readImageRecord(path);
        return null;
      });
      // `rm` takes names away at any time.
      if (stamp !== null && stampOf(path) !== null) found.push({ path, stamp, record, problem });
    }
    return found;
  }

  /** Returns the images that are whole. */
  #checkImages(found: readonly FoundImage[], blobs: ReadonlySet<string>): ImageRecord[] {
    const whole: ImageRecord[] = [];
    for (const { path, stamp, record, problem } of found) {
      const reason =
        record === null ? problem : this.#tryReason(() => this.#brokenImage(path, record, blobs));
      if (reason === null && record !== null) {
        whole.push(record);
        continue;
      }
      const message = record === null ? String(reason) : `image ${record.name} is not whole: ${reason}`;
      // Only what we have judged: a pull may have given the name to another image since.
      const removed =
        this.#repair && stampOf(path) === stamp && unpublishFile(path, { fsync: this.#store.fsync });
      if (removed) this.dropped.push(record === null ? basename(path) : record.name);
      this.error(path, message, removed);
    }
    this.#images = whole.length;
    return whole;
  }

  #brokenImage(path: string, record: ImageRecord, blobs: ReadonlySet<string>): string | null {
    if (this.#store.layout.image(record.name) !== path) return `the file is not named after "${record.name}"`;
    for (const [what, blob] of [
      ['manifest', record.manifest],
      ['config', record.config],
    ] as const) {
      if (!blobs.has(digestHex(blob.digest))) return `its ${what} ${blob.digest} is missing or damaged`;
    }
    const config = parseImageConfig(readBlob(this.#store, record.config.digest), 'its config');
    if (config.diffIds.join() !== record.layers.map((layer) => layer.diffId).join()) {
      return 'its layers are not those of its config';
    }
    if (imageChains(record).at(-1) !== record.chainId) return 'its chain is not that of its layers';
    const missing = record.layers.find((layer) => !this.#goodLayers.has(digestHex(layer.diffId)));
    return missing === undefined ? null : `layer ${missing.diffId} is missing or damaged`;
  }

  #checkChains(
    dir: string,
    names: readonly string[],
    file: string,
    images: readonly ImageRecord[],
    remnants: ReadonlySet<string>,
  ): void {
    const used = new Set(images.flatMap((image) => imageChains(image).map(digestHex)));
    for (const hex of names) {
      const path = join(dir, hex);
      const reason = this.#tryReason(() => {
        const record = findChainRecord(path, `sha256:${hex}`);
        if (record === null) return `${CHAIN_FACTS} is missing`;
        const gone = record.diffIds.find((diffId) => !this.#goodLayers.has(digestHex(diffId)));
        if (gone !== undefined) return `its layer ${gone} is gone`;
        const device = record.devices.find((one) => !this.#isThere(one, remnants));
        if (device !== undefined) return `${device.file} of layer ${device.diffId} is gone`;
        const { digest, size } = record.image;
        return wrongSize(path, file, size) ?? this.#fsVerityProblem(join(path, file), digest);
      });
      if (reason !== null) {
        this.error(path, reason, this.#remove(path, hex, 'directory'));
        continue;
      }
      this.#chains++;
      this.#noteStrangers(path, [file, checkedName(file), CHAIN_FACTS]);
      if (!used.has(hex) && !this.#busy.has(hex)) this.note(path, 'no image uses it; `veneer gc` removes it');
    }
  }

  /** Hash trees against their own root hashes. */
  #checkVerity(): void {
    const store = this.#store;
    for (const scope of VERITY_SCOPES) {
      const dir = join(store.layout.verity, scope);
      for (const hex of this.#entries(dir)) {
        const path = join(dir, hex);
        const reason = this.#tryReason(() => {
          const found = findTree(store, scope, `sha256:${hex}`);
          return found === null ? `${VERITY_FACTS} is missing` : null;
        });
        if (reason !== null) this.error(path, reason, this.#remove(path, hex, 'directory'));
        else this.#noteStrangers(path, [VERITY_TREE, VERITY_FACTS]);
      }
    }
  }

  #noteUnused(
    images: readonly ImageRecord[],
    blobs: ReadonlySet<string>,
    remnants: ReadonlySet<string>,
  ): void {
    const { layout } = this.#store;
    const used = new Set<string>();
    for (const sources of this.#sharing.values()) {
      for (const device of sources) {
        used.add(digestHex(device.diffId));
        if (!holdsDevice(this.#store, device)) used.add(digestHex(deviceDigest(this.#store, device)));
      }
    }
    for (const image of images) {
      for (const layer of image.layers) used.add(digestHex(layer.diffId));
      for (const digest of imageBlobs(image)) used.add(digestHex(digest));
      if (image.index !== null && !blobs.has(digestHex(image.index.digest))) {
        this.note(layout.blob(image.index.digest), `the index that ${image.name} was chosen from is missing`);
      }
    }
    const unused = (dir: string, names: Iterable<string>): void => {
      for (const hex of names) {
        if (!used.has(hex) && !this.#busy.has(hex)) {
          this.note(join(dir, hex), 'no image uses it; `veneer gc` removes it');
        }
      }
    };
    unused(layout.layers, this.#goodLayers);
    unused(layout.remnants, remnants);
    unused(layout.blobs, blobs);
  }

  #noteStrangers(dir: string, expected: readonly string[]): void {
    for (const name of listDirectory(dir)) {
      if (!expected.includes(name)) this.note(join(dir, name), 'not a file of the store');
    }
  }

  #checkNames(): void {
    const { layout } = this.#store;
    const own =
      /^(?:store\.db(?:-journal)?|blobs|images|layers|chains|linked|remnants|store\.json|verity|tmp|leases|holds|checkouts|objects|containerd|lock|run|lost\+found)$/;
    for (const name of listDirectory(layout.root)) {
      if (!own.test(name)) this.note(join(layout.root, name), 'not a file of the store');
    }
  }

  /** Whether it is debris only a lock tells, and `repair` sweeps it afterwards. */
  #noteDebris(): void {
    const { layout } = this.#store;
    for (const name of listDirectory(layout.tmp)) {
      const path = join(layout.tmp, name);
      if (!name.startsWith('work-') || name.endsWith('.lock')) continue;
      if (this.#store.isLiveWork(path)) continue;
      this.note(path, 'unfinished work of a process that is gone', this.#repair);
    }
  }

  /** An image is made immutable as a whole: files without the flag lost it, or were replaced. */
  #noteMutable(image: ImageRecord): void {
    let files: { path: string; immutable: boolean }[];
    try {
      files = imageFiles(this.#store, image).map(({ path }) => ({ path, immutable: hasImmutableFlag(path) }));
    } catch {
      return; // What cannot be read was reported.
    }
    if (!files.some(({ immutable }) => immutable)) return;
    for (const { path, immutable } of files) {
      if (!immutable) this.note(path, `not immutable, as other files of ${image.name} are`);
    }
  }

  #fsVerityProblem(path: string, digest: string): string | null {
    return checkFsVerity(this.#store, { path, digest }).problem;
  }

  /** Runs a check that returns what is wrong, or null; what it throws is what is wrong. */
  #tryReason(check: () => string | null): string | null {
    try {
      return check();
    } catch (error) {
      if (error instanceof VeneerError) return error.message;
      throw error;
    }
  }
}

function wrongSize(dir: string, file: string, size: number): string | null {
  const found = statSync(join(dir, file), { throwIfNoEntry: false });
  if (found === undefined) return `${file} is missing`;
  return found.size === size ? null : `${file} has ${found.size} bytes, not ${size}`;
}
