/**
 * Keeps the database equal to the files.
 *
 * A crash, or a process that could not write the database, leaves it behind the files. So every question looks
 * at the directories first (names, and for images the stamp of the file): what differs is read again. Files
 * under layers/ and chains/ never change, so there a name is enough.
 */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Finding, VeneerError } from '../errors.ts';
import { isUnwritable, type StoreDatabase } from './db.ts';
import { isMissing, storeError } from './io-errors.ts';
import { CHAIN_FACTS, HEX64, LAYER_FACTS } from './layout.ts';
import {
  type ChainRecord,
  type ImageRecord,
  type LayerRecord,
  readChainRecord,
  readImageRecord,
  readLayerRecord,
} from './records.ts';
import type { Store } from './store.ts';

/** Names in a directory, sorted; none when it is missing. */
export function listDirectory(path: string): string[] {
  try {
    return readdirSync(path).sort();
  } catch (error) {
    if (isMissing(error)) return [];
    throw storeError(`list ${path}`, error);
  }
}

/** What changes when a file is replaced: a rename always brings another inode or another time. Null when it is missing. */
export function stampOf(path: string): string | null {
  const facts = statSync(path, { bigint: true, throwIfNoEntry: false });
  return facts === undefined ? null : `${facts.ino}:${facts.mtimeNs}:${facts.size}`;
}

/** File names of image records are the hash of the name. */
export function isImageFile(file: string): boolean {
  return file.endsWith('.json') && HEX64.test(file.slice(0, -5));
}

function putLayer(database: StoreDatabase, record: LayerRecord): void {
  const { diffId, tarSize, entries, image } = record;
  const sql = 'INSERT OR REPLACE INTO layers VALUES (?, ?, ?, ?, ?, ?)';
  database.run(sql, diffId, tarSize, entries, image.digest, image.size, JSON.stringify(record));
}

function putChain(database: StoreDatabase, record: ChainRecord): void {
  const sql = 'INSERT OR REPLACE INTO chains VALUES (?, ?, ?)';
  database.run(sql, record.chainId, record.image.size, JSON.stringify(record));
}

function putImage(database: StoreDatabase, file: string, stamp: string, record: ImageRecord): void {
  const { name, manifest, config, chainId, layers } = record;
  // Not INSERT OR REPLACE alone: the rows of the layers must go with the old row.
  database.run('DELETE FROM images WHERE name = ? OR file = ?', name, file);
  const sql = 'INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?)';
  database.run(sql, name, file, stamp, manifest.digest, config.digest, chainId, JSON.stringify(record));
  for (const [position, layer] of layers.entries()) {
    const row = 'INSERT INTO image_layers VALUES (?, ?, ?, ?)';
    database.run(row, name, position, layer.diffId, layer.blob.digest);
  }
}

/** Brings one row up to its file. */
type Change = () => void;

/** Runs `read`; a record that cannot be read becomes a finding, one that vanished meanwhile is just not there. */
function readOr<T>(findings: Finding[], read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof VeneerError)) throw error;
    if (error.code !== 'store/missing') findings.push({ code: error.code, message: error.message });
    return null;
  }
}

function directoryChanges<R>(
  store: Store,
  findings: Finding[],
  table: {
    dir: string;
    facts: string;
    known: string[];
    drop: string;
    read(path: string): R;
    put(record: R): void;
  },
): Change[] {
  const present = new Set(listDirectory(table.dir).filter((name) => HEX64.test(name)));
  const known = new Set(table.known.map((digest) => digest.slice('sha256:'.length)));
  const changes: Change[] = [];
  for (const hex of known) {
    if (present.has(hex)) continue;
    changes.push(() => store.database().run(table.drop, `sha256:${hex}`));
  }
  for (const hex of present) {
    if (known.has(hex)) continue;
    const record = readOr(findings, () => table.read(join(table.dir, hex, table.facts)));
    if (record !== null) changes.push(() => table.put(record));
  }
  return changes;
}

function imageChanges(store: Store, findings: Finding[]): Change[] {
  const database = store.database();
  const rows = database.rows<{ file: string; stamp: string }>('SELECT file, stamp FROM images');
  const known = new Map(rows.map((row) => [row.file, row.stamp]));
  const changes: Change[] = [];
  const drop = (file: string): void => {
    changes.push(() => database.run('DELETE FROM images WHERE file = ?', file));
  };
  for (const file of listDirectory(store.layout.images)) {
    if (!isImageFile(file)) continue;
    const path = join(store.layout.images, file);
    const stamp = stampOf(path);
    const before = known.get(file);
    known.delete(file);
    if (stamp !== null && stamp === before) continue;
    // The stamp is older than what is read after it at worst, and then the next look reads again.
    const record = stamp === null ? null : readOr(findings, () => readImageRecord(path));
    if (record !== null && stamp !== null) changes.push(() => putImage(database, file, stamp, record));
    else if (before !== undefined) drop(file);
  }
  for (const file of known.keys()) drop(file);
  return changes;
}

/**
 * Brings the database up to the files and returns what could not be read.
 * Throws `store/database` when the database itself cannot be used.
 */
export function syncCatalog(store: Store): Finding[] {
  const findings: Finding[] = [];
  // Mostly nothing has changed, and then no write lock is asked for. Otherwise look again under the lock, so
  // that two processes cannot write an older look over a newer one.
  if (collectChanges(store, findings).length === 0) return findings;
  const apply = (): void => {
    store.database().transaction(() => {
      for (const change of collectChanges(store, findings)) change();
    });
  };
  try {
    apply();
  } catch (error) {
    if (!isUnwritable(error)) throw error;
    store.useMemoryDatabase();
    apply();
  }
  return findings;
}

function collectChanges(store: Store, findings: Finding[]): Change[] {
  findings.length = 0;
  const database = store.database();
  return [
    ...directoryChanges<LayerRecord>(store, findings, {
      dir: store.layout.layers,
      facts: LAYER_FACTS,
      known: column(database, 'SELECT diff_id AS id FROM layers'),
      drop: 'DELETE FROM layers WHERE diff_id = ?',
      read: readLayerRecord,
      put: (record) => putLayer(database, record),
    }),
    ...directoryChanges<ChainRecord>(store, findings, {
      dir: store.layout.chains,
      facts: CHAIN_FACTS,
      known: column(database, 'SELECT chain_id AS id FROM chains'),
      drop: 'DELETE FROM chains WHERE chain_id = ?',
      read: readChainRecord,
      put: (record) => putChain(database, record),
    }),
    ...imageChanges(store, findings),
  ];
}

function column(database: StoreDatabase, sql: string): string[] {
  return database.rows<{ id: string }>(sql).map((row) => row.id);
}
