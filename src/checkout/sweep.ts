/** What checkouts that are gone have left in the store. */
import { lstatSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { VeneerError } from '../errors.ts';
import { listDirectory } from '../store/catalog.ts';
import type { Store } from '../store/store.ts';
import { discardUnfinished } from './checkout.ts';
import { identityOf, listRecords, RecordFolder } from './record.ts';

export interface CheckoutSweep {
  /** Directories that are no checkouts any more. */
  readonly checkouts: readonly string[];
  /** Shared files that no checkout has. */
  readonly objects: number;
  /** Bytes of those. */
  readonly bytes: number;
}

/**
 * Forgets checkouts that were removed, and removes shared files that only the store has. Somebody may make a link to
 * one at the same moment: that link stays whole, only the store makes the file anew when it is next wanted.
 */
export function sweepCheckouts(store: Store, { dryRun = false } = {}): CheckoutSweep {
  const checkouts: string[] = [];
  for (const { folder, record } of listRecords(store)) {
    const here = identityOf(record.path);
    if (here !== null && here.inode === record.inode && here.device === record.device) continue;
    let locked: RecordFolder;
    try {
      locked = RecordFolder.lock(store, folder);
    } catch (error) {
      if (error instanceof VeneerError && error.code === 'checkout/busy') continue;
      throw error;
    }
    try {
      checkouts.push(record.path);
      if (dryRun) continue;
      discardUnfinished(record);
      locked.remove();
    } finally {
      locked.close();
    }
  }
  let objects = 0;
  let bytes = 0;
  for (const group of listDirectory(store.layout.objects)) {
    for (const name of listDirectory(join(store.layout.objects, group))) {
      const path = join(store.layout.objects, group, name);
      const facts = lstatSync(path, { throwIfNoEntry: false });
      if (facts === undefined || facts.nlink > 1) continue;
      objects++;
      bytes += facts.blocks * 512;
      if (!dryRun) rmSync(path, { force: true });
    }
  }
  return { checkouts, objects, bytes };
}
