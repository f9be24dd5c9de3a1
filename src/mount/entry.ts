/**
 * `runDir/ID/`: one directory a mount, made before it and removed after it.
 *
 *   record.json   what was mounted; written before the mount becomes visible
 *   anchor/       where old kernels need the layers attached for a moment
 *   upper/ work/  of an ephemeral writable layer
 *
 * Who makes or removes a mount holds the directory's flock, so a free lock on an entry without a living
 * mount means that its maker died. `runDir` itself is locked while entries are made or swept.
 */
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { VeneerError } from '../errors.ts';
import { flock } from '../sys/flock.ts';
import { makeDirectory } from '../sys/make-directory.ts';
import { detachMount } from '../sys/mount-api.ts';
import { isBelow, readMountInfo } from './mountinfo.ts';
import type { MountRecord } from './types.ts';

const RECORD = 'record.json';
const ANCHOR = 'anchor';
/** Entries on their way out; whoever sweeps next finishes the removal. */
const DEAD = 'dead-';
const PREFIX = 'mount-';
const ID = /^mount-[A-Za-z0-9]{6}$/;

export interface Entry {
  readonly id: string;
  readonly path: string;
  /** Descriptor of the directory that holds the lock. */
  readonly fd: number;
}

export const anchorPath = (entry: string): string => join(entry, ANCHOR);

/** Runs `work` while no other process makes or sweeps entries. */
export function withRunDir<T>(runDir: string, work: () => T): T {
  const fd = openSync(runDir, 'r');
  try {
    flock(fd, 'exclusive', { block: true });
    return work();
  } finally {
    closeSync(fd);
  }
}

/** A new entry, locked. */
export function makeEntry(runDir: string): Entry {
  makeDirectory(resolve(runDir), 0o700);
  return withRunDir(runDir, () => {
    const path = mkdtempSync(join(runDir, PREFIX));
    const entry = { id: basename(path), path, fd: openSync(path, 'r') };
    flock(entry.fd, 'exclusive', { block: true });
    return entry;
  });
}

/** Locks an entry that exists; null when it is gone or, without `block`, somebody else works on it. */
export function lockEntry(runDir: string, id: string, options: { block: boolean }): Entry | null {
  const path = join(runDir, id);
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch {
    return null;
  }
  // Who held the lock before us may have removed the entry.
  if (flock(fd, 'exclusive', options) && existsSync(path)) return { id, path, fd };
  closeSync(fd);
  return null;
}

/** Ids of all entries, sorted; none when there is no `runDir`. */
export function listEntries(runDir: string): string[] {
  return readNames(runDir).filter((name) => ID.test(name));
}

/** Writes the record so that it is either whole or not there. */
export function writeRecord(entry: Entry, record: MountRecord): void {
  const temporary = join(entry.path, `${RECORD}.new`);
  writeFileSync(temporary, `${JSON.stringify(record, null, 2)}\n`);
  renameSync(temporary, join(entry.path, RECORD));
}

/** The entry's record, or null when it has none or it cannot be understood. */
export function readRecord(runDir: string, id: string): MountRecord | null {
  try {
    const record = JSON.parse(readFileSync(join(runDir, id, RECORD), 'utf8')) as Partial<MountRecord>;
    const sound =
      record.id === id &&
      typeof record.target === 'string' &&
      typeof record.mountId === 'number' &&
      typeof record.device === 'string' &&
      typeof record.boot === 'string' &&
      typeof record.type === 'string';
    return sound ? (record as MountRecord) : null;
  } catch {
    return null;
  }
}

/**
 * Takes an entry out of sight and returns what is left to delete with {@link deleteEntry}.
 * Killed in between, the next sweep deletes it.
 */
export function retireEntry(entry: Pick<Entry, 'id' | 'path'>): string {
  const dead = join(entry.path, '..', `${DEAD}${entry.id}`);
  renameSync(entry.path, dead);
  return dead;
}

/** Deletes a retired entry with all that an ephemeral upper directory holds, and nothing that is mounted inside it. */
export function deleteEntry(dead: string): void {
  // A writable mount in there may lead to changes that the user wants to keep.
  detachBelow(dead);
  const [left] = listMountsBelow(dead);
  if (left !== undefined) {
    throw new VeneerError('mount/busy', `Cannot delete ${dead}: ${left} is still mounted inside it`);
  }
  rmSync(dead, { recursive: true, force: true });
}

/** Detaches what a killed process left attached below `path`, topmost first; returns the mount points. */
export function detachBelow(path: string): string[] {
  const left = listMountsBelow(path);
  for (const target of left.toReversed()) {
    try {
      detachMount(target, { lazy: true });
    } catch (error) {
      // A lazy detach takes all mounts below with it.
      if (!(error instanceof VeneerError) || (error.code !== 'sys/EINVAL' && error.code !== 'sys/ENOENT'))
        throw error;
    }
  }
  return left;
}

function listMountsBelow(path: string): string[] {
  return readMountInfo().flatMap(({ target }) => (isBelow(target, path) ? [target] : []));
}

export function listRetired(runDir: string): string[] {
  return readNames(runDir)
    .filter((name) => name.startsWith(DEAD))
    .map((name) => join(runDir, name));
}

function readNames(runDir: string): string[] {
  try {
    return readdirSync(runDir).sort();
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code;
    if (reason === 'ENOENT') return [];
    throw new VeneerError(
      reason === 'EACCES' ? 'mount/not-permitted' : 'io/failed',
      `Cannot read the list of mounts in ${runDir}: ${reason}`,
      { hint: 'The mounts of this store belong to another user, most likely root.', cause },
    );
  }
}
