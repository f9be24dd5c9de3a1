/** Several processes on a store whose layers share their data, and processes that are killed. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { changeSettings, compact, fsck, gc, listImages, Store, verify } from '../../src/store/index.ts';
import { buildImage, temporaryDirectory, writeLayout } from '../support/image-builder.ts';
import { startStoreProcess } from '../support/store-processes.ts';
import { versionPair } from '../support/version-pair.ts';

/** A store that dedupes, and three images of which each has parts of the others. */
async function prepare(t: TestContext): Promise<{ root: string; layouts: string[] }> {
  const place = temporaryDirectory(t);
  const { before, after } = versionPair(3);
  const layouts: string[] = [];
  for (const [name, tars] of Object.entries({ a: [before], b: [after], c: [after, versionPair(4).after] })) {
    const path = join(place, `layout-${name}`);
    mkdirSync(path);
    await writeLayout(path, buildImage(tars.map((tar) => ({ tar, compression: 'zstd' as const }))));
    layouts.push(path);
  }
  const root = join(place, 'store');
  const store = Store.open(root, { fsync: false });
  await changeSettings(store, { dedupe: true });
  store.close();
  return { root, layouts };
}

async function assertErrorFree(store: Store, when: string): Promise<void> {
  const { problems } = await fsck(store);
  assert.deepEqual(
    problems.filter(({ severity }) => severity === 'error'),
    [],
    when,
  );
}

async function assertSound(t: TestContext, root: string): Promise<Store> {
  const store = Store.open(root, { fsync: false });
  t.after(() => store.close());
  await assertErrorFree(store, 'in the end');
  assert.deepEqual((await verify(store)).problems, []);
  return store;
}

test('sweeps, compactions and checks beside pulls take nothing that is shared', async (t) => {
  const { root, layouts } = await prepare(t);
  const [a, b, c] = layouts;
  const beside = [
    ['gc', 'again'],
    ['compact', 'again'],
    ['fsck', 'compact', 'verify', 'again'],
  ].map((list) => startStoreProcess(root, list));
  const rounds = (list: string[]): string[] => Array.from({ length: 4 }, () => list).flat();
  try {
    const pulls = [
      [`pull:${a}:x`, 'mountable:x', `pull:${b}:x`, 'mountable:x', 'rm:x', `pull:${c}:x`],
      [`pull:${b}:y`, 'rm:y', `fetch:${c}:y`, 'mountable:y', `pull:${a}:y`, 'mountable:y'],
    ].map((list) => startStoreProcess(root, rounds(list)));
    for (const { ended } of pulls) assert.deepEqual(await ended, { code: 0, stderr: '' });
  } finally {
    for (const { child } of beside) child.kill('SIGKILL');
  }
  for (const { ended } of beside) assert.deepEqual(await ended, { code: null, stderr: '' });
  const store = await assertSound(t, root);
  assert.deepEqual(
    listImages(store).map(({ name }) => name),
    ['x', 'y'],
  );
});

test('kill -9 at any moment leaves layers whole, with all that they share', async (t) => {
  const { root, layouts } = await prepare(t);
  const [a, b, c] = layouts;
  // names of their own, so that none misses what another one took away
  const actions = (first: string, second: string): string[] => [
    `pull:${a}:${first}`,
    `pull:${b}:${second}`,
    `rm:${first}`,
    'gc',
    'compact',
    'gc',
    `mountable:${second}`,
    `fetch:${c}:${first}`,
    `rm:${second}`,
    'compact',
    'gc',
    `mountable:${first}`,
    'again',
  ];
  for (let round = 0; round < 6; round++) {
    const pair = [actions('x', 'y'), actions('u', 'v')].map((list) => startStoreProcess(root, list));
    await Promise.all(pair.map(({ ready }) => ready));
    await delay(Math.random() * 900);
    for (const { child } of pair) child.kill('SIGKILL');
    for (const { ended } of pair) assert.deepEqual(await ended, { code: null, stderr: '' });
    const store = Store.open(root, { fsync: false });
    await assertErrorFree(store, `round ${round}`);
    store.close();
  }
  const store = await assertSound(t, root);
  await gc(store);
  await compact(store);
  for (const { name } of listImages(store)) assert.ok(['x', 'y', 'u', 'v'].includes(name));
  assert.deepEqual((await verify(store)).problems, []);
  assert.deepEqual(readdirSync(store.layout.leases), []);
});
