/** Checkouts: an image put together in a directory, without mounts and without root, and brought up to date there. */
import { randomBytes } from 'node:crypto';
import { lstatSync, mkdirSync, readdirSync, realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Change, ChangeKind } from '../diff/change.ts';
import { diffTrees } from '../diff/diff.ts';
import { VeneerError } from '../errors.ts';
import type { OnProgress } from '../progress/events.ts';
import { Attributes, type Problem } from '../rootfs/attributes.ts';
import { isNoSpace, storeError } from '../store/io-errors.ts';
import { throwIfAborted } from '../store/locks.ts';
import type { ImageRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import { checkProc, Folder, removeTree } from '../sys/folder.ts';
import { makeNode, renameNew, setTimes } from '../sys/inode.ts';
import { syncFileSystem } from '../sys/sync.ts';
import { setXattr } from '../sys/xattr.ts';
import { countLinks, namesOf } from '../tree/walk.ts';
import { Descent } from './descent.ts';
import { Farm, READ_ONLY } from './farm.ts';
import { countNames, fillDirectory } from './fresh.ts';
import { findLocalChanges, type LocalChange } from './local-changes.ts';
import { Maker } from './maker.ts';
import { Pace } from './pace.ts';
import { type CheckoutRecord, type CheckoutState, findFolder, identityOf, RecordFolder } from './record.ts';
import { emptySide, type NewSide, type OldSide, openKept, openNew } from './sides.ts';
import { StatIndex } from './stat-index.ts';
import { applyChanges } from './update.ts';

export interface CheckoutOptions {
  /** Regular files are hard links to read-only files in the store. Of an update: as it was made. */
  readonly link?: boolean;
  /** Bring an existing checkout to this image. */
  readonly update?: boolean;
  /** An update replaces and removes what users changed. */
  readonly force?: boolean;
  readonly onProgress?: OnProgress;
  readonly signal?: AbortSignal;
}

export interface CheckoutReport {
  readonly directory: string;
  readonly image: string;
  /** What was checked out there before; null the first time. */
  readonly from: string | null;
  readonly link: boolean;
  /** Names by what was done to them. */
  readonly changes: Readonly<Record<Exclude<ChangeKind, 'renamed'>, number>>;
  /** File data that was copied or shared, bytes. */
  readonly bytes: number;
  /** Files that are links into the store. */
  readonly linked: number;
  /** What users had changed, and `force` replaced. */
  readonly replaced: readonly LocalChange[];
  /** Directories that are in the image no more and stay for what users put there. */
  readonly kept: readonly string[];
  /** What could not be made or set here, by path. */
  readonly problems: readonly Problem[];
  /** Names whose owner is not the image's because that needs root. */
  readonly otherOwner: number;
}

/** Names that a message tells. */
const NAMED = 10;
/** Longer than the clock of a file system stands still. */
const CLOCK_STEP_MS = 12;

/**
 * Checks `image` out into `directory`, which must not exist, be empty, or with `update` be a checkout.
 *
 * A new directory appears when it is complete. What ends an update in between leaves every name as it was or as it is
 * to be; the same update again finishes it. Throws `checkout/…`, `cli/exists`.
 */
export async function checkOut(
  store: Store,
  image: Pick<ImageRecord, 'name' | 'layers'>,
  directory: string,
  options: CheckoutOptions = {},
): Promise<CheckoutReport> {
  checkProc('check out');
  store.prepare();
  const path = realPath(directory);
  const here = store.layout.checkout(path);
  const folder = RecordFolder.lock(store, findFolder(store, path));
  try {
    if (folder.path !== here) folder.moveTo(here);
    const work = new CheckoutWork(store, folder, path, options);
    return await work.run(image);
  } catch (error) {
    throw explain(error, path);
  } finally {
    folder.close();
  }
}

class CheckoutWork {
  readonly #store: Store;
  readonly #folder: RecordFolder;
  readonly #path: string;
  readonly #options: CheckoutOptions;

  constructor(store: Store, folder: RecordFolder, path: string, options: CheckoutOptions) {
    this.#store = store;
    this.#folder = folder;
    this.#path = path;
    this.#options = options;
  }

  async run(image: Pick<ImageRecord, 'name' | 'layers'>): Promise<CheckoutReport> {
    const record = this.#findRecord();
    const now = await openNew(this.#store, this.#folder, image);
    try {
      if (record === null) return await this.#begin(now);
      const same = record.next?.chainId === now.state.chainId;
      if (!this.#options.update && !(record.current === null && same)) throw this.#isThere(record);
      if (record.next !== null && !same) return await this.#finishFirst(image, record.next);
      return await this.#update(record, now);
    } finally {
      now.image.close();
    }
  }

  /** Null when this directory is no checkout, whatever the record of its path says. */
  #findRecord(): CheckoutRecord | null {
    const record = this.#folder.read();
    if (record === null) return null;
    const here = identityOf(this.#path);
    if (here?.inode === record.inode && here.device === record.device) return { ...record, path: this.#path };
    // Somebody removed it, or the first time was not done: what is left of that is in our way.
    discardUnfinished(record);
    return null;
  }

  #isThere({ current, next }: CheckoutRecord): VeneerError {
    const what = current?.image ?? next?.image;
    return new VeneerError('checkout/exists', `Cannot check out into ${this.#path}: it has ${what} already`, {
      hint: '--update brings it to another image',
    });
  }

  async #begin(now: NewSide): Promise<CheckoutReport> {
    if (this.#options.update) {
      throw new VeneerError(
        'checkout/missing',
        `Cannot update ${this.#path}: no image was checked out there`,
        {
          hint: 'leave out --update; checkouts are known to the store that made them (--root DIR)',
        },
      );
    }
    const facts = lstatSync(this.#path, { throwIfNoEntry: false });
    if (facts === undefined) return this.#fill(now);
    const empty = facts.isDirectory() && readdirSync(this.#path).length === 0;
    if (!empty) {
      const what = facts.isDirectory() ? 'it is not empty' : 'it is no directory';
      throw new VeneerError('checkout/exists', `Cannot check out into ${this.#path}: ${what}`, {
        hint: 'name a directory that is empty or not there yet',
      });
    }
    // Its parent may be somebody else's: so it is filled where it is, as by an update.
    const { device, inode } = identityOf(this.#path)!;
    const link = this.#options.link ?? false;
    const record: CheckoutRecord = {
      version: 1,
      path: this.#path,
      device,
      inode,
      link,
      current: null,
      next: now.state,
      staging: null,
    };
    return this.#update(record, now);
  }

  /** Makes the directory beside its place and gives it its name in the end. */
  async #fill(now: NewSide): Promise<CheckoutReport> {
    const link = this.#options.link ?? false;
    const staging = `.veneer-${randomBytes(6).toString('hex')}`;
    const record: CheckoutRecord = {
      version: 1,
      path: this.#path,
      device: '',
      inode: '',
      link,
      current: null,
      next: now.state,
      staging,
    };
    await this.#folder.write(record);
    const parent = Folder.open(dirname(this.#path));
    const name = Buffer.from(basename(this.#path)).toString('latin1');
    const { attributes, maker, pace } = this.#tools(now, link);
    let done = false;
    try {
      mkdirSync(parent.at(staging), { mode: 0o700 });
      const { index, names } = await this.#tell(now, () =>
        fillDirectory(parent, staging, now.image.tree, maker, attributes, pace),
      );
      if (this.#store.fsync) syncFileSystem(parent.fd);
      // What users do from now on has a later time than what we did.
      await delay(CLOCK_STEP_MS);
      throwIfAborted(this.#options.signal);
      const file = await this.#folder.writeIndex(index.bytes());
      const { device, inode } = identityOf(join(dirname(this.#path), staging))!;
      // The record goes first: a directory that appears without one could not be updated.
      await this.#folder.write({
        ...record,
        device,
        inode,
        current: { ...now.state, index: file },
        next: null,
        staging,
      });
      renameNew(parent.at(staging), parent.at(name));
      done = true;
      if (this.#store.fsync) syncFileSystem(parent.fd);
      const changes = { ...NO_CHANGES, added: names };
      return this.#report(now.state.image, null, link, changes, maker, attributes, [], []);
    } finally {
      if (!done) {
        removeTree(parent, staging);
        this.#folder.remove();
      }
      parent.close();
    }
  }

  /** An update to another image was not done: first that one, then what was asked for. */
  async #finishFirst(
    image: Pick<ImageRecord, 'name' | 'layers'>,
    next: CheckoutState,
  ): Promise<CheckoutReport> {
    let first: NewSide;
    const layers = next.layers.map((diffId) => ({ diffId, blob: NO_BLOB }));
    try {
      first = await openNew(this.#store, this.#folder, { name: next.image, layers });
    } catch (cause) {
      throw new VeneerError(
        'checkout/unfinished',
        `Cannot update ${this.#path}: an update to ${next.image} is not finished, and the store has that image no more`,
        { hint: `pull ${next.image} again, and finish that update`, cause },
      );
    }
    try {
      await this.#update(this.#folder.read()!, first);
    } finally {
      first.image.close();
    }
    return this.run(image);
  }

  async #update(record: CheckoutRecord, now: NewSide): Promise<CheckoutReport> {
    const { current } = record;
    const old = current === null ? emptySide() : openKept(this.#store, this.#folder, current);
    const root = Folder.open(this.#path);
    const descent = new Descent(root);
    try {
      const { signal } = this.#options;
      const changes = await diffTrees(old.side, now.side, {
        renames: false,
        ...(signal === undefined ? {} : { signal }),
      });
      const { index, orders } = this.#openIndex(record, old);
      const resumed = record.next !== null && record.staging !== null;
      const found = await findLocalChanges(
        { descent, old: old.side, now: now.side, index, orders, link: record.link, resumed, signal },
        changes,
      );
      descent.close();
      if (found.length > 0 && !this.#options.force) throw this.#modified(found, resumed);
      return await this.#apply(record, now, changes, found, { index, orders, root, descent, resumed });
    } finally {
      descent.close();
      root.close();
      old.close();
    }
  }

  async #apply(
    record: CheckoutRecord,
    now: NewSide,
    changes: readonly Change[],
    found: readonly LocalChange[],
    at: {
      readonly index: StatIndex;
      readonly orders: ReadonlyMap<string, number>;
      readonly root: Folder;
      readonly descent: Descent;
      readonly resumed: boolean;
    },
  ): Promise<CheckoutReport> {
    const { current, link } = record;
    const { root, descent, resumed } = at;
    const staging = record.staging ?? `.veneer-${randomBytes(6).toString('hex')}`;
    const from = current?.image ?? null;
    const { attributes, maker, pace } = this.#tools(now, link);
    if (changes.length === 0 && current !== null && !resumed) {
      await this.#folder.write({ ...record, current: { ...now.state, index: current.index } });
      return this.#report(now.state.image, from, link, NO_CHANGES, maker, attributes, [], []);
    }
    // From here on it is an update that is not done, until the record says otherwise.
    await this.#folder.write({ ...record, next: now.state, staging });
    const { kept, touched } = await this.#tell(now, () =>
      applyChanges(
        { root, staging, descent, maker, attributes, pace, link, resumed },
        changes,
        now.image.tree.root,
      ),
    );
    descent.close();
    if (this.#store.fsync) syncFileSystem(root.fd);
    const fresh = StatIndex.make(countNames(countLinks(now.image.tree)));
    let order = -1;
    for (const [path, node] of namesOf(now.image.tree)) {
      order++;
      if (node.children !== null) continue;
      const facts = touched.get(path);
      const before = at.orders.get(path);
      if (facts !== undefined) fresh.note(order, facts);
      else if (before !== undefined) fresh.take(order, at.index, before);
    }
    const index = await this.#folder.writeIndex(fresh.bytes());
    await this.#folder.write({ ...record, current: { ...now.state, index }, next: null, staging: null });
    const counts = { ...NO_CHANGES };
    for (const { kind } of changes) if (kind !== 'renamed') counts[kind]++;
    return this.#report(now.state.image, from, link, counts, maker, attributes, found, kept);
  }

  #openIndex(
    { current }: CheckoutRecord,
    old: OldSide,
  ): { index: StatIndex; orders: ReadonlyMap<string, number> } {
    const orders = new Map<string, number>();
    if (current === null) return { index: StatIndex.make(1), orders: new Map([['', 0]]) };
    for (const [path] of namesOf(old.tree)) orders.set(path, orders.size);
    const bytes = this.#folder.readIndex(current.index);
    const index = bytes === null ? null : StatIndex.parse(bytes, orders.size);
    return { index: index ?? StatIndex.make(orders.size), orders };
  }

  #modified(found: readonly LocalChange[], resumed: boolean): VeneerError {
    const names = found.slice(0, NAMED).map(({ path, what }) => `${displayPath(path)} (${what})`);
    const more = found.length > NAMED ? ` and ${found.length - NAMED} more` : '';
    return new VeneerError(
      'checkout/modified',
      `Cannot update ${this.#path}: it would destroy what was done there: ${names.join(', ')}${more}`,
      {
        hint: resumed
          ? 'save what you need; --force goes on with the update and replaces the rest'
          : 'save what you need; --force replaces the rest. Nothing was changed.',
      },
    );
  }

  #tools(now: NewSide, link: boolean): { attributes: Attributes; maker: Maker; pace: Pace } {
    const sys = { setXattr, setTimes, makeNode, renameNew };
    const attributes = new Attributes(sys, link ? READ_ONLY : undefined);
    const maker = new Maker(now.image, attributes, link ? new Farm(this.#store) : null);
    return { attributes, maker, pace: new Pace(this.#path, this.#options.onProgress, this.#options.signal) };
  }

  async #tell<T>(now: NewSide, work: () => Promise<T>): Promise<T> {
    const { onProgress } = this.#options;
    onProgress?.({ type: 'start', id: this.#path, what: `check out ${now.state.image}`, total: 0 });
    try {
      const result = await work();
      onProgress?.({ type: 'end', id: this.#path, outcome: 'done' });
      return result;
    } catch (error) {
      onProgress?.({ type: 'end', id: this.#path, outcome: 'failed' });
      throw error;
    }
  }

  #report(
    image: string,
    from: string | null,
    link: boolean,
    changes: CheckoutReport['changes'],
    maker: Maker,
    { problems, otherOwner }: Attributes,
    replaced: readonly LocalChange[],
    kept: readonly string[],
  ): CheckoutReport {
    const { bytes, linked } = maker.counts;
    return {
      directory: this.#path,
      image,
      from,
      link,
      changes,
      bytes,
      linked,
      replaced,
      kept,
      problems,
      otherOwner,
    };
  }
}

const NO_BLOB = { digest: '', size: 0, mediaType: '' };
const NO_CHANGES = { added: 0, removed: 0, changed: 0, type: 0, attributes: 0 };

/** Removes what a first checkout that died has left beside its place. */
export function discardUnfinished({ path, staging }: CheckoutRecord): void {
  if (staging === null || identityOf(dirname(path)) === null) return;
  const parent = Folder.open(dirname(path));
  try {
    removeTree(parent, staging);
  } finally {
    parent.close();
  }
}

/** Absolute, symlinks resolved as far as it exists. */
function realPath(directory: string): string {
  const path = resolve(directory);
  if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) return realpathSync(path);
  try {
    return join(realpathSync(dirname(path)), basename(path));
  } catch (cause) {
    throw new VeneerError(
      'cli/no-folder',
      `Cannot check out into ${path}: there is no directory ${dirname(path)}`,
      {
        hint: `mkdir -p ${dirname(path)}`,
        cause,
      },
    );
  }
}

const displayPath = (path: string): string => Buffer.from(path, 'latin1').toString('utf8');

/** System errors name paths below /proc/self/fd, which say nothing to anybody. */
function explain(error: unknown, path: string): unknown {
  if (!(error instanceof Error) || !('syscall' in error)) return error;
  const reason = error.message.replace(/^\w+: /, '').replace(/, \w+ '.*$/s, '');
  if (isNoSpace(error)) return storeError(`check out into ${path}`, error);
  return new VeneerError('io/failed', `Cannot check out into ${path}: ${reason}`, { cause: error });
}
