/**
 * Holds: what snapshots need, for as long as they stand. A lease ends with its process; a hold is a file that stays
 * until its owner takes it away.
 *
 * It gets its name under the shared store lock, complete. So a sweep has seen it or had ended before: who looks for a
 * layer after its hold is written finds one that stays. One that is not durable yet may be lost with the machine, or
 * be an empty file afterwards: nobody was told of it.
 */
import { randomBytes } from 'node:crypto';
import { renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { VeneerError } from '../errors.ts';
import { syncPath, syncPaths, unpublishFile } from './atomic.ts';
import { listDirectory } from './catalog.ts';
import { storeError } from './io-errors.ts';
import { type HoldRecord, readHoldRecord, recordText } from './records.ts';
import type { Store } from './store.ts';

const HOLD_FILE = /^([a-z0-9-]+)\.json$/;

/**
 * Writes the hold `name` (letters, digits, dashes), in place of what it held before. A crash leaves the old or the new.
 * `lazily`: it is not durable before {@link syncHold}.
 */
export async function writeHold(
  store: Store,
  name: string,
  needs: Pick<HoldRecord, 'layers' | 'chains'>,
  { lazily = false }: { readonly lazily?: boolean } = {},
): Promise<void> {
  const path = store.layout.hold(name);
  const temporary = join(store.work(), randomBytes(9).toString('hex'));
  const { layers, chains } = needs;
  try {
    writeFileSync(temporary, recordText({ version: 1, layers, chains }), { flag: 'wx', mode: 0o444 });
    if (store.fsync && !lazily) await syncPath(temporary);
    const shared = store.share();
    try {
      renameSync(temporary, path);
    } finally {
      shared.release();
    }
    if (store.fsync && !lazily) await syncPath(store.layout.holds);
  } catch (error) {
    throw storeError(`write ${path}`, error);
  }
}

/** Makes the hold `name` durable, and the names of all layers that were published before. */
export async function syncHold(store: Store, name: string): Promise<void> {
  const { layout, fsync } = store;
  const path = layout.hold(name);
  try {
    if (fsync) await syncPaths([path, layout.holds, layout.layers]);
  } catch (error) {
    throw storeError(`write ${path}`, error);
  }
}

/** Whether the hold `name` says just this. */
export function isHeld(store: Store, name: string, needs: Pick<HoldRecord, 'layers' | 'chains'>): boolean {
  const text = ({ layers, chains }: typeof needs): string => JSON.stringify([layers, chains]);
  try {
    return text(readHoldRecord(store.layout.hold(name))) === text(needs);
  } catch (error) {
    if (error instanceof VeneerError && /^store\/(missing|corrupt)$/.test(error.code)) return false;
    throw error;
  }
}

/** Takes a hold away; what it named goes with the next sweep. A crash leaves it or not. */
export function removeHold(store: Store, name: string): void {
  const path = store.layout.hold(name);
  try {
    unpublishFile(path, { fsync: false });
  } catch (error) {
    throw storeError(`remove ${path}`, error);
  }
}

/** Names of all holds, sorted. */
export function listHolds(store: Store): string[] {
  return listDirectory(store.layout.holds).flatMap((file) => HOLD_FILE.exec(file)?.[1] ?? []);
}

/**
 * What all holds name together. Call it with the store lock held. Throws `store/corrupt` when one cannot be read:
 * nobody knows then what may go.
 */
export function readHolds(store: Store): HoldRecord[] {
  return listHolds(store).flatMap((name) => {
    const path = store.layout.hold(name);
    try {
      return [readHoldRecord(path)];
    } catch (error) {
      // Its owner may take it away at any time.
      if (error instanceof VeneerError && error.code === 'store/missing') return [];
      if (isEmpty(path)) return [];
      throw error;
    }
  });
}

/** What a file that was not durable may be after a crash of the machine. */
function isEmpty(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.size === 0;
}
