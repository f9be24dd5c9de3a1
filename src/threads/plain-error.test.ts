import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { VeneerError } from '../errors.ts';
import { plainError, revivedError } from './plain-error.ts';

/** As it comes out of another thread. */
const sent = (error: unknown): Error => revivedError(structuredClone(plainError(error)));

function failedCall(): unknown {
  try {
    return readFileSync('/nowhere/at/all');
  } catch (error) {
    return error;
  }
}

const SYSTEM = { code: 'ENOENT', errno: -2, syscall: 'open', path: '/nowhere/at/all' };

test('a failed system call keeps what Node says of it', () => {
  const error = sent(failedCall());
  assert.partialDeepStrictEqual({ ...error }, SYSTEM);
  assert.equal(error.message, (failedCall() as Error).message);
});

test('a VeneerError keeps its code, its hint and the system call that caused it', () => {
  const hinted = sent(new VeneerError('io/failed', 'Cannot go on', { hint: 'go back' }));
  assert.ok(hinted instanceof VeneerError);
  assert.deepEqual(
    [hinted.code, hinted.message, hinted.hint, hinted.cause],
    ['io/failed', 'Cannot go on', 'go back', undefined],
  );
  const caused = sent(new VeneerError('io/failed', 'Cannot go on', { cause: failedCall() }));
  assert.ok(caused instanceof VeneerError && caused.cause instanceof Error);
  assert.equal(caused.hint, undefined);
  assert.partialDeepStrictEqual({ ...caused.cause }, SYSTEM);
});

test('a bug keeps its message and its stack apart', () => {
  const bug = new RangeError('Invalid array length');
  const error = sent(bug);
  assert.equal(error.message, bug.message);
  assert.equal(error.stack, bug.stack);
  assert.equal(sent('just words').message, 'just words');
});
