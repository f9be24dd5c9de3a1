import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { withCode } from '../../test/support/pull-source.ts';
import { VeneerError } from '../errors.ts';
import {
  DEFAULT_RETRY,
  parseRetryAfter,
  type RetryContext,
  retryDelay,
  UnavailableError,
  withRetries,
} from './retry.ts';

const failure = new UnavailableError('Cannot x: y');

describe('retryDelay', () => {
  it('doubles up to the bound, with jitter', () => {
    for (let attempt = 1; attempt < DEFAULT_RETRY.attempts; attempt++) {
      const bound = Math.min(DEFAULT_RETRY.maxDelay, 500 * 2 ** (attempt - 1));
      for (let i = 0; i < 50; i++) {
        const milliseconds = retryDelay(failure, attempt, DEFAULT_RETRY)!;
        assert.ok(milliseconds >= bound / 2 && milliseconds <= bound, `${milliseconds} for ${attempt}`);
      }
    }
    const seen = new Set(Array.from({ length: 50 }, () => retryDelay(failure, 5, DEFAULT_RETRY)));
    assert.ok(seen.size > 1);
  });

  it('ends with the attempts, and for what is no passing failure', () => {
    assert.equal(retryDelay(failure, DEFAULT_RETRY.attempts, DEFAULT_RETRY), null);
    assert.equal(retryDelay(new VeneerError('registry/denied', 'x'), 1, DEFAULT_RETRY), null);
    assert.equal(retryDelay(new Error('x'), 1, DEFAULT_RETRY), null);
  });

  it('takes Retry-After when it is short enough', () => {
    assert.equal(retryDelay(new UnavailableError('x', { retryAfter: 30_000 }), 1, DEFAULT_RETRY), 30_000);
    assert.equal(retryDelay(new UnavailableError('x', { retryAfter: 30_001 }), 1, DEFAULT_RETRY), null);
    assert.equal(retryDelay(new UnavailableError('x', { retryAfter: 0 }), 1, DEFAULT_RETRY), 0);
  });
});

describe('parseRetryAfter', () => {
  it('reads seconds and dates', () => {
    const now = Date.parse('2025-01-01T00:00:00Z');
    assert.equal(parseRetryAfter('120', now), 120_000);
    assert.equal(parseRetryAfter(' 0 ', now), 0);
    assert.equal(parseRetryAfter('Wed, 01 Jan 2025 00:01:00 GMT', now), 60_000);
    assert.equal(parseRetryAfter('Wed, 01 Jan 2020 00:01:00 GMT', now), 0);
    for (const text of [undefined, '', 'x', '-1', '1.5', '9999999999', '2025-01-01', 'Wed, nonsense']) {
      assert.equal(parseRetryAfter(text, now), undefined, text);
    }
  });
});

describe('withRetries', () => {
  const context = (signal: AbortSignal, waits: number[]): RetryContext => ({
    policy: { ...DEFAULT_RETRY, attempts: 3, wait: async (milliseconds) => void waits.push(milliseconds) },
    signal,
    onRetry: () => {},
  });

  it('stops at success, at the end, and at lasting failures', async () => {
    const waits: number[] = [];
    let calls = 0;
    const { signal } = new AbortController();
    const value = await withRetries(context(signal, waits), async () => {
      if (++calls < 3) throw failure;
      return 'done';
    });
    assert.equal(value, 'done');
    assert.equal(waits.length, 2);
    await assert.rejects(
      withRetries(context(signal, waits), () => Promise.reject(failure)),
      (error) => error === failure,
    );
    assert.equal(waits.length, 4);
    const lasting = new VeneerError('registry/denied', 'x');
    await assert.rejects(
      withRetries(context(signal, waits), () => Promise.reject(lasting)),
      (error) => error === lasting,
    );
    assert.equal(waits.length, 4);
  });

  it('ends a wait when the source is closed', async () => {
    const closing = new AbortController();
    const running = withRetries(
      { policy: DEFAULT_RETRY, signal: closing.signal, onRetry: () => setImmediate(() => closing.abort()) },
      () => Promise.reject(new UnavailableError('x', { retryAfter: 30_000 })),
    );
    await assert.rejects(running, withCode('io/cancelled'));
  });
});
