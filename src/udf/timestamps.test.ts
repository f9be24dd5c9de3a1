import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { fitsTimestamp, readTimestamp, writeTimestamp } from './timestamps.ts';

const trip = (seconds: number, nsec: number): { seconds: number; nsec: number } => {
  const bytes = Buffer.alloc(12);
  writeTimestamp(bytes, 0, seconds, nsec);
  return readTimestamp(bytes, 0);
};

test('every microsecond of the years 1 to 9999 comes back', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: -62_135_596_800, max: 253_402_300_799 }),
      fc.nat(999_999),
      (seconds, micro) => {
        assert.ok(fitsTimestamp(seconds, micro * 1000));
        assert.deepEqual(trip(seconds, micro * 1000), { seconds, nsec: micro * 1000 });
      },
    ),
    { numRuns: 1000 },
  );
});

test('finer times are cut off, those out of range become the nearest', () => {
  assert.deepEqual(trip(5, 123_456_789), { seconds: 5, nsec: 123_456_000 });
  assert.deepEqual(trip(1e15, 0), { seconds: 253_402_300_799, nsec: 0 });
  assert.deepEqual(trip(-1e15, 0), { seconds: -62_135_596_800, nsec: 0 });
  assert.equal(fitsTimestamp(5, 1), false);
  assert.equal(fitsTimestamp(1e15, 0), false);
});

test('the bytes of one moment', () => {
  const bytes = Buffer.alloc(12);
  writeTimestamp(bytes, 0, Date.UTC(2023, 10, 14, 22, 13, 20) / 1000, 123_456_000);
  assert.equal(bytes.toString('hex'), '0010e7070b0e160d140c2238');
});
