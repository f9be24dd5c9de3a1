import assert from 'node:assert/strict';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  buildImage,
  memorySource,
  sampleTars,
  temporaryDirectory,
} from '../../test/support/image-builder.ts';
import { actingAt } from '../../test/support/store-turns.ts';
import { fsck } from './fsck.ts';
import { gc } from './gc.ts';
import { listImages, resolveImage } from './images.ts';
import { listLayers } from './layers.ts';
import { takeLease } from './leases.ts';
import { mountable } from './mountable.ts';
import { pullImage } from './pull.ts';
import { type ImageRecord, recordText } from './records.ts';
import { removeImage } from './rm.ts';
import { Store } from './store.ts';

/** Two images that share their base. */
async function sample(t: TestContext): Promise<{ store: Store; a: ImageRecord; b: ImageRecord }> {
  const store = Store.open(join(temporaryDirectory(t), 'store'), { fsync: false });
  t.after(() => store.close());
  const [base, change, addition] = sampleTars();
  const a = await pullImage(store, memorySource(buildImage([base!, change!]), { name: 'a' }));
  const b = await pullImage(store, memorySource(buildImage([base!, addition!]), { name: 'b' }));
  await mountable(store, a, 'layers');
  return { store, a, b };
}

type Sample = Awaited<ReturnType<typeof sample>>;

interface Damage {
  readonly what: string;
  damage(sample: Sample): void;
  /** What a finding's path and message must say together. */
  readonly says: RegExp;
  /** Images that a repair drops. */
  readonly drops: readonly string[];
}

const layerFile = ({ store, a }: Sample, position: number, file: string): string =>
  join(store.layout.layer(a.layers[position]!.diffId), file);
const chainFile = ({ store, a }: Sample, file: string): string => join(store.layout.chain(a.chainId), file);

const DAMAGES: readonly Damage[] = [
  {
    what: 'a missing tar',
    damage: (s) => rmSync(layerFile(s, 1, 'layer.tar')),
    says: /layer\.tar is missing/,
    drops: ['a'],
  },
  {
    what: 'a cut tar',
    damage: (s) => truncateSync(layerFile(s, 1, 'layer.tar'), 100),
    says: /layer\.tar has 100 bytes/,
    drops: ['a'],
  },
  {
    what: 'a cut layer image',
    damage: (s) => truncateSync(layerFile(s, 0, 'layer.erofs'), 1),
    says: /layer\.erofs has 1 bytes/,
    drops: ['a', 'b'],
  },
  {
    what: 'missing facts',
    damage: (s) => rmSync(layerFile(s, 1, 'layer.json')),
    says: /layer\.json: it is missing/,
    drops: ['a'],
  },
  {
    what: 'facts of another layer',
    damage: (s) => overwrite(layerFile(s, 1, 'layer.json'), readFileSync(layerFile(s, 0, 'layer.json'))),
    says: /it is about sha256/,
    drops: ['a'],
  },
  {
    what: 'a missing layer',
    damage: (s) => rmSync(s.store.layout.layer(s.a.layers[1]!.diffId), { recursive: true }),
    says: /image a is not whole: layer sha256:[0-9a-f]+ is missing/,
    drops: ['a'],
  },
  {
    what: 'a missing merged image',
    damage: (s) => rmSync(chainFile(s, 'fsmeta.erofs')),
    says: /fsmeta\.erofs is missing/,
    drops: [],
  },
  {
    what: 'a cut merged image',
    damage: (s) => truncateSync(chainFile(s, 'fsmeta.erofs'), 512),
    says: /fsmeta\.erofs has 512/,
    drops: [],
  },
  {
    what: 'a damaged chain record',
    damage: (s) => overwrite(chainFile(s, 'chain.json'), '{'),
    says: /chain\.json: it is not JSON/,
    drops: [],
  },
  {
    what: 'a cut linked layer',
    damage: (s) => truncateSync(join(s.store.layout.linkedLayer(s.a.chainId), 'layer.erofs'), 0),
    says: /linked.*layer\.erofs has 0 bytes/,
    drops: [],
  },
  {
    what: 'a changed config',
    damage: (s) => overwrite(s.store.layout.blob(s.b.config.digest), '{}'),
    says: /its content has the digest/,
    drops: ['b'],
  },
  {
    what: 'a missing manifest',
    damage: (s) => rmSync(s.store.layout.blob(s.b.manifest.digest)),
    says: /image b is not whole: its manifest/,
    drops: ['b'],
  },
  {
    what: 'a damaged image record',
    damage: (s) => overwrite(s.store.layout.image('b'), 'x'),
    says: /it is not JSON/,
    drops: ['*'],
  },
  {
    what: 'a record under another name',
    damage: (s) => overwrite(s.store.layout.image('b'), recordText({ ...s.b, name: 'c' })),
    says: /not named after "c"/,
    drops: ['c'],
  },
  {
    what: 'a record with the layers of another image',
    damage: (s) => overwrite(s.store.layout.image('b'), recordText({ ...s.b, layers: s.a.layers })),
    says: /its layers are not those of its config/,
    drops: ['b'],
  },
];

function overwrite(path: string, data: string | Buffer): void {
  rmSync(path);
  writeFileSync(path, data);
}

for (const { what, damage, says, drops } of DAMAGES) {
  test(`${what} is found and repaired`, async (t) => {
    const found = await sample(t);
    const { store } = found;
    damage(found);
    const report = await fsck(store);
    assert.equal(report.ok, false);
    assert.ok(
      report.problems.some((one) => one.severity === 'error' && says.test(`${one.path}: ${one.message}`)),
      JSON.stringify(report.problems),
    );
    assert.ok(report.problems.every((one) => !one.repaired));
    assert.deepEqual(report.droppedImages, []);

    const repaired = await fsck(store, { repair: true });
    assert.equal(repaired.ok, true, JSON.stringify(repaired.problems));
    if (drops[0] === '*') assert.equal(repaired.droppedImages.length, 1);
    else assert.deepEqual([...repaired.droppedImages].sort(), drops);

    const clean = await fsck(store);
    assert.deepEqual(
      clean.problems.filter((one) => one.severity === 'error'),
      [],
    );
    for (const name of ['a', 'b']) {
      const dropped = drops.includes(name) || (name === 'b' && (drops[0] === '*' || drops[0] === 'c'));
      assert.equal(
        listImages(store).some((image) => image.name === name),
        !dropped,
      );
      if (!dropped) {
        await mountable(store, resolveImage(store, name), 'merged');
        await mountable(store, resolveImage(store, name), 'layers');
      }
    }
    const [base, change, addition] = sampleTars();
    await pullImage(store, memorySource(buildImage([base!, change!]), { name: 'a' }));
    await pullImage(store, memorySource(buildImage([base!, addition!]), { name: 'b' }));
    assert.equal((await fsck(store)).ok, true);
  });
}

test('a sound store has nothing to say', async (t) => {
  const { store } = await sample(t);
  const report = await fsck(store);
  assert.deepEqual(report, { problems: [], droppedImages: [], images: 2, layers: 3, chains: 3, ok: true });
  assert.deepEqual(await fsck(store, { repair: true }), report);
});

test('strangers and open doors are noted and left alone', async (t) => {
  const { store, a } = await sample(t);
  const strangers = [
    join(store.layout.root, 'notes.txt'),
    join(store.layout.layers, 'not-a-digest'),
    join(store.layout.images, 'x.json'),
    join(store.layout.layer(a.layers[0]!.diffId), 'extra'),
  ];
  for (const path of strangers) writeFileSync(path, 'x');
  chmodSync(store.layout.root, 0o755);
  const report = await fsck(store, { repair: true });
  assert.equal(report.ok, true);
  for (const path of [...strangers, store.layout.root]) {
    assert.ok(
      report.problems.some((one) => one.path === path && one.severity === 'note'),
      path,
    );
  }
  for (const path of strangers) assert.equal(readFileSync(path, 'utf8'), 'x');
});

test('what a running pull counts on is not repaired away', async (t) => {
  const found = await sample(t);
  const { store, a } = found;
  truncateSync(layerFile(found, 1, 'layer.tar'), 100);
  const lease = takeLease(store, 'pull', {
    layers: [a.layers[1]!.diffId],
    chains: [],
    blobs: [],
    downloads: [],
  });
  const report = await fsck(store, { repair: true });
  assert.equal(report.ok, false);
  lease.release();
  assert.equal((await fsck(store, { repair: true })).ok, true);
});

function copyStore(t: TestContext, { layout }: Store): Store {
  const root = join(temporaryDirectory(t), 'store');
  cpSync(layout.root, root, { recursive: true });
  return Store.open(root, { fsync: false });
}

/** Moves all that an image consists of out of the store; `back` publishes it again in the order of a pull. */
function takeAside(store: Store, record: ImageRecord, aside: string): () => void {
  mkdirSync(aside);
  const { layout } = store;
  const paths = [
    layout.blob(record.config.digest),
    layout.blob(record.manifest.digest),
    ...record.layers.map(({ diffId }) => layout.layer(diffId)),
    layout.chain(record.chainId),
    layout.linkedLayer(record.chainId),
    layout.image(record.name),
  ];
  const pairs = paths.map((path, i) => [path, join(aside, String(i))] as const);
  for (const [path, other] of pairs) renameSync(path, other);
  return () => {
    for (const [path, other] of pairs) renameSync(other, path);
  };
}

for (const repair of [false, true]) {
  test(`a pull that ends during a ${repair ? 'repair' : 'check'} is seen whole or not at all`, async (t) => {
    const { store: prepared, a } = await sample(t);
    removeImage(prepared, 'b');
    await gc(prepared);
    for (let turn = 0; ; turn++) {
      const store = copyStore(t, prepared);
      const needs = { layers: a.layers.map(({ diffId }) => diffId), chains: [a.chainId], downloads: [] };
      const lease = takeLease(store, 'pull', { ...needs, blobs: [a.config.digest, a.manifest.digest] });
      const publish = takeAside(store, a, join(store.layout.root, '..', 'aside'));
      const ended = await actingAt(store, turn, publish, async () => {
        const { problems, droppedImages } = await fsck(store, { repair });
        const errors = problems.filter(({ severity }) => severity === 'error');
        assert.deepEqual([errors, droppedImages], [[], []], `at turn ${turn}`);
      });
      lease.release();
      if (!ended) {
        assert.ok(turn > 8, `${turn} turns`);
        break;
      }
      assert.deepEqual(resolveImage(store, 'a'), a);
      assert.equal((await fsck(store)).ok, true);
      store.close();
    }
  });
}

test('a name that is taken away or given anew during a check is no error', async (t) => {
  for (const change of ['removed', 'replaced'] as const) {
    const { store: prepared, a, b } = await sample(t);
    listImages(prepared);
    for (let turn = 0; ; turn++) {
      const store = copyStore(t, prepared);
      const act = (): void => {
        if (change === 'removed') rmSync(store.layout.image('a'));
        else overwrite(store.layout.image('a'), recordText({ ...b, name: 'a', pulledAt: a.pulledAt }));
      };
      const ended = await actingAt(store, turn, act, async () => {
        const { problems } = await fsck(store);
        const errors = problems.filter(({ severity }) => severity === 'error');
        assert.deepEqual(errors, [], `${change} at turn ${turn}`);
      });
      store.close();
      if (!ended) break;
    }
  }
});

test('debris of the dead is noted, and removed by a repair', async (t) => {
  const { store } = await sample(t);
  const dead = join(store.layout.tmp, 'work-00aa');
  mkdirSync(dead);
  writeFileSync(join(store.layout.leases, 'x.json'), '');
  const report = await fsck(store);
  assert.equal(report.ok, true);
  assert.equal(report.problems.length, 2);
  await fsck(store, { repair: true });
  assert.deepEqual((await fsck(store)).problems, []);
  assert.deepEqual(readdirSync(store.layout.leases), []);
});

const DATABASES: readonly { what: string; damage(store: Store): void }[] = [
  { what: 'missing', damage: (store) => rmSync(store.layout.database) },
  { what: 'empty', damage: (store) => truncateSync(store.layout.database, 0) },
  { what: 'no database at all', damage: (store) => writeFileSync(store.layout.database, 'x'.repeat(20_000)) },
  {
    what: 'damaged in the middle',
    damage(store) {
      const bytes = readFileSync(store.layout.database);
      bytes.fill(0xaa, 4096);
      writeFileSync(store.layout.database, bytes);
    },
  },
  {
    what: 'of a newer veneer',
    damage(store) {
      const { DatabaseSync } = process.getBuiltinModule('node:sqlite');
      const database = new DatabaseSync(store.layout.database);
      database.exec('PRAGMA user_version = 99');
      database.close();
    },
  },
  {
    what: 'wrong about a layer',
    damage(store) {
      store.database().run(`UPDATE layers SET record = replace(record, '"entries":', '"entries":1')`);
    },
  },
];

for (const { what, damage } of DATABASES) {
  test(`a database that is ${what} is made anew from the files`, async (t) => {
    const { store, a, b } = await sample(t);
    listImages(store);
    const layers = listLayers(store);
    if (what !== 'wrong about a layer') store.closeDatabase();
    damage(store);
    assert.equal(resolveImage(store, 'a').chainId, a.chainId, 'names need no database');
    const report = await fsck(store, { repair: true });
    assert.equal(report.ok, true, JSON.stringify(report.problems));
    assert.deepEqual(listImages(store), [a, b]);
    assert.deepEqual(listLayers(store), layers);
    assert.deepEqual((await fsck(store)).problems, []);
  });
}

test('rebuild makes the database anew though nothing is wrong', async (t) => {
  const { store, a, b } = await sample(t);
  listImages(store);
  const other = Store.open(store.layout.root, { fsync: false });
  t.after(() => other.close());
  assert.equal(listImages(other).length, 2);
  assert.equal((await fsck(store, { rebuild: true })).ok, true);
  assert.deepEqual(listImages(store), [a, b]);
  assert.deepEqual(listImages(other), [a, b], 'another process that has it open sees the same');
});
