import assert from 'node:assert/strict';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { buildImage, memorySource, temporaryDirectory } from '../../test/support/image-builder.ts';
import { archive, file } from '../../test/support/tar-builder.ts';
import { listImages } from './images.ts';
import { listLayers } from './layers.ts';
import { pullImage } from './pull.ts';
import { MIGRATIONS } from './schema.ts';
import { Store } from './store.ts';

/** Opens the database of a store as somebody else would. */
function withDatabase<T>(root: string, work: (database: DatabaseSync) => T): T {
  const database = new DatabaseSync(join(root, 'store.db'));
  try {
    return work(database);
  } finally {
    database.close();
  }
}

test('a database of each earlier version is brought to the newest, and says the same', async (t) => {
  for (let version = 1; version < MIGRATIONS.length; version++) {
    const root = join(temporaryDirectory(t), 'store');
    const source = memorySource(buildImage([archive(file('a', 'a'))]), { name: 'app:1' });
    const store = Store.open(root, { fsync: false });
    await pullImage(store, source);
    const expected = [listImages(store), listLayers(store)];
    const rows = withDatabase(root, (database) => ({
      layers: database.prepare('SELECT * FROM layers').all(),
      images: database.prepare('SELECT * FROM images').all(),
      image_layers: database.prepare('SELECT * FROM image_layers').all(),
    }));
    store.close();

    withDatabase(root, (database) => {
      const tables = database.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").all();
      database.exec('PRAGMA foreign_keys = OFF');
      for (const { name } of tables) database.exec(`DROP TABLE ${String(name)}`);
      for (const migration of MIGRATIONS.slice(0, version)) database.exec(migration);
      database.exec(`PRAGMA user_version = ${version}`);
      for (const [table, all] of Object.entries(rows)) {
        for (const row of all) {
          const values = Object.values(row);
          database.prepare(`INSERT INTO ${table} VALUES (${values.map(() => '?')})`).run(...values);
        }
      }
      if (version === 1) {
        const [layer] = rows.layers;
        database.prepare('INSERT INTO layer_blobs VALUES (?, ?)').run('sha256:0', layer!.diff_id!);
      }
    });

    const again = Store.open(root, { fsync: false });
    t.after(() => again.close());
    assert.deepEqual([listImages(again), listLayers(again)], expected);
    const found = withDatabase(root, (database) => ({
      version: database.prepare('PRAGMA user_version').get()!.user_version,
      tables: database.prepare("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").all(),
    }));
    assert.equal(found.version, MIGRATIONS.length);
    assert.deepEqual(
      found.tables.map(({ name }) => name),
      ['chains', 'image_layers', 'images', 'layers'],
    );
  }
});
