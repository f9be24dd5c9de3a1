import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { temporaryDirectory } from '../../test/support/image-builder.ts';
import { lockStanding, tryLockName, waitForLock } from './locks.ts';

test('a named lock is exclusive, and its file goes with it', (t) => {
  const path = join(temporaryDirectory(t), 'lock');
  const first = tryLockName(path);
  assert.ok(first);
  assert.equal(tryLockName(path), null);
  first.release();
  assert.equal(existsSync(path), false);
  first.release();
  const second = tryLockName(path);
  assert.ok(second);
  first.release();
  assert.equal(tryLockName(path), null, 'releasing twice does not touch the next holder');
  second.release();
});

test('a lock file that a crash left is free', (t) => {
  const path = join(temporaryDirectory(t), 'lock');
  writeFileSync(path, '');
  const lock = tryLockName(path);
  assert.ok(lock);
  lock.release();
});

test('many waiters hold a named lock one after the other', async (t) => {
  const path = join(temporaryDirectory(t), 'lock');
  let inside = 0;
  let entered = 0;
  const enter = async (): Promise<void> => {
    const lock = await waitForLock(() => tryLockName(path));
    inside++;
    entered++;
    assert.equal(inside, 1);
    await new Promise((resolve) => setTimeout(resolve, 1));
    inside--;
    lock.release();
  };
  await Promise.all(Array.from({ length: 20 }, enter));
  assert.equal(entered, 20);
});

test('shared holders keep an exclusive one out', (t) => {
  const path = join(temporaryDirectory(t), 'lock');
  const a = lockStanding(path, 'shared', true);
  const b = lockStanding(path, 'shared', false);
  assert.equal(lockStanding(path, 'exclusive', false), null);
  a?.release();
  assert.equal(lockStanding(path, 'exclusive', false), null);
  b?.release();
  const exclusive = lockStanding(path, 'exclusive', false);
  assert.ok(exclusive);
  assert.equal(lockStanding(path, 'shared', false), null);
  exclusive.release();
  assert.equal(existsSync(path), true);
});

test('waiting ends with the signal', async (t) => {
  const path = join(temporaryDirectory(t), 'lock');
  const held = tryLockName(path);
  const stop = new AbortController();
  let waits = 0;
  const waiting = waitForLock(() => tryLockName(path), {
    signal: stop.signal,
    onWait: () => {
      waits++;
      stop.abort();
    },
  });
  await assert.rejects(waiting, { code: 'io/cancelled' });
  assert.equal(waits, 1);
  held?.release();
});

test('a lock whose file is unlinked by its holder is never held twice', async (t) => {
  const path = join(temporaryDirectory(t), 'lock');
  // Only threads that really run at the same time get between the open, the lock and the unlink of another.
  const script = `
    const { mkdirSync, rmdirSync } = require('node:fs');
    const { workerData, parentPort } = require('node:worker_threads');
    import(workerData.module).then(({ tryLockName }) => {
      for (let taken = 0; taken < 1500; ) {
        const lock = tryLockName(workerData.path);
        if (lock === null) continue;
        mkdirSync(workerData.path + '.held');
        rmdirSync(workerData.path + '.held');
        lock.release();
        taken++;
      }
      parentPort.postMessage('done');
    });`;
  const workerData = { path, module: new URL('./locks.ts', import.meta.url).href };
  const threads = Array.from({ length: 3 }, () => new Worker(script, { eval: true, workerData }));
  await Promise.all(threads.map((thread) => once(thread, 'message')));
  await Promise.all(threads.map((thread) => thread.terminate()));
});
