/** store.db: opened when first needed, brought to the newest schema, never trusted beyond what the files say. */
import { rmSync } from 'node:fs';
import type { DatabaseSync as Database, SQLInputValue, StatementSync } from 'node:sqlite';
import { VeneerError } from '../errors.ts';
import { isNoSpace, storeError } from './io-errors.ts';
import { MIGRATIONS } from './schema.ts';

/** How long one process waits for another one's transaction; transactions here take milliseconds. */
const BUSY_MS = 10_000;

/** SQLITE_CORRUPT and SQLITE_NOTADB. */
const DAMAGED = new Set([11, 26]);

const REBUILD = 'run `veneer fsck --rebuild`: everything in it can be read from the files again';

/** An open database; statements are prepared once. */
export class StoreDatabase {
  readonly path: string;
  readonly #database: Database;
  readonly #hint: string;
  /** Every transaction is made durable, unless it is lazy. */
  readonly #synced: boolean;
  readonly #statements = new Map<string, StatementSync>();

  constructor(path: string, database: Database, { fsync, hint = REBUILD }: DatabaseOptions) {
    this.path = path;
    this.#database = database;
    this.#hint = hint;
    this.#synced = fsync;
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) this.#statements.set(sql, (statement = this.#database.prepare(sql)));
    return statement;
  }

  /** All rows of a query; the caller knows their columns. Throws `store/database`. */
  rows<Row>(sql: string, ...parameters: SQLInputValue[]): Row[] {
    try {
      return this.#prepare(sql).all(...parameters) as Row[];
    } catch (error) {
      throw databaseError(this.path, error, this.#hint);
    }
  }

  /** Runs a statement without rows. Throws `store/database` or `io/no-space`. */
  run(sql: string, ...parameters: SQLInputValue[]): void {
    try {
      this.#prepare(sql).run(...parameters);
    } catch (error) {
      throw databaseError(this.path, error, this.#hint);
    }
  }

  /**
   * Runs `work` in one write transaction. A crash before its end leaves the database as it was; with
   * synchronous FULL one behind it loses nothing.
   *
   * `lazily`, in an exclusive database with fsync: the machine's crash may lose it, and whatever came after it, until
   * the next transaction that is not lazy.
   */
  transaction<T>(work: () => T, { lazily = false }: { readonly lazily?: boolean } = {}): T {
    if (lazily && this.#synced) return this.#unsynced(() => this.transaction(work));
    try {
      this.#database.exec('BEGIN IMMEDIATE');
      try {
        const result = work();
        this.#database.exec('COMMIT');
        return result;
      } catch (error) {
        if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
        throw error;
      }
    } catch (error) {
      throw databaseError(this.path, error, this.#hint);
    }
  }

  #unsynced<T>(work: () => T): T {
    this.#database.exec('PRAGMA synchronous = NORMAL');
    try {
      return work();
    } finally {
      this.#database.exec('PRAGMA synchronous = FULL');
    }
  }

  /** Problems that sqlite finds in its own file; empty when it is sound. */
  check(): string[] {
    try {
      const rows = this.#database.prepare('PRAGMA quick_check').all() as { quick_check: string }[];
      return rows.map((row) => row.quick_check).filter((line) => line !== 'ok');
    } catch (error) {
      return [error instanceof Error ? error.message : String(error)];
    }
  }

  close(): void {
    this.#statements.clear();
    if (this.#database.isOpen) this.#database.close();
  }
}

function databaseError(path: string, error: unknown, hint = REBUILD): VeneerError {
  if (error instanceof VeneerError) return error;
  const code = (error as { errcode?: unknown }).errcode;
  if (typeof code === 'number' && DAMAGED.has(code & 0xff)) {
    return new VeneerError('store/database', `Cannot use ${path}: it is damaged`, {
      hint,
      cause: error,
    });
  }
  if (isNoSpace(error)) return storeError(`write ${path}`, error);
  const reason = error instanceof Error ? error.message : String(error);
  return new VeneerError('store/database', `Cannot use ${path}: ${reason}`, { cause: error });
}

function migrate(path: string, database: Database, migrations: readonly string[], hint = REBUILD): void {
  const version = (): number =>
    (database.prepare('PRAGMA user_version').get() as { user_version: number }).user_version;
  if (version() === migrations.length) return;
  // Under the write lock the version is read again: another process may have migrated meanwhile.
  database.exec('BEGIN IMMEDIATE');
  try {
    const found = version();
    if (found > migrations.length) {
      throw new VeneerError(
        'store/database',
        `Cannot use ${path}: its schema ${found} is newer than this veneer`,
        { hint: `use a newer veneer, or ${hint}` },
      );
    }
    for (let next = found; next < migrations.length; next++) database.exec(migrations[next]!);
    database.exec(`PRAGMA user_version = ${migrations.length}`);
    database.exec('COMMIT');
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK');
    throw error;
  }
}

/** SQLITE_READONLY, SQLITE_IOERR, SQLITE_FULL, SQLITE_CANTOPEN. */
const UNWRITABLE = new Set([8, 10, 13, 14]);

/** True when the database cannot be written where it stands, for want of space or rights, though nothing is wrong with it. */
export function isUnwritable(error: unknown): boolean {
  if (!(error instanceof VeneerError)) return false;
  const code = (error.cause as { errcode?: unknown } | undefined)?.errcode;
  return typeof code === 'number' && UNWRITABLE.has(code & 0xff);
}

/** A database in memory, for when the one on disk cannot be written: it is filled from the files like any other. */
export function openMemoryDatabase(): StoreDatabase {
  return openDatabase(':memory:', { fsync: false });
}

export interface DatabaseOptions {
  readonly fsync: boolean;
  /** What brings the schema from each version to the next; default: that of store.db. */
  readonly migrations?: readonly string[];
  /** Nobody else opens it: one write to the disk a transaction, and no memory is shared (see docs/decisions/0032). */
  readonly exclusive?: boolean;
  /** What to do when it is damaged. */
  readonly hint?: string;
}

/** Opens or makes a database. Throws `store/database` when it is damaged or too new, `io/…` when it cannot be made. */
export function openDatabase(path: string, options: DatabaseOptions): StoreDatabase {
  // Looked up at run time: commands that never list anything do not pay for sqlite.
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite');
  let database: Database | undefined;
  try {
    database = new DatabaseSync(path, { timeout: BUSY_MS });
    if (options.exclusive === true) database.exec('PRAGMA locking_mode = EXCLUSIVE');
    database.exec(`PRAGMA journal_mode = ${options.exclusive === true ? 'WAL' : 'TRUNCATE'}`); // docs/decisions/0032
    database.exec(`PRAGMA synchronous = ${options.fsync ? 'FULL' : 'OFF'}`);
    database.exec('PRAGMA foreign_keys = ON');
    migrate(path, database, options.migrations ?? MIGRATIONS, options.hint);
    return new StoreDatabase(path, database, options);
  } catch (error) {
    database?.close();
    throw databaseError(path, error, options.hint);
  }
}

/** Removes the database and its side files, so that the next use makes it anew from the files of the store. */
export function removeDatabase(path: string): void {
  for (const suffix of ['', '-journal']) rmSync(path + suffix, { force: true });
}
