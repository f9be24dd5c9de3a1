/**
 * Who is whose parent, and which layers each snapshot shows: the database, with what never changes kept in memory.
 * Nothing here waits or touches a file.
 */
import { VeneerError } from '../errors.ts';
import { chainOf } from '../store/chain-ids.ts';
import { readClock } from '../sys/clock.ts';
import { compileFilters } from './filter.ts';
import type { Snapshot, SnapshotDatabase } from './snapshot-db.ts';

export type Labels = Readonly<Record<string, string>>;

/** What a committed snapshot shows. */
export interface Chain {
  /** diffIDs, bottom first. */
  readonly layers: readonly string[];
  readonly chainId: string;
}

export const chainFrom = (layers: readonly string[]): Chain => ({ layers, chainId: chainOf(layers) });

export class SnapshotBook {
  readonly #database: SnapshotDatabase;
  /** Of committed snapshots. */
  readonly #committed = new Map<number, Chain>();

  constructor(database: SnapshotDatabase) {
    this.#database = database;
    for (const snapshot of database.list())
      if (snapshot.kind === 'committed') this.#committed.set(snapshot.id, chainFrom(this.#walk(snapshot)));
  }

  /** A snapshot was committed: from now on it shows this. */
  add(id: number, chain: Chain): void {
    this.#committed.set(id, chain);
  }

  /** A snapshot was removed. Returns the chain that nobody shows any more, or null. */
  delete(id: number): Chain | null {
    const chain = this.#committed.get(id);
    this.#committed.delete(id);
    return chain === undefined || this.findChain(chain.chainId) !== undefined ? null : chain;
  }

  /**
   * Changes labels. `paths`: `labels` for all of them, `labels.NAME` for one (absent from `labels`: it is removed);
   * none means all. Throws `snapshot/invalid` for any other path.
   */
  update(key: string, labels: Labels, paths: readonly string[]): Snapshot {
    return this.#database.transaction(() => {
      const found = this.find(key);
      let next: Record<string, string> = { ...(paths.length === 0 ? labels : found.labels) };
      for (const path of paths) {
        if (path === 'labels') next = { ...labels };
        else if (path.startsWith('labels.')) next[path.slice(7)] = labels[path.slice(7)] ?? '';
        else
          throw new VeneerError(
            'snapshot/invalid',
            `Cannot update ${JSON.stringify(path)} of snapshot ${key}: only labels can be changed`,
          );
      }
      this.#database.setLabels(found.id, keptLabels(next), readClock());
      return this.find(key);
    });
  }

  list(filters: readonly string[]): Snapshot[] {
    return this.#database.list().filter(compileFilters(filters, fieldOf));
  }

  /** Throws `snapshot/not-found`. */
  find(key: string): Snapshot {
    const found = this.#database.find(key);
    if (found !== null) return found;
    throw new VeneerError('snapshot/not-found', `Cannot find snapshot ${key}: it does not exist`);
  }

  /** Throws `snapshot/not-found` when it was removed or committed meanwhile. */
  active(id: number): Snapshot {
    const found = this.#database.get(id);
    if (found?.kind === 'active') return found;
    throw new VeneerError('snapshot/not-found', `Cannot change snapshot ${id}: it is no longer there`);
  }

  /** The committed snapshot `parent`; `code` is what to throw for one that is not. */
  findParent(key: string, parent: string, code: 'snapshot/invalid' | 'snapshot/state'): Snapshot {
    const found = this.#database.find(parent);
    if (found === null)
      throw new VeneerError(
        'snapshot/not-found',
        `Cannot use snapshot ${parent} as the parent of ${key}: it does not exist`,
      );
    if (found.kind === 'committed') return found;
    throw new VeneerError(code, `Cannot use snapshot ${parent} as the parent of ${key}: it is not committed`);
  }

  /**
   * Checks all that Commit wants, in containerd's order. `parent`: where a snapshot without one belongs ("rebase"); '' for
   * where it is.
   */
  findCommittable(
    name: string,
    key: string,
    parent: string,
  ): { id: number; snapshot: Snapshot; parentId: number | null } {
    const what = `commit snapshot ${key} as ${name}`;
    if (name === '') throw new VeneerError('snapshot/invalid', `Cannot ${what}: the name is empty`);
    if (this.#database.find(name) !== null) throw exists(what);
    const snapshot = this.find(key);
    if (snapshot.kind !== 'active') throw state(what, `it is not active but ${snapshot.kind}`);
    if (parent === '' || parent === snapshot.parent)
      return { id: snapshot.id, snapshot, parentId: snapshot.parentId };
    if (snapshot.parentId !== null)
      throw new VeneerError(
        'snapshot/invalid',
        `Cannot ${what}: its parent is ${snapshot.parent}, not ${parent}`,
      );
    return { id: snapshot.id, snapshot, parentId: this.findParent(name, parent, 'snapshot/state').id };
  }

  /** All layers of a committed snapshot, bottom first; none of no snapshot. */
  layersOf(id: number | null): readonly string[] {
    return id === null ? [] : (this.#committed.get(id)?.layers ?? []);
  }

  /** The same from the database. */
  #walk(snapshot: Snapshot): readonly string[] {
    const parts: (readonly string[])[] = [];
    for (let at: Snapshot | null = snapshot; at !== null; ) {
      const known: readonly string[] | undefined = this.#committed.get(at.id)?.layers;
      parts.push(known ?? at.layers);
      if (known !== undefined) break;
      at = at.parentId === null ? null : this.#database.get(at.parentId);
    }
    return parts.reverse().flat();
  }

  /** The chain with this id, as long as a committed snapshot shows it. */
  findChain(chainId: string): Chain | undefined {
    for (const chain of this.#committed.values()) if (chain.chainId === chainId) return chain;
    return undefined;
  }

  /** Layers below the writable directory; null when there is nothing below it. */
  lowerOf({ parentId, layers }: Snapshot): readonly string[] | null {
    return parentId === null && layers.length === 0 ? null : [...this.layersOf(parentId), ...layers];
  }

  /** What is in use: the numbers of all snapshots, of those with a directory, and the chains of committed ones. */
  inUse(): { readonly ids: Set<number>; readonly directories: Set<number>; readonly chains: Set<string> } {
    const all = this.#database.list();
    return {
      ids: new Set(all.map(({ id }) => id)),
      directories: new Set(all.filter(({ kind }) => kind !== 'committed').map(({ id }) => id)),
      chains: new Set([...this.#committed.values()].map(({ chainId }) => chainId)),
    };
  }
}

/** containerd keeps no label without a value. */
export function keptLabels(labels: Labels): Labels {
  return Object.fromEntries(Object.entries(labels).filter(([, value]) => value !== ''));
}

function fieldOf({ kind, name, parent, labels }: Snapshot, path: readonly string[]): string | undefined {
  switch (path[0]) {
    case 'kind':
      return kind;
    case 'name':
      return name;
    case 'parent':
      return parent;
    case 'labels': {
      const label = path.slice(1).join('.');
      return Object.hasOwn(labels, label) ? labels[label] : undefined;
    }
    default:
      return undefined;
  }
}

export function exists(what: string): VeneerError {
  return new VeneerError('snapshot/exists', `Cannot ${what}: a snapshot of that name exists`);
}

export function state(what: string, reason: string, hint?: string): VeneerError {
  const details = hint === undefined ? {} : { hint };
  return new VeneerError('snapshot/state', `Cannot ${what}: ${reason}`, details);
}
