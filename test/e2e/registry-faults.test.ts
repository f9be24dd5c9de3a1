/** The registry source behind a network and servers that fail in every way we know of. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { it, describe as suite, type TestContext } from 'node:test';
import fc from 'fast-check';
import { VeneerError } from '../../src/errors.ts';
import type { ImageSource } from '../../src/oci/source.ts';
import { isRetryable } from '../../src/oci/source.ts';
import type { RegistryOptions } from '../../src/registry/source.ts';
import { type Fault, type FlakyProxy, type SeenRequest, startFlakyProxy } from '../support/flaky-proxy.ts';
import { makeImage, type TestImage } from '../support/images.ts';
import { AMD64, assertImage, openSource, readBlob, withCode } from '../support/pull-source.ts';
import { freePort, pushImage, type Registry, startRegistry } from '../support/registry.ts';

interface Bench {
  readonly proxy: FlakyProxy;
  readonly image: TestImage;
  readonly source: ImageSource;
  /** Milliseconds that were to be waited before each retry; nothing waits in these tests. */
  readonly waits: number[];
  readonly notes: string[];
}

const SIZE = 1_000_000;
const ATTEMPTS = 4;

interface Back {
  readonly registry: Registry;
  readonly image: TestImage;
}

async function startBack(t: TestContext): Promise<Back | null> {
  const registry = await startRegistry(t);
  if (registry === null) return null;
  const image = makeImage({ compression: 'none', contents: [randomBytes(SIZE)] });
  await pushImage(registry, 'x', image, 'latest');
  return { registry, image };
}

/** A registry with one image, a proxy in front, and a source behind that; null when the test is skipped. */
async function start(t: TestContext, options: RegistryOptions = {}): Promise<Bench | null> {
  const back = await startBack(t);
  return back && startFront(t, back, options);
}

async function startFront(
  t: TestContext,
  { registry, image }: Back,
  options: RegistryOptions = {},
): Promise<Bench> {
  const proxy = await startFlakyProxy(t, registry.host);
  const waits: number[] = [];
  const notes: string[] = [];
  const source = openSource(t, proxy.host, 'x', {
    retry: { attempts: ATTEMPTS, wait: async (milliseconds) => void waits.push(milliseconds) },
    onProgress: (event) => {
      if (event.type === 'note') notes.push(event.message);
    },
    ...options,
  });
  return { proxy, image, source, waits, notes };
}

const isBlob = ({ path }: SeenRequest): boolean => path.includes('/blobs/');
const layerOf = (image: TestImage) => ({ ...image.layers[0]!, annotations: {} });

/** A fault for the layer's blob alone. */
function onLayer(bench: Bench, fault: (count: number, request: SeenRequest) => Fault): void {
  const path = `/v2/x/blobs/${bench.image.layers[0]!.digest}`;
  bench.proxy.rule = (request, count) => (request.path === path ? fault(count, request) : {});
}

const rangesOf = (bench: Bench): (string | undefined)[] =>
  bench.proxy.seen
    .filter(({ path }) => path.endsWith(bench.image.layers[0]!.digest))
    .map(({ headers }) => headers.range);

async function expectWhole(bench: Bench): Promise<void> {
  assert.ok((await readBlob(bench.source, layerOf(bench.image))).equals(bench.image.layers[0]!.bytes));
}

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
    const bench = await start(t, { timeouts: { idleTimeout: 300 } });
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
    const bench = await start(t, { timeouts: { idleTimeout: 200 } });
    if (bench === null) return;
    let slow = 0;
    const chunks: Buffer[] = [];
    for await (const chunk of await bench.source.openBlob(layerOf(bench.image), 0)) {
      chunks.push(chunk);
      if (slow++ === 1) await new Promise((resolve) => setTimeout(resolve, 700));
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

suite('requests', () => {
  it('are tried again after passing failures', async (t) => {
    const faults: Fault[] = [
      { hangUp: true },
      { answer: { status: 429 } },
      { answer: { status: 500 } },
      { answer: { status: 502 } },
      { answer: { status: 503 } },
      { answer: { status: 504 } },
      { answer: { status: 408 } },
      { hang: true },
      { cutAfter: 10 },
      { stallAfter: 10 },
    ];
    const back = await startBack(t);
    if (back === null) return;
    for (const fault of faults) {
      const bench = await startFront(t, back, { timeouts: { requestTimeout: 300, idleTimeout: 300 } });
      bench.proxy.rule = (_, count) => (count === 0 ? fault : {});
      await assertImage(bench.source, bench.image);
      // A kept connection that turns out dead is replaced without counting as a failure.
      assert.ok(bench.waits.length >= (fault.hangUp ? 1 : 3), JSON.stringify(fault));
    }
  });

  it('are not tried again after lasting ones', async (t) => {
    const cases: [number, string][] = [
      [400, 'registry/protocol'],
      [403, 'registry/denied'],
      [404, 'registry/not-found'],
      [418, 'registry/protocol'],
      [501, 'registry/protocol'],
    ];
    const back = await startBack(t);
    if (back === null) return;
    for (const [status, code] of cases) {
      const bench = await startFront(t, back);
      bench.proxy.rule = ({ path }) => (path === '/v2/' ? {} : { answer: { status } });
      await assert.rejects(bench.source.resolve(AMD64), withCode(code, new RegExp(` ${status}`)));
      assert.equal(bench.waits.length, 0);
    }
  });

  it('show what the registry says, printable and without our secrets', async (t) => {
    const credentials = { kind: 'basic', username: 'u', password: 'open sesame' } as const;
    const bench = await start(t, { credentials });
    if (bench === null) return;
    const errors = [{ code: 'DENIED', message: `no \u001b[31m to open sesame ${'x'.repeat(1000)}` }];
    const body = JSON.stringify({ errors });
    const json = { 'content-type': 'application/json' };
    bench.proxy.rule = ({ headers }) =>
      headers.authorization === undefined
        ? { answer: { status: 401, headers: { 'www-authenticate': 'Basic realm="x"' } } }
        : { answer: { status: 403, headers: json, body } };
    await assert.rejects(bench.source.resolve(AMD64), (error) => {
      withCode('registry/denied', /answers 403 \(DENIED: no {2}?\[31m to \*\*\* x+\)$/)(error);
      assert.ok(error instanceof VeneerError && error.message.length < 400);
      return true;
    });
  });

  it('wait as long as Retry-After says', async (t) => {
    const bench = await start(t);
    if (bench === null) return;
    const inTwenty = new Date(Date.now() + 20_000).toUTCString();
    const faults: Fault[] = [
      { answer: { status: 429, headers: { 'retry-after': '7' } } },
      { answer: { status: 503, headers: { 'retry-after': inTwenty } } },
    ];
    bench.proxy.rule = ({ path }, count) => (path.includes('/manifests/') ? (faults[count] ?? {}) : {});
    await bench.source.resolve(AMD64);
    assert.equal(bench.waits[0], 7000);
    assert.ok(bench.waits[1]! > 10_000 && bench.waits[1]! <= 20_000, String(bench.waits[1]));
  });

  it('give up at once when Retry-After is long', async (t) => {
    const bench = await start(t);
    if (bench === null) return;
    bench.proxy.rule = () => ({ answer: { status: 429, headers: { 'retry-after': '21600' } } });
    await assert.rejects(bench.source.resolve(AMD64), (error) => {
      withCode('registry/unavailable', /429/)(error);
      assert.match((error as VeneerError).hint ?? '', /21600 s/);
      return true;
    });
    assert.deepEqual(bench.waits, []);
  });

  it('end when the registry never recovers', async (t) => {
    const bench = await start(t);
    if (bench === null) return;
    bench.proxy.rule = ({ path }) => (path === '/v2/' ? {} : { answer: { status: 503 } });
    await assert.rejects(bench.source.resolve(AMD64), withCode('registry/unavailable', /503/));
    assert.equal(bench.waits.length, ATTEMPTS - 1);
    assert.equal(bench.proxy.seen.filter(({ path }) => path !== '/v2/').length, ATTEMPTS);
  });

  it('fail at once when nothing listens', async (t) => {
    const waits: number[] = [];
    const source = openSource(t, `127.0.0.1:${await freePort()}`, 'x', {
      retry: { wait: async (milliseconds) => void waits.push(milliseconds) },
    });
    await assert.rejects(source.resolve(AMD64), withCode('registry/unavailable', /connection refused/));
    assert.deepEqual(waits, []);
  });
});

suite('documents', () => {
  it('are refused when they are not what their digest says', async (t) => {
    const bench = await start(t);
    if (bench === null) return;
    bench.proxy.rule = (request) => (isBlob(request) ? { corruptAt: 5 } : {});
    await assert.rejects(bench.source.resolve(AMD64), withCode('oci/digest-mismatch', /the config sha256:/));
    const byDigest = openSource(t, bench.proxy.host, `x@${bench.image.manifest.digest}`);
    bench.proxy.rule = (request) => (isBlob(request) ? {} : { corruptAt: 100 });
    await assert.rejects(byDigest.resolve(AMD64), withCode('oci/digest-mismatch'));
  });

  it('do not depend on Docker-Content-Digest', async (t) => {
    const bench = await start(t);
    if (bench === null) return;
    bench.proxy.rule = () => ({ headers: { 'docker-content-digest': `sha256:${'f'.repeat(64)}` } });
    await assertImage(bench.source, bench.image);
  });

  it('may come without a telling Content-Type, but not with a wrong one', async (t) => {
    const bench = await start(t);
    if (bench === null) return;
    const manifestType = (type: string | undefined) => (request: SeenRequest) =>
      request.path.includes('/manifests/') ? { headers: { 'content-type': type } } : {};
    for (const type of ['application/json', 'text/plain; charset=utf-8', undefined]) {
      bench.proxy.rule = manifestType(type);
      await bench.source.resolve(AMD64);
    }
    bench.proxy.rule = manifestType('application/vnd.oci.image.index.v1+json');
    await assert.rejects(bench.source.resolve(AMD64), withCode('oci/invalid'));
    bench.proxy.rule = manifestType('application/vnd.docker.distribution.manifest.v1+prettyjws');
    await assert.rejects(bench.source.resolve(AMD64), withCode('oci/unsupported', /schema 1/));
  });

  it('are bounded', async (t) => {
    const bench = await start(t);
    if (bench === null) return;
    const body = Buffer.alloc((4 << 20) + 1, ' ');
    bench.proxy.rule = (request) => (request.path === '/v2/' ? {} : { answer: { status: 200, body } });
    await assert.rejects(bench.source.resolve(AMD64), withCode('oci/limit'));
    // The same without a length in front.
    const chunked = { 'transfer-encoding': 'chunked' };
    bench.proxy.rule = (request) =>
      request.path === '/v2/' ? {} : { answer: { status: 200, headers: chunked, body } };
    await assert.rejects(bench.source.resolve(AMD64), withCode('oci/limit'));
  });

  it('are not waited for without end', async (t) => {
    const bench = await start(t, { timeouts: { documentTimeout: 200, idleTimeout: 60_000 } });
    if (bench === null) return;
    bench.proxy.rule = ({ path }) => (path === '/v2/' ? {} : { stallAfter: 10 });
    await assert.rejects(bench.source.resolve(AMD64), withCode('registry/unavailable', /longer than 0\.2 s/));
  });
});

suite('redirects', () => {
  const redirect = (location: string, status = 307): Fault => ({ answer: { status, headers: { location } } });

  it('are followed with every status, absolute and relative', async (t) => {
    const back = await startBack(t);
    if (back === null) return;
    for (const status of [301, 302, 303, 307, 308]) {
      const bench = await startFront(t, back);
      const blob = `/v2/x/blobs/${bench.image.layers[0]!.digest}`;
      onLayer(bench, (count) => {
        if (count === 0) return redirect(`${blob}?once`, status);
        return {};
      });
      await expectWhole(bench);
      assert.ok(bench.proxy.seen.some(({ path }) => path === `${blob}?once`));
    }
  });

  it('end', async (t) => {
    const bench = await start(t);
    if (bench === null) return;
    onLayer(bench, () => redirect(`/v2/x/blobs/${bench.image.layers[0]!.digest}`));
    await assert.rejects(expectWhole(bench), withCode('registry/protocol', /more than 8 redirects/));
  });

  it('do not lead to cloud metadata, other schemes, or URLs with passwords', async (t) => {
    const cases: [string, RegExp][] = [
      ['http://169.254.169.254/latest/meta-data', /a special address, 169\.254\.169\.254/],
      ['http://[fe80::1]/', /a special address/],
      ['http://2852039166/', /a special address, 169\.254\.169\.254/],
      ['file:///etc/passwd', /a file: URL/],
      ['http://user:hidden@127.0.0.1/', /a URL with credentials in it/],
      ['http://[', /no URL/],
    ];
    const back = await startBack(t);
    if (back === null) return;
    for (const [location, message] of cases) {
      const bench = await startFront(t, back);
      onLayer(bench, () => redirect(location));
      await assert.rejects(expectWhole(bench), (error) => {
        withCode('registry/refused', message)(error);
        assert.doesNotMatch(String(error), /hidden/);
        return true;
      });
    }
  });

  it('never show their query, which may be signed', async (t) => {
    const bench = await start(t);
    if (bench === null) return;
    onLayer(bench, (count) => (count === 0 ? redirect('/v2/elsewhere?signature=hidden') : {}));
    await assert.rejects(expectWhole(bench), (error) => {
      assert.ok(error instanceof VeneerError);
      assert.match(error.message, /\/v2\/elsewhere answers 404/);
      assert.doesNotMatch(error.message, /hidden/);
      return true;
    });
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
