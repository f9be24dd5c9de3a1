/** Documents and redirects from a registry that fails or lies in every way we know of. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { it, describe as suite } from 'node:test';
import { VeneerError } from '../../src/errors.ts';
import {
  ATTEMPTS,
  expectWhole,
  isBlob,
  onLayer,
  start,
  startBack,
  startFront,
} from '../support/fault-bench.ts';
import type { Fault, SeenRequest } from '../support/flaky-proxy.ts';
import { AMD64, assertImage, openSource, withCode } from '../support/pull-source.ts';
import { freePort } from '../support/registry.ts';

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
      const bench = await startFront(t, back, { timeouts: { requestTimeout: 1000, idleTimeout: 1000 } });
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

  it('lead nobody to our password who only asks for it, from the first request on', async (t) => {
    const seen: IncomingMessage[] = [];
    const away = createServer((request, response) => {
      seen.push(request);
      const realm = `http://${request.headers.host}/token`;
      const headers = { 'www-authenticate': `Bearer realm="${realm}",service="away"` };
      response.writeHead(request.url === '/token' ? 200 : 401, headers).end('{"token":"t"}');
    }).listen(0, '127.0.0.1');
    await once(away, 'listening');
    t.after(() => {
      away.closeAllConnections();
      away.close();
    });
    const target = `http://127.0.0.1:${(away.address() as AddressInfo).port}/`;
    const back = await startBack(t);
    if (back === null) return;
    for (const path of ['/v2/', '/manifests/', '/blobs/']) {
      const credentials = { kind: 'basic', username: 'u', password: 'open sesame' } as const;
      const bench = await startFront(t, back, { credentials });
      bench.proxy.rule = (request) =>
        request.path === path || (path !== '/v2/' && request.path.includes(path)) ? redirect(target) : {};
      const before = seen.length;
      await assert.rejects(bench.source.resolve(AMD64), withCode('registry/auth', /answers 401/));
      assert.equal(seen.length, before + 1, path);
    }
    assert.ok(seen.every(({ headers }) => headers.authorization === undefined));
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
