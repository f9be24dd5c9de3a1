import assert from 'node:assert/strict';
import { closeSync, cpSync, openSync, readSync, rmSync, truncateSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  buildImage,
  memorySource,
  sampleTars,
  temporaryDirectory,
} from '../../test/support/image-builder.ts';
import { actingAt } from '../../test/support/store-turns.ts';
import type { ProgressEvent } from '../progress/events.ts';
import { readLeases } from './leases.ts';
import { mountable } from './mountable.ts';
import { pullImage } from './pull.ts';
import type { ImageRecord } from './records.ts';
import { removeImage } from './rm.ts';
import { Store } from './store.ts';
import { verify } from './verify.ts';

async function sample(t: TestContext): Promise<{ store: Store; record: ImageRecord; other: ImageRecord }> {
  const store = Store.open(join(temporaryDirectory(t), 'store'), { fsync: false });
  t.after(() => store.close());
  const record = await pullImage(store, memorySource(buildImage(sampleTars()), { name: 'app' }));
  await mountable(store, record, 'layers');
  const other = await pullImage(
    store,
    memorySource(buildImage(sampleTars(' other').slice(0, 1)), { name: 'other' }),
  );
  return { store, record, other };
}

function flipByte(path: string, at: number): void {
  const fd = openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, at);
  byte[0]! ^= 0x40;
  writeSync(fd, byte, 0, 1, at);
  closeSync(fd);
}

test('a sound store verifies, with progress', async (t) => {
  const { store, record } = await sample(t);
  const events: ProgressEvent[] = [];
  const report = await verify(store, { onProgress: (event) => events.push(event) });
  assert.deepEqual(report.problems, []);
  // 4 layers of two files, 2 merged images, 2 linked layers at least, 2 manifests and configs
  assert.ok(report.files >= 8 + 2 + 2 + 4, String(report.files));
  assert.deepEqual(events.at(-1), { type: 'end', id: 'verify', outcome: 'done' });
  const one = await verify(store, { image: record });
  assert.ok(one.files < report.files && one.bytes < report.bytes);
});

test('every single changed byte is found and its file named', async (t) => {
  const { store, record } = await sample(t);
  const layer = store.layout.layer(record.layers[0]!.diffId);
  const [merged] = await mountable(store, record, 'merged');
  const linked = (await mountable(store, record, 'layers'))[1]!;
  const files = [
    join(layer, 'layer.tar'),
    join(layer, 'layer.erofs'),
    merged!.primary,
    linked.primary,
    store.layout.blob(record.manifest.digest),
    store.layout.blob(record.config.digest),
  ];
  for (const path of files) {
    flipByte(path, 40);
    const report = await verify(store);
    assert.deepEqual(
      report.problems.map((problem) => problem.path),
      [path],
    );
    flipByte(path, 40);
  }
  assert.deepEqual((await verify(store)).problems, []);
});

test('missing and cut files are named; other images are not looked at when one is asked for', async (t) => {
  const { store, record, other } = await sample(t);
  const layer = store.layout.layer(record.layers[2]!.diffId);
  truncateSync(join(layer, 'layer.tar'), 1000);
  rmSync(join(layer, 'layer.erofs'));
  rmSync(store.layout.blob(record.config.digest));
  rmSync(join(store.layout.layer(record.layers[1]!.diffId), 'layer.json'));
  const report = await verify(store, { image: record });
  const messages = report.problems.map((problem) => problem.message).join('\n');
  assert.equal(report.problems.length, 4, messages);
  assert.match(messages, /layer\.tar has 1000 bytes/);
  assert.match(messages, /layer\.erofs cannot be read: it is missing/);
  assert.match(messages, /layer\.json: it is missing/);
  assert.deepEqual((await verify(store, { image: other })).problems, []);
});

test('verify holds a lease while it runs and ends with the signal', async (t) => {
  const { store } = await sample(t);
  const stop = new AbortController();
  let live = 0;
  const running = verify(store, {
    signal: stop.signal,
    onProgress() {
      live = Math.max(live, readLeases(store).live.length);
      stop.abort();
    },
  });
  await assert.rejects(running, { code: 'io/cancelled' });
  assert.equal(live, 1);
  assert.equal(readLeases(store).live.length, 0);
});

test('a sweep during a verify takes all or nothing of what is looked at', async (t) => {
  const { store: prepared, record } = await sample(t);
  removeImage(prepared, 'app');
  let swept = 0;
  for (let turn = 0; ; turn++) {
    const root = join(temporaryDirectory(t), 'store');
    cpSync(prepared.layout.root, root, { recursive: true });
    const store = Store.open(root, { fsync: false });
    const other = Store.open(root, { fsync: false });
    /** What `gc` does, but at once. */
    const sweep = (): void => {
      const lock = other.tryExclusive();
      if (lock === null) return;
      if (readLeases(other).live.length === 0) {
        swept++;
        rmSync(other.layout.chain(record.chainId), { recursive: true });
        rmSync(other.layout.blob(record.config.digest));
        for (const { diffId } of record.layers.slice(1))
          rmSync(other.layout.layer(diffId), { recursive: true });
      }
      lock.release();
    };
    const ended = await actingAt(store, turn, sweep, async () => {
      assert.deepEqual((await verify(store)).problems, [], `at turn ${turn}`);
    });
    store.close();
    if (!ended) break;
  }
  assert.ok(swept > 0, 'a sweep before the verify');
});
