/** Blobs from a registry behind a network that fails in every way we know of. */
import assert from 'node:assert/strict';
import { it, describe as suite } from 'node:test';
import fc from 'fast-check';
import { VeneerError } from '../../src/errors.ts';
import { isRetryable } from '../../src/oci/source.ts';
import { ATTEMPTS, expectWhole, layerOf, onLayer, rangesOf, SIZE, start } from '../support/fault-bench.ts';
import type { Fault } from '../support/flaky-proxy.ts';
import { readBlob, withCode } from '../support/pull-source.ts';

suite('a blob', () => {
  it('goes on where the connection was cut', async (t) => {
    const bench = await start(t);
    if (bench === null) return;
    onLayer(bench, (count) => (count < 3 ? { cutAfter: 200_000 } : {}));
    await expectWhole(bench);
    assert.deepEqual(rangesOf(bench), [undefined, 'bytes=200000-', 'bytes=400000-', 'bytes=600000-']);
    assert.equal(bench.waits.length, 3);
    assert.match(bench.notes[0]!, /the connection was cut at byte 200000; next try in/);
  });

  it('goes on more often than the policy says as long as bytes come', async (t) => {
    const bench = await start(t);
    if (bench === null) return;
    onLayer(bench, () => ({ cutAfter: 50_000 }));
    await expectWhole(bench);
    assert.ok(bench.waits.length > ATTEMPTS);
  });

  it('goes on when the transfer stalls', async (t) => {
    const bench = await start(t, { timeouts: { idleTimeout: 1500 } });
    if (bench === null) return;
    onLayer(bench, (count) => (count === 0 ? { stallAfter: 300_000 } : {}));
    const blob = await readBlob(bench.source, layerOf(bench.image));
    assert.ok(blob.equals(bench.image.layers[0]!.bytes));
    assert.deepEqual(rangesOf(bench), [undefined, 'bytes=300000-']);
  });

  it('goes on when it ends too early in good order', async (t) => {
    const bench = await start(t);
    if (bench === null) return;
    onLayer(bench, (count) => (count === 0 ? { endAfter: 123_456 } : {}));
    await expectWhole(bench);
    assert.deepEqual(rangesOf(bench), [undefined, 'bytes=123456-']);
  });

  it('skips what it has when the server ignores ranges', async (t) => {
    const bench = await start(t);
    if (bench === null) return;
    onLayer(bench, (count) => (count === 0 ? { cutAfter: 200_000 } : { ignoreRange: true }));
    await expectWhole(bench);
  });

  it('asks for the whole when Content-Range is not what it asked for', async (t) => {
    for (const range of [
      'bytes 0-999/1000',
      'bytes 200001-1001983/1001984',
      'bytes 200000-/9',
      'nonsense',
      undefined,
    ]) {
      const bench = await start(t);
      if (bench === null) return;
      onLayer(bench, (count, { headers }) => {
        if (count === 0) return { cutAfter: 200_000 };
        return headers.range === undefined ? {} : { headers: { 'content-range': range } };
      });
      await expectWhole(bench);
      assert.deepEqual(rangesOf(bench), [undefined, 'bytes=200000-', undefined]);
    }
  });

  it('asks for the whole when the server knows no such range', async (t) => {
    const bench = await start(t);
    if (bench === null) return;
    onLayer(bench, (count) => [{ cutAfter: 200_000 }, { answer: { status: 416 } }][count] ?? {});
    await expectWhole(bench);
  });

  it('takes a range that ends early', async (t) => {
    const bench = await start(t);
    if (bench === null) return;
    const size = bench.image.layers[0]!.size;
    onLayer(bench, (count) => {
      if (count === 0) return { cutAfter: 200_000 };
      return count === 1
        ? { endAfter: 1000, headers: { 'content-range': `bytes 200000-200999/${size}` } }
        : {};
    });
    await expectWhole(bench);
    assert.deepEqual(rangesOf(bench), [undefined, 'bytes=200000-', 'bytes=201000-']);
  });

  it('is not checked here: a flipped bit comes through at its place', async (t) => {
    const bench = await start(t);
    if (bench === null) return;
    onLayer(bench, () => ({ corruptAt: 777_777 }));
    const found = await readBlob(bench.source, layerOf(bench.image));
    const expected = Buffer.from(bench.image.layers[0]!.bytes);
    expected[777_777] = expected[777_777]! ^ 0xff;
    assert.ok(found.equals(expected));
  });

  it('must not be longer than its descriptor says', async (t) => {
    const bench = await start(t);
    if (bench === null) return;
    onLayer(bench, () => ({ append: Buffer.from('more') }));
    await assert.rejects(
      expectWhole(bench),
      withCode('registry/protocol', /goes on after its 1001984 bytes/),
    );
  });

  it('ends when nothing ever comes', async (t) => {
    const bench = await start(t);
    if (bench === null) return;
    onLayer(bench, () => ({ endAfter: 0 }));
    await assert.rejects(
      expectWhole(bench),
      withCode('registry/unavailable', /it ends at byte 0 of 1001984/),
    );
    assert.equal(bench.waits.length, ATTEMPTS - 1);
  });

  it('must not be announced with another length', async (t) => {
    const bench = await start(t);
    if (bench === null) return;
    onLayer(bench, () => ({ answer: { status: 200, headers: { 'content-length': 5 }, body: 'short' } }));
    await assert.rejects(expectWhole(bench), withCode('registry/protocol', /announces 5 bytes/));
    assert.equal(bench.waits.length, 0);
  });

  it('fails in the end, and says that trying later makes sense', async (t) => {
    const bench = await start(t);
    if (bench === null) return;
    onLayer(bench, (count) => (count === 0 ? { cutAfter: 500_000 } : { hangUp: true }));
    let got = 0;
    await assert.rejects(
      async () => {
        for await (const chunk of await bench.source.openBlob(layerOf(bench.image), 0)) got += chunk.length;
      },
      (error) => {
        withCode('registry/unavailable', /the connection was cut/)(error);
        assert.ok(isRetryable(error));
        return true;
      },
    );
    assert.equal(got, 500_000);
    assert.equal(bench.waits.length, ATTEMPTS - 1);
    // Whoever kept those bytes goes on later.
    onLayer(bench, () => ({}));
    const rest = await readBlob(bench.source, layerOf(bench.image), got);
    assert.ok(rest.equals(bench.image.layers[0]!.bytes.subarray(got)));
  });

  it('does not count the time its reader takes as a stall', async (t) => {
    const bench = await start(t, { timeouts: { idleTimeout: 1000 } });
    if (bench === null) return;
    let slow = 0;
    const chunks: Buffer[] = [];
    for await (const chunk of await bench.source.openBlob(layerOf(bench.image), 0)) {
      chunks.push(chunk);
      if (slow++ === 1) await new Promise((resolve) => setTimeout(resolve, 2500));
    }
    assert.ok(Buffer.concat(chunks).equals(bench.image.layers[0]!.bytes));
    assert.equal(bench.waits.length, 0);
  });

  it('can be left early', async (t) => {
    const bench = await start(t);
    if (bench === null) return;
    for await (const _ of await bench.source.openBlob(layerOf(bench.image), 0)) break;
    await expectWhole(bench);
  });
});

suite('any sequence of faults', () => {
  it('gives the right bytes or a VeneerError', async (t) => {
    const bench = await start(t, {
      timeouts: { requestTimeout: 150, idleTimeout: 150 },
    });
    if (bench === null) return;
    const bytes = fc.integer({ min: 0, max: SIZE + 2000 });
    const fault: fc.Arbitrary<Fault> = fc.oneof(
      fc.record({ cutAfter: bytes }),
      fc.record({ stallAfter: bytes }),
      fc.record({ endAfter: bytes }),
      fc.record({ cutAfter: bytes, ignoreRange: fc.boolean() }),
      fc.constantFrom<Fault>({ hangUp: true }, { hang: true }, { ignoreRange: true }, {}),
      fc.constantFrom(408, 416, 429, 500, 503, 404).map((status): Fault => ({ answer: { status } })),
    );
    const layer = layerOf(bench.image);
    const content = bench.image.layers[0]!.bytes;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fault, { maxLength: 6 }),
        fc.integer({ min: 0, max: layer.size }),
        async (faults, offset) => {
          let next = 0;
          onLayer(bench, () => faults[next++] ?? {});
          let found: Buffer;
          try {
            found = await readBlob(bench.source, layer, offset);
          } catch (error) {
            assert.ok(error instanceof VeneerError, String(error));
            assert.ok(faults.length > 0);
            return;
          }
          assert.ok(found.equals(content.subarray(offset)));
        },
      ),
      { numRuns: 40 },
    );
  });
});
