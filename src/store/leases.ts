/**
 * Leases: what running work needs, so that a sweep leaves it alone.
 *
 * A lease is a file under leases/ whose lock is held by the one who made it; when the lock is free the holder is
 * dead and so is the lease. It gets its name when it is written and locked, under the shared store lock: so everybody
 * sees it whole and locked or not at all, and a sweep (which holds that lock exclusively) sees all that were taken.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { VeneerError } from '../errors.ts';
import { flock } from '../sys/flock.ts';
import { listDirectory } from './catalog.ts';
import { isMissing, storeError } from './io-errors.ts';
import { isDigest } from './layout.ts';
import type { Lock } from './locks.ts';
import type { Store } from './store.ts';

/** What must stay; digests. */
export interface Needs {
  /** diffIDs. */
  readonly layers: readonly string[];
  readonly chains: readonly string[];
  /** Manifests, indexes, configs. */
  readonly blobs: readonly string[];
  /** Blobs whose unfinished downloads must stay. */
  readonly downloads: readonly string[];
}

export const NO_NEEDS: Needs = { layers: [], chains: [], blobs: [], downloads: [] };

/**
 * Takes a lease. From its return until `release`, no sweep removes what it names, whether that exists already or
 * comes later. A crash leaves a file without a lock, here or in tmp/, which the next sweep removes; leases are not
 * fsynced, for a machine that goes down takes all holders with it.
 */
export function takeLease(store: Store, purpose: string, needs: Needs): Lock {
  const name = `${randomBytes(9).toString('hex')}.json`;
  const path = join(store.layout.leases, name);
  const temporary = join(store.layout.tmp, `lease-${name}`);
  const shared = store.share();
  let fd = -1;
  try {
    fd = openSync(temporary, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
    flock(fd, 'exclusive', { block: true });
    const data = Buffer.from(`${JSON.stringify({ purpose, pid: process.pid, ...needs })}\n`);
    for (let at = 0; at < data.length; ) at += writeSync(fd, data, at);
    renameSync(temporary, path);
  } catch (error) {
    if (fd >= 0) {
      rmSync(temporary, { force: true });
      closeSync(fd);
    }
    throw storeError(`write ${path}`, error);
  } finally {
    shared.release();
  }
  let live = true;
  return {
    release() {
      if (!live) return;
      live = false;
      try {
        unlinkSync(path);
      } catch (error) {
        if (!isMissing(error)) throw storeError(`remove ${path}`, error);
      } finally {
        closeSync(fd);
      }
    },
  };
}

function digests(value: unknown): string[] {
  if (!Array.isArray(value) || !value.every(isDigest)) throw new Error('not a list of digests');
  return value;
}

function parseNeeds(path: string): Needs {
  try {
    const json = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
    return {
      layers: digests(json.layers),
      chains: digests(json.chains),
      blobs: digests(json.blobs),
      downloads: digests(json.downloads),
    };
  } catch (error) {
    if (isMissing(error)) return NO_NEEDS; // released between our look at its lock and at its text
    throw new VeneerError('store/corrupt', `Cannot read the lease ${path}, which is in use`, {
      hint: 'wait until the other veneer is done',
      cause: error,
    });
  }
}

export interface LeaseReport {
  readonly live: Needs[];
  /** Files of dead leases. */
  readonly dead: string[];
}

/**
 * Reads all leases. Call it with the store lock held (shared is enough to tell; exclusive to act on it).
 * Throws `store/corrupt` when a live lease cannot be read: nobody knows then what may go.
 */
export function readLeases(store: Store): LeaseReport {
  const report: LeaseReport = { live: [], dead: [] };
  for (const name of listDirectory(store.layout.leases)) {
    const path = join(store.layout.leases, name);
    let fd: number;
    try {
      fd = openSync(path, constants.O_RDWR);
    } catch (error) {
      if (isMissing(error)) continue;
      throw storeError(`open ${path}`, error);
    }
    try {
      if (flock(fd, 'exclusive', { block: false })) report.dead.push(path);
      else report.live.push(parseNeeds(path));
    } finally {
      closeSync(fd);
    }
  }
  return report;
}
