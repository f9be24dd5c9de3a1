/** The database against the files, and its repair. */
import { VeneerError } from '../errors.ts';
import { stampOf, syncCatalog } from './catalog.ts';
import { removeDatabase } from './db.ts';
import { hasLayer, readLayer } from './layers.ts';
import { readImageRecord } from './records.ts';
import type { Store } from './store.ts';

/**
 * What is wrong with the database, and whether it was repaired; null when nothing is. It may lag behind the files
 * at any time, so it is brought up first. With `rebuild` it is made anew in any case.
 */
export function checkDatabase(
  store: Store,
  options: { repair: boolean; rebuild: boolean },
): { message: string; repaired: boolean } | null {
  const message = databaseProblem(store);
  if (message === null && !options.rebuild) return null;
  let repaired = false;
  if (options.repair) {
    rebuildDatabase(store);
    repaired = databaseProblem(store) === null;
  }
  return message === null ? null : { message, repaired };
}

function databaseProblem(store: Store): string | null {
  try {
    syncCatalog(store);
    const problems = store.database().check();
    if (problems.length > 0) return problems.slice(0, 3).join('; ');
    return staleRow(store);
  } catch (error) {
    if (error instanceof VeneerError) return error.message;
    throw error;
  }
}

/** A row that says something else than its file. Pulls, `rm` and `gc` go on meanwhile: what they have changed is no lie. */
function staleRow(store: Store): string | null {
  const database = store.database();
  const images = database.rows<{ name: string; stamp: string; record: string }>(
    'SELECT name, stamp, record FROM images',
  );
  for (const { name, stamp, record } of images) {
    const path = store.layout.image(name);
    const isRight = sameRecord(() => readImageRecord(path), record);
    if (!isRight && stampOf(path) === stamp) return `it is wrong about image ${name}`;
  }
  const layers = database.rows<{ diff_id: string; record: string }>('SELECT diff_id, record FROM layers');
  for (const { diff_id, record } of layers) {
    const isRight = sameRecord(() => readLayer(store, diff_id), record);
    if (!isRight && hasLayer(store, diff_id)) return `it is wrong about layer ${diff_id}`;
  }
  return null;
}

function sameRecord(read: () => unknown, record: string): boolean {
  try {
    return JSON.stringify(read()) === record;
  } catch (error) {
    if (error instanceof VeneerError && error.code === 'store/missing') return false;
    throw error;
  }
}

/**
 * Makes the database anew. A sound one is emptied and filled in place, for other processes may have it open;
 * only one that cannot be used at all is removed. A crash leaves an empty or absent database, which fills
 * itself when it is next asked.
 */
function rebuildDatabase(store: Store): void {
  try {
    const database = store.database();
    if (database.check().length === 0) {
      database.transaction(() => {
        for (const table of ['image_layers', 'images', 'layers', 'chains']) {
          database.run(`DELETE FROM ${table}`);
        }
      });
      syncCatalog(store);
      return;
    }
  } catch (error) {
    if (!(error instanceof VeneerError) || error.code !== 'store/database') throw error;
  }
  store.closeDatabase();
  removeDatabase(store.layout.database);
  syncCatalog(store);
}
