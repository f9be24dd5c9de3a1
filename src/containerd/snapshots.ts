/**
 * Snapshots with containerd's semantics, over the store's layers and chains.
 *
 * A committed snapshot is a list of layers; what it shows is their merged image. An active one is a writable directory
 * over the chain of its parent, or, before its Commit, layers that our differ applied. Order of every change, so that
 * a crash at any moment loses nothing that was answered: hold, layer, database, and only then what is to be removed.
 * While an image is unpacked only Commit waits for the disk (docs/decisions/0093).
 */
import { mkdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { VeneerError } from '../errors.ts';
import { discard, unpublishDirectory } from '../store/atomic.ts';
import { chainOf } from '../store/chain-ids.ts';
import { isHeld, removeHold, syncHold, writeHold } from '../store/holds.ts';
import type { IngestPool } from '../store/ingest-pool.ts';
import { hasLayer, readLayer } from '../store/layers.ts';
import type { Store } from '../store/store.ts';
import { readClock } from '../sys/clock.ts';
import type { ChainMounts } from './chain-mounts.ts';
import { layerOfUpper } from './commit-upper.ts';
import { KeyedLocks } from './keyed-locks.ts';
import { bindForm, findUpperDirectory, type MountForm } from './mount-form.ts';
import { chainFrom, exists, keptLabels, type Labels, SnapshotBook, state } from './snapshot-book.ts';
import type { Snapshot, SnapshotDatabase, SnapshotKind } from './snapshot-db.ts';
import { type DiskUsage, dressUpper, fsPath, makeUpper, measureDirectory, restoreUpper } from './upper.ts';
import type { Below } from './upper-layer.ts';

export interface SnapshotsOptions {
  readonly store: Store;
  readonly database: SnapshotDatabase;
  /** Holds one directory an active snapshot or view. */
  readonly directory: string;
  readonly chains: ChainMounts;
  readonly pool: IngestPool;
  /** A chain was committed: merging it now or later is all the same. */
  readonly onCommit: (diffIds: readonly string[]) => void;
  /** A snapshot that had layers went: something may be garbage now. */
  readonly onRemove: () => void;
  /** What could not be cleaned up behind an answer that was given. */
  readonly onProblem: (what: string, error: unknown) => void;
}

/** What the mounts of a snapshot show, for a differ. */
export interface Shown {
  /** diffIDs, bottom first. */
  readonly layers: readonly string[];
  /** The writable directory over them, or null. */
  readonly upper: string | null;
  /** Where the layers are mounted; null without layers. */
  readonly lower: string | null;
}

/** Name of the hold of a snapshot; holds of others begin otherwise. */
export const HOLD_PREFIX = 'snapshot-';
/** containerd's `UnpackKeyPrefix`, behind the namespace and the number that its metadata store puts before it. */
const EXTRACTION = /(?:^|\/)extract-/;

export class Snapshots {
  readonly book: SnapshotBook;
  readonly #options: SnapshotsOptions;
  readonly #locks = new KeyedLocks();
  /** Our differ is asked first, so unpacking needs no mounts (docs/decisions/0061). */
  #differ = false;

  constructor(options: SnapshotsOptions) {
    this.#options = options;
    this.book = new SnapshotBook(options.database);
  }

  async prepare(key: string, parent: string, labels: Labels): Promise<MountForm[]> {
    return this.#create('active', key, parent, labels);
  }

  async view(key: string, parent: string, labels: Labels): Promise<MountForm[]> {
    return this.#create('view', key, parent, labels);
  }

  /** The mounts of an active snapshot or view. Makes them again where they were lost, as by a reboot. */
  async mounts(key: string): Promise<MountForm[]> {
    const { id } = this.book.find(key);
    return this.#locks.run(id, async () => {
      const snapshot = this.book.find(key);
      if (snapshot.kind === 'committed')
        throw state(`get the mounts of snapshot ${key}`, 'it is committed', 'mount a view of it');
      await this.#expose(snapshot, restoreUpper(this.#directoryOf(snapshot.id)));
      return this.#formsOf(snapshot);
    });
  }

  /** `parent`: where a snapshot that was prepared without one belongs ("rebase"); '' otherwise. */
  async commit(name: string, key: string, parent: string, labels: Labels): Promise<void> {
    const { id } = this.book.findCommittable(name, key, parent);
    await this.#locks.run(id, async () => {
      const { snapshot, parentId } = this.book.findCommittable(name, key, parent);
      const below = this.book.layersOf(parentId);
      const written = await this.#layerOfUpper(snapshot, parentId);
      const layers = written === null ? snapshot.layers : [...snapshot.layers, written.ingested.diffId];
      const chain = chainFrom([...below, ...layers]);
      try {
        await this.#hold(id, layers, chain.chainId);
        await written?.publish();
        await syncHold(this.#options.store, holdName(id));
      } catch (error) {
        await written?.discard();
        throw error;
      }
      const { size, inodes } = this.#usageOfLayers(layers);
      this.#options.database.transaction(() => {
        const found = this.book.findCommittable(name, key, parent);
        if (found.parentId !== parentId)
          throw state(`commit snapshot ${key}`, 'its parent was replaced meanwhile');
        const row = { name, parentId: found.parentId, labels: keptLabels(labels), layers, size, inodes };
        this.#options.database.commit(id, { ...row, at: readClock() });
      });
      this.book.add(id, chain);
      this.#discardDirectory(id);
      this.#releaseOwn(snapshot);
      this.#options.onCommit(chain.layers);
    });
  }

  async remove(key: string): Promise<void> {
    const { id } = this.book.find(key);
    await this.#locks.run(id, async () => {
      const { database, onRemove } = this.#options;
      const snapshot = database.transaction(() => {
        const found = this.book.find(key);
        if (database.hasChildren(found.id))
          throw state(`remove snapshot ${key}`, 'it has children', 'remove them first');
        database.delete(found.id);
        return found;
      });
      const chain = this.book.delete(id);
      if (snapshot.kind !== 'committed') this.#discardDirectory(id);
      this.#attempt(`remove the hold of snapshot ${key}`, () =>
        removeHold(this.#options.store, holdName(id)),
      );
      if (chain !== null) this.#release(chain.chainId);
      else if (snapshot.kind !== 'committed') this.#releaseOwn(snapshot);
      if (chain !== null || snapshot.layers.length > 0) onRemove();
    });
  }

  /** What it takes on the disk, without its parents. */
  async usage(key: string): Promise<DiskUsage> {
    const { id, kind, size, inodes } = this.book.find(key);
    if (kind === 'committed') return { size, inodes };
    return measureDirectory(fsPath(this.#directoryOf(id)));
  }

  /** For the differ: the active snapshot that these mounts write to, or null when they are none of ours. */
  findByMounts(mounts: readonly MountForm[]): number | null {
    const origin = this.#originOf(mounts);
    if (origin === null || typeof origin === 'string' || origin.kind !== 'active') return null;
    this.#differ = true;
    return origin.id;
  }

  /**
   * For the differ, which an old containerd does not tell: whose these mounts are. Every name begins with a namespace.
   * Null when they are none of ours, or a view that looks the same in several namespaces.
   */
  namespaceOf(mounts: readonly MountForm[]): string | null {
    const origin = this.#originOf(mounts);
    if (origin === null) return null;
    if (typeof origin !== 'string') return namespaceOfName(origin.name);
    const views = this.#options.database.list().filter((snapshot) => {
      const layers = snapshot.kind === 'view' ? this.book.lowerOf(snapshot) : null;
      return layers !== null && chainOf(layers) === origin;
    });
    const namespaces = new Set(views.map(({ name }) => namespaceOfName(name)));
    return namespaces.size === 1 ? [...namespaces][0]! : null;
  }

  /** For the differ: what these mounts show, or null when they are none of ours. */
  layersOf(mounts: readonly MountForm[]): Shown | null {
    const { chains } = this.#options;
    const origin = this.#originOf(mounts);
    if (origin === null) return null;
    if (typeof origin === 'string') {
      const chain = this.book.findChain(origin);
      return chain === undefined ? null : { layers: chain.layers, upper: null, lower: chains.pathOf(origin) };
    }
    const layers = this.book.lowerOf(origin);
    return {
      layers: layers ?? [],
      upper: origin.kind === 'active' ? fsPath(this.#directoryOf(origin.id)) : null,
      lower: layers === null ? null : chains.pathOf(chainOf(layers)),
    };
  }

  /**
   * For the differ: the active snapshot is, from now on, this layer over what it was, and no sweep takes it. False
   * when the layer is not there.
   */
  async addLayer(id: number, diffId: string): Promise<boolean> {
    return this.#locks.run(id, async () => {
      const { database, store } = this.#options;
      const snapshot = this.book.active(id);
      const layers = [...snapshot.layers, diffId];
      await this.#hold(id, layers, chainOf([...this.book.layersOf(snapshot.parentId), ...layers]));
      if (!hasLayer(store, diffId)) return false;
      const record = (): void => {
        this.book.active(id);
        database.setLayers(id, layers);
        // Who mounts it now must see the layer, in a directory that has its attributes.
        database.setDeferred(id, true);
      };
      database.transaction(record, { lazily: true });
      return true;
    });
  }

  /** For the differ, before it says that it cannot apply something: another one will, and needs to see the parent. */
  async expose(id: number): Promise<void> {
    await this.#locks.run(id, () => this.#expose(this.book.active(id)));
  }

  /** Makes holds as the database wants them, where a crash or somebody else left others. Call it first. */
  async open(): Promise<void> {
    const { database, store, directory } = this.#options;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    for (const snapshot of database.list()) {
      const chain = chainFrom(this.book.lowerOf(snapshot) ?? []);
      if (snapshot.kind !== 'committed' && snapshot.layers.length === 0) continue;
      const needs = { layers: snapshot.layers, chains: [chain.chainId] };
      if (!isHeld(store, holdName(snapshot.id), needs)) await writeHold(store, holdName(snapshot.id), needs);
    }
  }

  async #create(kind: SnapshotKind, key: string, parent: string, labels: Labels): Promise<MountForm[]> {
    const { database } = this.#options;
    if (key === '') throw new VeneerError('snapshot/invalid', 'Cannot make a snapshot: its key is empty');
    const extraction = kind === 'active' && EXTRACTION.test(key);
    const deferred = extraction && parent !== '' && this.#differ;
    const insert = (): Snapshot => {
      const parentId = parent === '' ? null : this.book.findParent(key, parent, 'snapshot/invalid').id;
      if (database.find(key) !== null) throw exists(`make snapshot ${key}`);
      const id = database.insert({
        name: key,
        parentId,
        kind,
        labels: keptLabels(labels),
        deferred,
        at: readClock(),
      });
      makeUpper(this.#directoryOf(id));
      return this.book.find(key);
    };
    const snapshot = database.transaction(insert, { lazily: extraction });
    return this.#locks.run(snapshot.id, async () => {
      try {
        if (!deferred) await this.#mountBelow(snapshot);
        return this.#formsOf(snapshot);
      } catch (error) {
        database.transaction(() => database.delete(snapshot.id));
        this.#discardDirectory(snapshot.id);
        throw error;
      }
    });
  }

  /** Mounts what is below, and gives the upper directory the attributes of its root. */
  async #mountBelow(snapshot: Snapshot): Promise<void> {
    const layers = this.book.lowerOf(snapshot);
    if (layers === null) return;
    const lower = await this.#options.chains.ensure(layers);
    if (snapshot.kind === 'active') dressUpper(this.#directoryOf(snapshot.id), lower);
  }

  /** As {@link #mountBelow}, for one that may have been written to: unless `fresh`, its root has its attributes then. */
  async #expose(snapshot: Snapshot, fresh = false): Promise<void> {
    const layers = this.book.lowerOf(snapshot);
    if (layers === null) return;
    if (!snapshot.deferred && !fresh) {
      await this.#options.chains.ensure(layers);
      return;
    }
    await this.#mountBelow(snapshot);
    if (!snapshot.deferred) return;
    this.#options.database.transaction(() => this.#options.database.setDeferred(snapshot.id, false));
  }

  /** Whose mounts these are: a snapshot with a directory of its own, or the chain that views share. */
  #originOf(mounts: readonly MountForm[]): Snapshot | string | null {
    const { database, chains, directory } = this.#options;
    const [only] = mounts;
    if (only === undefined) return null;
    const own = findUpperDirectory(mounts) ?? dirname(only.source);
    if (dirname(own) !== directory) return chains.chainOfForm(only);
    const snapshot = database.get(Number(basename(own)));
    return snapshot?.kind === 'committed' ? null : snapshot;
  }

  #formsOf(snapshot: Snapshot): MountForm[] {
    const directory = this.#directoryOf(snapshot.id);
    const layers = this.book.lowerOf(snapshot);
    const { chains } = this.#options;
    if (layers === null) return [bindForm(fsPath(directory), snapshot.kind === 'active')];
    return snapshot.kind === 'view' ? chains.viewForms(layers) : chains.activeForms(layers, directory);
  }

  /** `parentId`: what it is committed on, which may be more than it was made on. */
  async #layerOfUpper(snapshot: Snapshot, parentId: number | null): ReturnType<typeof layerOfUpper> {
    const { store, pool, chains } = this.#options;
    const layers = this.book.lowerOf(snapshot);
    const directory = this.#directoryOf(snapshot.id);
    if (restoreUpper(directory) && !snapshot.deferred) await this.#mountBelow(snapshot);
    const unmounted = parentId === null ? 'nothing' : 'later';
    let below: Below = { kind: layers === null ? unmounted : 'unseen' };
    if (layers !== null && !snapshot.deferred) below = { kind: 'mounted', path: await chains.ensure(layers) };
    const layer = await layerOfUpper(store, pool, fsPath(directory), below, snapshot.name);
    if (layer === null || !snapshot.deferred) return layer;
    await layer.discard();
    this.#differ = false;
    throw state(
      `commit snapshot ${snapshot.name}`,
      'another differ has filled it, which could not see its parent',
      'put veneer first among the differs of containerd; the next try works in any case',
    );
  }

  #usageOfLayers(layers: readonly string[]): DiskUsage {
    const usage: DiskUsage = { size: 0, inodes: 0 };
    for (const diffId of layers) {
      const { tarSize, entries, image } = readLayer(this.#options.store, diffId);
      usage.size += tarSize + image.size;
      usage.inodes += entries;
    }
    return usage;
  }

  /** Not durable yet. */
  async #hold(id: number, layers: readonly string[], chainId: string): Promise<void> {
    const { store } = this.#options;
    const needs = { layers, chains: [chainId] };
    if (!isHeld(store, holdName(id), needs)) await writeHold(store, holdName(id), needs, { lazily: true });
  }

  #directoryOf(id: number): string {
    return join(this.#options.directory, String(id));
  }

  /** Out of sight at once; removing what was written may take a while, and nobody waits for it. */
  #discardDirectory(id: number): void {
    this.#attempt(`remove the directory of snapshot ${id}`, () => {
      const { layout } = this.#options.store;
      const trash = unpublishDirectory(this.#directoryOf(id), { work: layout.tmp, fsync: false });
      if (trash === null) return;
      discard(trash).catch((error: unknown) => this.#options.onProblem(`remove ${trash}`, error));
    });
  }

  /** Takes the mount away of what one with applied layers showed, which is nobody's chain. */
  #releaseOwn({ layers, parentId }: Snapshot): void {
    if (layers.length === 0) return;
    const chainId = chainOf([...this.book.layersOf(parentId), ...layers]);
    if (this.book.findChain(chainId) === undefined) this.#release(chainId);
  }

  #release(chainId: string): void {
    this.#attempt(`unmount chain ${chainId}`, () => this.#options.chains.release(chainId));
  }

  /** The answer is given already, or is an error of its own: what fails now is only told. */
  #attempt(what: string, work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#options.onProblem(what, error);
    }
  }
}

const holdName = (id: number): string => `${HOLD_PREFIX}${id}`;

const namespaceOfName = (name: string): string => name.slice(0, name.indexOf('/'));
