import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatBytes, formatCount, formatDuration, formatTime, isoTime } from './units.ts';

describe('units', () => {
  it('bytes', () => {
    const cases: [number, string][] = [
      [0, '0 B'],
      [999, '999 B'],
      [1000, '1.0 kB'],
      [9949, '9.9 kB'],
      [9950, '10 kB'],
      [999_499, '999 kB'],
      [999_500, '1.0 MB'],
      [1_013_000_000, '1.0 GB'],
      [Number.MAX_SAFE_INTEGER, '9.0 PB'],
    ];
    for (const [bytes, text] of cases) assert.equal(formatBytes(bytes), text);
  });

  it('bytes never take more than seven columns', () => {
    fc.assert(fc.property(fc.maxSafeNat(), (bytes) => formatBytes(bytes).length <= 7));
  });

  it('durations and counts', () => {
    assert.equal(formatDuration(12.4), '12 ms');
    assert.equal(formatDuration(1234), '1.23 s');
    assert.equal(formatDuration(12_340), '12.3 s');
    assert.equal(formatCount(1, 'entry'), '1 entry');
    assert.equal(formatCount(2, 'entry'), '2 entries');
    assert.equal(formatCount(0, 'layer'), '0 layers');
  });

  it('times keep their nanoseconds, before 1970 too, and never throw', () => {
    assert.equal(isoTime(0, 1), '1970-01-01T00:00:00.000000001Z');
    assert.equal(isoTime(-1, 999_999_999), '1969-12-31T23:59:59.999999999Z');
    assert.equal(isoTime(1e15, 5), '@1000000000000000.000000005');
    assert.match(formatTime(1_700_000_000), /^2023-11-1[45] \d\d:\d\d$/);
    assert.equal(formatTime(1e15), '@1000000000000000');
  });
});
