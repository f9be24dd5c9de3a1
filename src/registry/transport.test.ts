import assert from 'node:assert/strict';
import type { lookup } from 'node:dns';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { describe, it, type TestContext } from 'node:test';
import { withCode } from '../../test/support/pull-source.ts';
import { discardBody, Transport, type TransportOptions } from './transport.ts';
import { showUrl } from './transport-errors.ts';

function makeTransport(t: TestContext, host: string, options: Partial<TransportOptions> = {}): Transport {
  const transport = new Transport({
    domain: host,
    host,
    insecure: false,
    certsDirs: [],
    env: {},
    requestTimeout: 5000,
    signal: new AbortController().signal,
    ...options,
  });
  t.after(() => transport.close());
  return transport;
}

async function startServer(t: TestContext, listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return String((server.address() as { port: number }).port);
}

/** A resolver that knows one answer. */
const always = (...addresses: string[]): typeof lookup =>
  ((_: string, __: object, callback: (error: null, list: object[]) => void) =>
    callback(
      null,
      addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    )) as typeof lookup;

describe('checkTarget', () => {
  const from = new URL('https://registry.example.com/v2/x/blobs/y');

  it('lets a registry on the internet lead to the internet alone', (t) => {
    const transport = makeTransport(t, 'registry.example.com');
    for (const location of [
      'https://cdn.example.com/x?y',
      'https://1.1.1.1/',
      '/relative',
      '//other.example/x',
    ]) {
      assert.equal(transport.checkTarget(location, from).protocol, 'https:');
    }
    const inside = [
      '127.0.0.1',
      '10.0.0.1',
      '192.168.0.1',
      '169.254.169.254',
      '[::1]',
      'localhost',
      '0',
      '[::ffff:10.0.0.1]',
      '017700000001',
    ];
    for (const host of inside) {
      assert.throws(
        () => transport.checkTarget(`https://${host}/x`, from),
        withCode('registry/refused'),
        host,
      );
    }
  });

  it('lets nobody leave TLS', (t) => {
    const transport = makeTransport(t, 'registry.example.com');
    assert.throws(
      () => transport.checkTarget('http://cdn.example.com/', from),
      withCode('registry/refused', /without TLS/),
    );
    assert.throws(
      () => transport.checkTarget('http://registry.example.com/', from),
      withCode('registry/refused'),
    );
    const plain = new URL('http://registry.example.com/');
    assert.equal(transport.checkTarget('https://cdn.example.com/', plain).protocol, 'https:');
  });

  it('lets a registry inside lead to its own part of the network', (t) => {
    const transport = makeTransport(t, '10.0.0.1:5000');
    const inside = new URL('https://10.0.0.1:5000/v2/');
    transport.checkTarget('https://10.0.0.2/', inside);
    transport.checkTarget('https://cdn.example.com/', inside);
    assert.throws(
      () => transport.checkTarget('https://127.0.0.1/', inside),
      withCode('registry/refused', /a loopback address/),
    );
  });
});

describe('send', () => {
  it('looks at what the name of an away host resolves to', async (t) => {
    let asked = 0;
    const port = await startServer(t, (_, response) => {
      asked++;
      response.end();
    });
    const url = new URL(`http://cdn.example.com:${port}/`);
    const exchange = { method: 'GET', headers: {} } as const;
    const bad = makeTransport(t, 'registry.example.com', { lookup: always('127.0.0.1', '10.0.0.1', '::1') });
    await assert.rejects(
      bad.send(url, exchange),
      withCode('registry/refused', /cdn\.example\.com: its address is not on the internet/),
    );
    assert.equal(asked, 0);
    const good = makeTransport(t, '127.0.0.1:1', { lookup: always('127.0.0.1') });
    assert.equal((await good.send(url, exchange)).status, 200);
    assert.equal(asked, 1);
  });

  it('sends credentials to the origin alone', async (t) => {
    const seen: (string | undefined)[] = [];
    const other = await startServer(t, ({ headers }, response) => {
      seen.push(headers.authorization);
      response.writeHead(302, { location: `http://127.0.0.1:${port}/back` }).end();
    });
    const port = await startServer(t, ({ headers, url }, response) => {
      seen.push(headers.authorization);
      const next = { '/1': '/2', '/2': `http://127.0.0.1:${other}/` }[url ?? ''];
      if (next === undefined) response.end();
      else response.writeHead(302, { location: next }).end();
    });
    const transport = makeTransport(t, `127.0.0.1:${port}`);
    const start = new URL(`http://127.0.0.1:${port}/1`);
    const reply = await transport.send(start, { method: 'GET', headers: {}, authorization: 'Basic x' });
    assert.equal(reply.status, 200);
    assert.equal(reply.url.pathname, '/back');
    assert.deepEqual(seen, ['Basic x', 'Basic x', undefined, undefined]);
  });

  it('does not redirect a POST', async (t) => {
    const port = await startServer(t, (_, response) => response.writeHead(307, { location: '/' }).end());
    const transport = makeTransport(t, `127.0.0.1:${port}`);
    const url = new URL(`http://127.0.0.1:${port}/`);
    const running = transport.send(url, { method: 'POST', headers: {}, body: 'secret' });
    await assert.rejects(running, withCode('registry/refused', /redirects a POST/));
  });

  it('uses a proxy for what is not on this machine', async (t) => {
    const seen: string[] = [];
    const port = await startServer(t, ({ url }, response) => {
      seen.push(url ?? '');
      response.end();
    });
    const env = { HTTP_PROXY: `http://127.0.0.1:${port}` };
    const transport = makeTransport(t, 'registry.invalid', { env });
    const reply = await transport.send(new URL('http://registry.invalid/v2/'), {
      method: 'GET',
      headers: {},
    });
    discardBody(reply.message);
    assert.deepEqual(seen, ['http://registry.invalid/v2/']);
    const local = await transport.send(new URL(`http://127.0.0.1:${port}/own`), {
      method: 'GET',
      headers: {},
    });
    discardBody(local.message);
    assert.deepEqual(seen.slice(1), ['/own']);
    // Behind a proxy an address says nothing about where the registry is.
    assert.throws(() => transport.checkTarget('http://127.0.0.1/', reply.url), withCode('registry/refused'));
  });

  it('says when there is no such host', async (t) => {
    const transport = makeTransport(t, 'registry.invalid');
    const running = transport.send(new URL('http://registry.invalid/'), { method: 'GET', headers: {} });
    // Without any name server the answer is "ask again".
    await assert.rejects(running, { code: /^registry\/(?:not-found|unavailable)$/ });
  });

  it('says when what answers is no HTTP', async (t) => {
    const { createServer: createTcpServer } = await import('node:net');
    const server = createTcpServer((socket) => socket.end('SSH-2.0-x\r\n')).listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => server.close());
    const { port } = server.address() as { port: number };
    const transport = makeTransport(t, `127.0.0.1:${port}`);
    const running = transport.send(new URL(`http://127.0.0.1:${port}/`), { method: 'GET', headers: {} });
    await assert.rejects(running, withCode('registry/protocol', /not HTTP/));
  });
});

describe('showUrl', () => {
  it('shows neither query nor credentials, and stays short', () => {
    assert.equal(showUrl(new URL('https://u:p@h/a?token=x#y')), 'https://h/a');
    assert.ok(showUrl(new URL(`https://h/${'a'.repeat(5000)}`)).length < 310);
  });
});

describe('a long body', () => {
  it('leaves nothing on the request for each time that it had to wait', async (t) => {
    const port = await startServer(t, (request, response) => {
      request.resume().on('end', () => response.writeHead(201).end());
    });
    const transport = makeTransport(t, `127.0.0.1:${port}`, { insecure: true });
    const warnings: string[] = [];
    const warn = ({ name, message }: Error): void => void warnings.push(`${name}: ${message}`);
    process.on('warning', warn);
    t.after(() => process.off('warning', warn));
    const piece = Buffer.alloc(1 << 20);
    const pieces = 40;
    const body = {
      size: pieces * piece.length,
      open: async () =>
        (async function* () {
          for (let i = 0; i < pieces; i++) yield piece;
        })(),
    };
    const url = new URL(`http://127.0.0.1:${port}/v2/x/blobs/uploads/1`);
    const reply = await transport.send(url, { method: 'PUT', headers: {}, body });
    discardBody(reply.message);
    assert.equal(reply.status, 201);
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(warnings, []);
  });
});
