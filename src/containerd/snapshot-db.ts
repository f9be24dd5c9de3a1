/**
 * The metadata of snapshots: one row a snapshot, in a database of our own that nobody else opens.
 *
 * Names are containerd's keys. Numbers (`id`) are ours: they name directories and holds, and are never used again.
 */
import { openDatabase, type StoreDatabase } from '../store/db.ts';

export type SnapshotKind = 'view' | 'active' | 'committed';

export interface Snapshot {
  readonly id: number;
  readonly name: string;
  /** The name of the parent; '' for none. */
  readonly parent: string;
  readonly parentId: number | null;
  readonly kind: SnapshotKind;
  /** Nanoseconds since 1970. */
  readonly created: bigint;
  readonly updated: bigint;
  readonly labels: Readonly<Record<string, string>>;
  /** diffIDs of what this snapshot adds to its parent: of a committed one, or applied to an active one by our differ. */
  readonly layers: readonly string[];
  /** Made without its parent being mounted: only our differ may fill it (docs/decisions/0061). */
  readonly deferred: boolean;
  /** Of a committed one, without its parents. */
  readonly size: number;
  readonly inodes: number;
}

/** What a new row says. */
export type NewSnapshot = Pick<Snapshot, 'name' | 'parentId' | 'kind' | 'labels' | 'deferred'> & {
  readonly at: bigint;
};

const MIGRATIONS = [
  `
  CREATE TABLE snapshots (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    name     TEXT NOT NULL UNIQUE,
    parent   INTEGER REFERENCES snapshots (id),
    kind     TEXT NOT NULL CHECK (kind IN ('view', 'active', 'committed')),
    -- Nanoseconds since 1970.
    created  INTEGER NOT NULL,
    updated  INTEGER NOT NULL,
    -- JSON: an object of texts, and a list of diffIDs.
    labels   TEXT NOT NULL,
    layers   TEXT NOT NULL DEFAULT '[]',
    deferred INTEGER NOT NULL,
    size     INTEGER NOT NULL DEFAULT 0,
    inodes   INTEGER NOT NULL DEFAULT 0
  ) STRICT;
  CREATE INDEX snapshots_by_parent ON snapshots (parent);
  `,
];

const HINT =
  'remove the images in containerd, stop veneer, move the file away and pull again: containerd knows the snapshots by it';

interface Row {
  id: number;
  name: string;
  parent: string | null;
  parentId: number | null;
  kind: SnapshotKind;
  created: string;
  updated: string;
  labels: string;
  layers: string;
  deferred: number;
  size: number;
  inodes: number;
}

// Times as texts: as numbers they would lose their last digits.
const SELECT = `SELECT s.id, s.name, p.name AS parent, s.parent AS parentId, s.kind, CAST(s.created AS TEXT) AS created,
  CAST(s.updated AS TEXT) AS updated, s.labels, s.layers, s.deferred, s.size, s.inodes
  FROM snapshots s LEFT JOIN snapshots p ON p.id = s.parent`;

function fromRow(row: Row): Snapshot {
  return {
    ...row,
    parent: row.parent ?? '',
    created: BigInt(row.created),
    updated: BigInt(row.updated),
    labels: JSON.parse(row.labels) as Record<string, string>,
    layers: JSON.parse(row.layers) as string[],
    deferred: row.deferred !== 0,
  };
}

/** Every change is one transaction, durable when it returns unless it is lazy (see `StoreDatabase`). */
export class SnapshotDatabase {
  readonly #database: StoreDatabase;

  constructor(path: string, options: { fsync: boolean }) {
    this.#database = openDatabase(path, { ...options, migrations: MIGRATIONS, exclusive: true, hint: HINT });
  }

  close(): void {
    this.#database.close();
  }

  transaction<T>(work: () => T, options: { readonly lazily?: boolean } = {}): T {
    return this.#database.transaction(work, options);
  }

  find(name: string): Snapshot | null {
    const row = this.#database.rows<Row>(`${SELECT} WHERE s.name = ?`, name)[0];
    return row === undefined ? null : fromRow(row);
  }

  get(id: number): Snapshot | null {
    const row = this.#database.rows<Row>(`${SELECT} WHERE s.id = ?`, id)[0];
    return row === undefined ? null : fromRow(row);
  }

  /** All of them by name. */
  list(): Snapshot[] {
    return this.#database.rows<Row>(`${SELECT} ORDER BY s.name`).map(fromRow);
  }

  hasChildren(id: number): boolean {
    return this.#database.rows('SELECT 1 FROM snapshots WHERE parent = ? LIMIT 1', id).length > 0;
  }

  insert({ name, parentId, kind, labels, deferred, at }: NewSnapshot): number {
    const sql = `INSERT INTO snapshots (name, parent, kind, created, updated, labels, deferred)
      VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id`;
    const values = [name, parentId, kind, at, at, JSON.stringify(labels), deferred ? 1 : 0];
    return this.#database.rows<{ id: number }>(sql, ...values)[0]!.id;
  }

  setLayers(id: number, layers: readonly string[]): void {
    this.#database.run('UPDATE snapshots SET layers = ? WHERE id = ?', JSON.stringify(layers), id);
  }

  setDeferred(id: number, deferred: boolean): void {
    this.#database.run('UPDATE snapshots SET deferred = ? WHERE id = ?', deferred ? 1 : 0, id);
  }

  setLabels(id: number, labels: Snapshot['labels'], at: bigint): void {
    const sql = 'UPDATE snapshots SET labels = ?, updated = ? WHERE id = ?';
    this.#database.run(sql, JSON.stringify(labels), at, id);
  }

  /** An active snapshot becomes a committed one under another name. */
  commit(
    id: number,
    to: Pick<Snapshot, 'name' | 'parentId' | 'labels' | 'layers' | 'size' | 'inodes'> & { at: bigint },
  ): void {
    const sql = `UPDATE snapshots SET name = ?, parent = ?, kind = 'committed', created = ?, updated = ?, labels = ?,
      layers = ?, size = ?, inodes = ?, deferred = 0 WHERE id = ?`;
    const { name, parentId, at, labels, layers, size, inodes } = to;
    const texts = [JSON.stringify(labels), JSON.stringify(layers)];
    this.#database.run(sql, name, parentId, at, at, ...texts, size, inodes, id);
  }

  delete(id: number): void {
    this.#database.run('DELETE FROM snapshots WHERE id = ?', id);
  }
}
