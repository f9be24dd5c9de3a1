import assert from 'node:assert/strict';
import { it, describe as suite } from 'node:test';
import { runInThreads } from './thread-pool.ts';

/** A thread that answers each number with what `body` makes of it. */
const thread = (body: string): URL =>
  new URL(
    `data:text/javascript,${encodeURIComponent(`
      import { parentPort } from 'node:worker_threads';
      const reply = (result) => parentPort.postMessage({ type: 'done', result });
      const refuse = (message) => parentPort.postMessage({ type: 'failed', error: { message } });
      parentPort.on('message', (piece) => piece === null ? parentPort.close() : (${body})(piece));
    `)}`,
  );

async function run(body: string, count: number): Promise<{ done: Map<number, number>; failures: number }> {
  const pieces = Array.from({ length: count }, (_, i) => i);
  const done = new Map<number, number>();
  let failures = 0;
  await runInThreads<number, number>({
    code: thread(body),
    threads: 2,
    data: null,
    next: () => pieces.shift() ?? null,
    messageOf: (piece) => piece,
    onDone: (piece, result) => done.set(piece, result),
    onFail: () => failures++,
  }).catch((error: Error) => {
    throw Object.assign(error, { failures });
  });
  return { done, failures };
}

suite('runInThreads', () => {
  it('does each piece once', async () => {
    const { done, failures } = await run('(piece) => reply(piece * 2)', 20);
    assert.deepEqual(
      [...done].sort(([a], [b]) => a - b),
      Array.from({ length: 20 }, (_, i) => [i, i * 2]),
    );
    assert.equal(failures, 0);
  });

  it('throws the first failure, and tells of it once', async () => {
    await assert.rejects(run('() => refuse("no")', 20), { message: 'no', failures: 1 });
  });

  it('fails when threads end between two pieces, or in one', { timeout: 60_000 }, async () => {
    const gone = { message: /a thread ended in the middle/, failures: 1 };
    await assert.rejects(run('(piece) => { reply(piece); parentPort.close(); }', 20), gone);
    await assert.rejects(run('() => process.exit(0)', 20), gone);
    await assert.rejects(run('() => { throw new Error("bug"); }', 20), { message: 'bug', failures: 1 });
  });
});
