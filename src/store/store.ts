/** A store: one directory of layers, images and what is made of them. */
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { makeDirectories } from './atomic.ts';
import { isUnwritable, openDatabase, openMemoryDatabase, type StoreDatabase } from './db.ts';
import { storeError } from './io-errors.ts';
import { StoreLayout } from './layout.ts';
import { type Lock, lockStanding, tryLockName, waitForLock } from './locks.ts';

export interface StoreOptions {
  /** Make every write durable before it gets its name. Default true; false trades crash safety of the machine for speed. */
  readonly fsync?: boolean;
}

/**
 * An open store. Opening touches nothing: directories are made by the first write and the database is opened
 * by the first question that needs it, so that a mount pays for neither.
 */
export class Store {
  readonly layout: StoreLayout;
  readonly fsync: boolean;
  #prepared = false;
  #database: StoreDatabase | null = null;
  #work: { path: string; lock: Lock } | null = null;

  private constructor(root: string, fsync: boolean) {
    this.layout = new StoreLayout(resolve(root));
    this.fsync = fsync;
  }

  /** `root` need not exist: a store that nobody has written to is empty. */
  static open(root: string, options: StoreOptions = {}): Store {
    return new Store(root, options.fsync ?? true);
  }

  /** True once anything was written. */
  exists(): boolean {
    return statSync(this.layout.tmp, { throwIfNoEntry: false })?.isDirectory() ?? false;
  }

  /** Makes the directories of a store where they are missing. Every writer calls it first. */
  prepare(): void {
    if (this.#prepared) return;
    try {
      makeDirectories(this.layout.directories(), { fsync: this.fsync });
    } catch (error) {
      throw storeError(`make the store ${this.layout.root}`, error);
    }
    this.#prepared = true;
  }

  /**
   * Holds off every sweep until released. For short work only: resolving an image and opening its files,
   * or taking a lease. A sweep holds the lock without ever waiting, so neither do we for long.
   */
  share(): Lock {
    this.prepare();
    return lockStanding(this.layout.lock, 'shared', true)!;
  }

  /** The lock of a sweep; whoever holds it must not wait for anything (see {@link share}). */
  async exclusive(signal?: AbortSignal): Promise<Lock> {
    this.prepare();
    return waitForLock(() => this.tryExclusive(), { signal });
  }

  tryExclusive(): Lock | null {
    this.prepare();
    return lockStanding(this.layout.lock, 'exclusive', false);
  }

  /**
   * This store's own directory under tmp/, for everything unfinished. A lock beside it lives as long as we do;
   * a directory whose lock is free is debris of the dead.
   *
   * Made under the shared lock: a sweep must not see the directory before its lock is taken.
   */
  work(): string {
    if (this.#work !== null) return this.#work.path;
    const shared = this.share();
    try {
      const path = join(this.layout.tmp, `work-${randomBytes(9).toString('hex')}`);
      const lock = tryLockName(`${path}.lock`);
      if (lock === null) throw new Error(`${path}.lock is taken`);
      this.#work = { path, lock };
      mkdirSync(path, { mode: 0o700 });
      return path;
    } catch (error) {
      this.#work?.lock.release();
      this.#work = null;
      throw storeError(`make a work directory in ${this.layout.tmp}`, error);
    } finally {
      shared.release();
    }
  }

  /** Whether the owner of a work directory is alive: its lock is taken. Ours counts. */
  isLiveWork(path: string): boolean {
    if (this.#work?.path === path) return true;
    const lock = tryLockName(`${path}.lock`);
    lock?.release();
    return lock === null;
  }

  /**
   * The database, opened on first use. On a full or read-only disk it is one in memory: it says the same, only
   * it has to be filled each time, and a full disk must not keep anybody from listing and removing.
   * Throws `store/database`.
   */
  database(): StoreDatabase {
    if (this.#database !== null) return this.#database;
    try {
      this.#database = openDatabase(this.layout.database, { fsync: this.fsync });
      // Only when it was made just now: on a read-only disk it cannot be changed, and need not.
      if ((statSync(this.layout.database).mode & 0o777) !== 0o600) chmodSync(this.layout.database, 0o600);
    } catch (error) {
      if (!isUnwritable(error)) throw error;
      this.useMemoryDatabase();
    }
    return this.#database!;
  }

  /** From now on asks a database in memory; for when a write to the one on disk has failed. */
  useMemoryDatabase(): void {
    this.closeDatabase();
    this.#database = openMemoryDatabase();
  }

  /** Closes the database, so that its file may be replaced; the next use opens it again. */
  closeDatabase(): void {
    this.#database?.close();
    this.#database = null;
  }

  /** Gives back everything. A store that is not closed loses nothing: its work directory is swept later. */
  close(): void {
    this.closeDatabase();
    if (this.#work !== null) {
      const { path, lock } = this.#work;
      this.#work = null;
      rmSync(path, { recursive: true, force: true });
      lock.release();
    }
  }
}
