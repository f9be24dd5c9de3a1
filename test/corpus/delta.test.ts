/** Deltas of real images: exact, and not larger than the issue allows. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkDelta, corpusTars } from '../support/corpus-delta.ts';

// What other programs make of the two tars: xdelta3 -3 11.8 MB, zstd -9 --patch-from 18.2 MB, bsdiff 3.9 MB.
const LIMITS = { fast: 18.2e6, default: 0.6 * 11.8e6, best: 1.1 * 3.9e6 } as const;

for (const level of ['fast', 'default', 'best'] as const) {
  test(`debian-v1 to debian-v2, ${level}`, async (t) => {
    const old = await corpusTars(t, 'debian-v1');
    const now = await corpusTars(t, 'debian-v2');
    if (old === null || now === null) return;
    const size = await checkDelta(t, old, now[0]!, level);
    t.diagnostic(`${size} bytes`);
    assert.ok(size <= LIMITS[level], `${size}`);
  });
}

test('debian-v2 back to debian-v1', async (t) => {
  const old = await corpusTars(t, 'debian-v2');
  const now = await corpusTars(t, 'debian-v1');
  if (old !== null && now !== null) t.diagnostic(`${await checkDelta(t, old, now[0]!, 'fast')} bytes`);
});

test('node-app: each layer from the one before, and from all before', async (t) => {
  const tars = await corpusTars(t, 'node-app');
  if (tars === null) return;
  for (let i = 1; i < tars.length; i++) {
    const [one, all] = [[tars[i - 1]!], tars.slice(0, i)];
    const size = await checkDelta(t, one, tars[i]!, 'fast');
    const less = i === 1 ? size : await checkDelta(t, all, tars[i]!, 'fast');
    t.diagnostic(`layer ${i}: ${tars[i]!.size} bytes, from one ${size}, from all ${less}`);
  }
});
