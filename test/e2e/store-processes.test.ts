/** Several processes on one store, and processes that are killed. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { openLayout } from '../../src/oci/layout.ts';
import { fsck, gc, listImages, listLayers, pullImage, Store, verify } from '../../src/store/index.ts';
import { buildImage, noise, sampleTars, temporaryDirectory, writeLayout } from '../support/image-builder.ts';
import { startStoreProcess } from '../support/store-processes.ts';
import { archive, dir, file } from '../support/tar-builder.ts';

/** Two images of some megabytes that share their base, one as gzip and one as zstd. */
async function writeLayouts(root: string): Promise<[string, string]> {
  const [base, change, addition] = sampleTars();
  const bulk = (seed: number): Buffer =>
    archive(
      dir('opt'),
      ...Array.from({ length: 300 }, (_, i) => file(`opt/file-${i}`, `${seed} and ${i} `.repeat(500))),
      file('opt/noise', noise(3_000_000, seed)),
    );
  const a = join(root, 'layout-a');
  const b = join(root, 'layout-b');
  mkdirSync(a);
  mkdirSync(b);
  await writeLayout(a, buildImage([base!, change!, bulk(1), bulk(2)]));
  const zstd = [base!, bulk(1), addition!, bulk(3)].map((tar) => ({ tar, compression: 'zstd' as const }));
  await writeLayout(b, buildImage(zstd));
  return [a, b];
}

function assertTidy(root: string): void {
  assert.deepEqual(readdirSync(join(root, 'tmp')).sort(), ['downloads', 'locks']);
  for (const dir of ['tmp/downloads', 'tmp/locks', 'leases'])
    assert.deepEqual(readdirSync(join(root, dir)), [], dir);
}

async function assertSound(store: Store): Promise<void> {
  assert.deepEqual((await fsck(store)).problems, []);
  assert.deepEqual((await verify(store)).problems, []);
}

function openStore(t: TestContext, root: string): Store {
  const store = Store.open(root, { fsync: false });
  t.after(() => store.close());
  return store;
}

test('four processes pull the same images at once', async (t) => {
  const place = temporaryDirectory(t);
  const [a, b] = await writeLayouts(place);
  const root = join(place, 'store');
  const actions = [
    [`pull:${a}:a`, `pull:${b}:b`],
    [`fetch:${b}:b`, `fetch:${a}:a`],
    [`pull:${a}:c`, 'mountable:c'],
    [`fetch:${a}:d`, `pull:${b}:e`],
  ];
  const processes = actions.map((list) => startStoreProcess(root, list));
  for (const { ended } of processes) assert.deepEqual(await ended, { code: 0, stderr: '' });
  assertTidy(root);
  const store = openStore(t, root);
  assert.deepEqual(
    listImages(store).map((image) => image.name),
    ['a', 'b', 'c', 'd', 'e'],
  );
  assert.equal(listLayers(store).length, 6);
  await assertSound(store);
});

test('sweeps beside pulls take nothing that is needed', async (t) => {
  const place = temporaryDirectory(t);
  const [a, b] = await writeLayouts(place);
  const root = join(place, 'store');
  const sweepers = [startStoreProcess(root, ['gc', 'again']), startStoreProcess(root, ['gc', 'again'])];
  const pull = (list: string[]): Promise<unknown> => {
    const rounds = Array.from({ length: 6 }, () => list).flat();
    return startStoreProcess(root, rounds).ended.then((end) =>
      assert.deepEqual(end, { code: 0, stderr: '' }),
    );
  };
  try {
    await Promise.all([
      pull([`pull:${a}:a`, 'mountable:a', 'rm:a', `fetch:${b}:a`, 'mountable:a']),
      pull([`fetch:${b}:b`, 'rm:b', `fetch:${a}:b`, 'mountable:b']),
    ]);
    for (const { child } of sweepers) assert.equal(child.exitCode, null, 'the sweeper is still at it');
  } finally {
    for (const { child, ended } of sweepers) {
      child.kill('SIGKILL');
      await ended;
    }
  }
  const store = openStore(t, root);
  await gc(store);
  assert.equal(listImages(store).length, 2);
  await assertSound(store);
});

test('checks beside pulls and sweeps find nothing wrong, and repairs drop nothing', async (t) => {
  const place = temporaryDirectory(t);
  const [a, b] = await writeLayouts(place);
  const root = join(place, 'store');
  const beside = [
    ['fsck', 'again'],
    ['repair', 'again'],
    ['verify', 'again'],
    ['gc', 'again'],
  ].map((list) => startStoreProcess(root, list));
  const work = [`pull:${a}:a`, 'mountable:a', 'rm:a', `fetch:${b}:a`, 'mountable:a', `pull:${a}:a`];
  try {
    const rounds = Array.from({ length: 5 }, () => work).flat();
    assert.deepEqual(await startStoreProcess(root, rounds).ended, { code: 0, stderr: '' });
  } finally {
    for (const { child } of beside) child.kill('SIGKILL');
  }
  for (const { ended } of beside) assert.deepEqual(await ended, { code: null, stderr: '' });
  const store = openStore(t, root);
  await gc(store);
  await assertSound(store);
});

test('kill -9 at any moment leaves a store that is whole, and the next pull goes on', async (t) => {
  const place = temporaryDirectory(t);
  const [a, b] = await writeLayouts(place);
  const root = join(place, 'store');
  const actions = [
    `fetch:${a}:a`,
    'mountable:a',
    `pull:${b}:b`,
    'rm:a',
    'gc',
    `fetch:${b}:a`,
    'mountable:a',
    'rm:a',
    'rm:b',
    'gc',
    'again',
  ];
  for (let round = 0; round < 12; round++) {
    const pair = [startStoreProcess(root, actions), startStoreProcess(root, actions.toSpliced(0, 3))];
    await Promise.all(pair.map((one) => one.ready));
    await delay(Math.random() * 250);
    for (const { child } of pair) child.kill('SIGKILL');
    for (const { ended } of pair) assert.deepEqual(await ended, { code: null, stderr: '' });
    const store = Store.open(root, { fsync: false });
    const report = await fsck(store);
    assert.deepEqual(
      report.problems.filter((problem) => problem.severity === 'error'),
      [],
      `round ${round}`,
    );
    store.close();
  }
  const store = openStore(t, root);
  for (const [layout, name] of [
    [a, 'a'],
    [b, 'b'],
  ] as const) {
    const source = await openLayout(layout);
    await pullImage(store, source, { name });
    await source.close();
  }
  await gc(store);
  await assertSound(store);
  store.close();
  assertTidy(root);
});
