import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isAmbiguous, makeSegments, SparseTextMap } from './sparse.ts';

test('valid maps become runs that cover the same bytes, in order', () => {
  const gaps = fc.array(fc.tuple(fc.nat(50), fc.nat(50)), { maxLength: 20 });
  fc.assert(
    fc.property(gaps, fc.nat(30), (parts, tail) => {
      const pairs: number[] = [];
      /** Per byte of the file: the position of its data, or -1. */
      const want: number[] = [];
      let source = 1000;
      for (const [gap, length] of parts) {
        for (let i = 0; i < gap; i++) want.push(-1);
        pairs.push(want.length, length);
        for (let i = 0; i < length; i++) want.push(source++);
      }
      for (let i = 0; i < tail; i++) want.push(-1);
      const segments = makeSegments(pairs, want.length, source - 1000, 1000);
      assert.ok(Array.isArray(segments));
      const got = want.map(() => -1);
      let end = -1;
      for (const segment of segments) {
        assert.ok(segment.length > 0 && segment.offset > end, 'sorted, with a hole in between');
        end = segment.offset + segment.length;
        for (let i = 0; i < segment.length; i++) got[segment.offset + i] = segment.source + i;
      }
      assert.deepEqual(got, want);
    }),
  );
});

test('any map: runs inside the file and inside what is stored, or a reason', () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.nat(100), fc.maxSafeNat()), { maxLength: 12 }),
      fc.oneof(fc.nat(200), fc.maxSafeNat()),
      fc.oneof(fc.nat(200), fc.maxSafeNat()),
      (numbers, realSize, stored) => {
        const pairs = numbers.slice(0, numbers.length & ~1);
        const segments = makeSegments(pairs, realSize, stored, 512);
        if (typeof segments === 'string') return;
        let end = 0;
        let used = 0;
        for (const segment of segments) {
          assert.ok(segment.offset >= end && segment.offset + segment.length <= realSize);
          assert.equal(segment.source, 512 + used);
          end = segment.offset + segment.length;
          used += segment.length;
        }
        assert.ok(used <= stored);
      },
    ),
  );
});

test('a map is ambiguous when a run before the last ends inside a block', () => {
  assert.equal(isAmbiguous([]), false);
  assert.equal(isAmbiguous([0, 5]), false);
  assert.equal(isAmbiguous([0, 512, 9999, 5, 99_999, 0]), false);
  assert.equal(isAmbiguous([0, 5, 1000, 512]), true);
});

test('a text map ends with its last number; more runs than allowed are refused at once', () => {
  const block = (text: string): Buffer => Buffer.from(text.padEnd(512, '\0'));
  const map = new SparseTextMap(2);
  assert.equal(map.add(block('2\n1\n2\n3\n4\nrest'), 0), 'complete');
  assert.deepEqual(map.pairs, [1, 2, 3, 4]);
  assert.equal(new SparseTextMap(2).add(block('3\n'), 0), 'limit');
  assert.equal(new SparseTextMap(2).add(block('0\n'), 0), 'complete');
});
