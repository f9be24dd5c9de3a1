import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { Slots } from './slots.ts';

/** Work that ends when it is told to. */
function controlled(): { work: () => Promise<void>; end: () => void; started: () => boolean } {
  const { promise, resolve } = Promise.withResolvers<void>();
  let started = false;
  const work = (): Promise<void> => {
    started = true;
    return promise;
  };
  return { work, end: resolve, started: () => started };
}

test('so many run at a time, the others in the order they came', async () => {
  const slots = new Slots(2);
  const jobs = Array.from({ length: 4 }, controlled);
  const runs = jobs.map(({ work }) => slots.run(work));
  await turn();
  assert.deepEqual(
    jobs.map((job) => job.started()),
    [true, true, false, false],
  );
  assert.equal(slots.waiting, 2);
  assert.equal(slots.free, 0);
  jobs[1]!.end();
  await turn();
  assert.deepEqual(
    jobs.map((job) => job.started()),
    [true, true, true, false],
  );
  for (const job of jobs) job.end();
  await Promise.all(runs);
  assert.equal(slots.free, 2);
});

test('whoever is cancelled while waiting never runs, and takes no slot along', async () => {
  const slots = new Slots(1);
  const first = controlled();
  const running = slots.run(first.work);
  const gone = new AbortController();
  const second = controlled();
  const cancelled = slots.run(second.work, gone.signal);
  const third = controlled();
  const last = slots.run(third.work);
  gone.abort();
  await assert.rejects(cancelled, { code: 'io/cancelled' });
  assert.equal(second.started(), false);
  // Given a slot and cancelled in one turn: it runs, and gives the slot back.
  first.end();
  await running;
  await turn();
  assert.equal(third.started(), true);
  third.end();
  await last;
  assert.equal(slots.free, 1);
  await assert.rejects(slots.run(second.work, gone.signal), { code: 'io/cancelled' });
});

test('work that fails gives its slot back', async () => {
  const slots = new Slots(1);
  await assert.rejects(
    slots.run(async () => Promise.reject(new Error('no'))),
    /no/,
  );
  assert.equal(slots.free, 1);
});
