/** What a store is set to: ROOT/store.json. */
import { join } from 'node:path';
import { syncPath, writeFileAtomic } from './atomic.ts';
import { storeError } from './io-errors.ts';
import { readStoreSettings, type StoreSettings } from './records.ts';
import type { Store } from './store.ts';

const DEFAULTS: StoreSettings = { version: 1, dedupe: false };

const settingsPath = (store: Store): string => join(store.layout.root, 'store.json');

/** Throws `store/corrupt`. */
export function readSettings(store: Store): StoreSettings {
  return readStoreSettings(settingsPath(store)) ?? DEFAULTS;
}

/** A crash leaves the old settings or the new ones. */
export async function changeSettings(store: Store, change: Partial<StoreSettings>): Promise<StoreSettings> {
  const settings: StoreSettings = { ...readSettings(store), ...change };
  const path = settingsPath(store);
  try {
    store.prepare();
    await writeFileAtomic(path, `${JSON.stringify(settings, null, 2)}\n`, {
      work: store.work(),
      fsync: store.fsync,
      mode: 0o600,
    });
    if (store.fsync) await syncPath(store.layout.root);
  } catch (error) {
    throw storeError(`write ${path}`, error);
  }
  return settings;
}
