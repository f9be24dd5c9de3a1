import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { describe, it, type TestContext } from 'node:test';
import { withCode } from '../../test/support/pull-source.ts';
import { Authenticator } from './auth.ts';
import type { Credentials } from './credentials.ts';
import { Transport } from './transport.ts';

const SCOPE = 'repository:x:pull';

interface Bench {
  readonly auth: Authenticator;
  readonly challenge: string;
  readonly seen: IncomingMessage[];
  /** The next answers of the token server; the last one stays. */
  readonly answers: [status: number, body: string][];
}

async function start(t: TestContext, credentials: Credentials | null = null): Promise<Bench> {
  const seen: IncomingMessage[] = [];
  const answers: [number, string][] = [];
  const server = createServer((request, response) => {
    seen.push(request);
    const [status, body] =
      answers.length > 1 ? answers.shift()! : (answers[0] ?? [200, `{"token":"t${seen.length}"}`]);
    response.writeHead(status, { 'content-type': 'application/json' }).end(body);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const host = `127.0.0.1:${(server.address() as { port: number }).port}`;
  const transport = new Transport({
    ...{ domain: host, host, insecure: false, certsDirs: [], env: {}, requestTimeout: 5000 },
    signal: new AbortController().signal,
  });
  t.after(() => {
    transport.close();
    server.closeAllConnections();
    server.close();
  });
  const auth = new Authenticator({
    transport,
    limits: { idleTimeout: 5000, documentTimeout: 5000 },
    base: new URL(`http://${host}/v2/`),
    domain: host,
    credentials: async () => credentials,
  });
  return { auth, challenge: `Bearer realm="http://${host}/token?old=1",service="s"`, seen, answers };
}

describe('Authenticator', () => {
  it('asks once for requests that fail together, and again when the token is refused', async (t) => {
    const { auth, challenge, seen } = await start(t);
    await Promise.all([1, 2, 3].map(() => auth.renew(SCOPE, challenge, undefined)));
    assert.equal(auth.current(SCOPE), 'Bearer t1');
    assert.equal(seen[0]!.url, '/token?old=1&service=s&scope=repository%3Ax%3Apull');
    // One that failed before it could know of the new token.
    await auth.renew(SCOPE, challenge, undefined);
    assert.equal(seen.length, 1);
    await auth.renew(SCOPE, challenge, 'Bearer t1');
    assert.equal(auth.current(SCOPE), 'Bearer t2');
    assert.equal(auth.current('repository:other:pull'), undefined);
  });

  it('reads both names of a token, and a lifetime of at least a minute', async (t) => {
    const { auth, challenge, answers } = await start(t);
    answers.push([200, '{"access_token":"a","expires_in":0}']);
    await auth.renew(SCOPE, challenge, undefined);
    assert.equal(auth.current(SCOPE), 'Bearer a');
  });

  it('refuses answers that are no token', async (t) => {
    const { auth, challenge, answers } = await start(t);
    const bad = ['', 'x', '[]', '{}', '{"token":""}', '{"token":1}', '{"token":"a\\r\\nb"}', '{"token":"ü"}'];
    for (const body of [...bad, JSON.stringify({ token: 'x'.repeat(70_000) })]) {
      answers.splice(0, 9, [200, body]);
      await assert.rejects(
        auth.renew(SCOPE, challenge, undefined),
        withCode('registry/protocol', /no usable token/),
        body,
      );
    }
    answers.splice(0, 9, [200, JSON.stringify({ token: 'x'.repeat(1 << 20) })]);
    await assert.rejects(auth.renew(SCOPE, challenge, undefined), withCode('oci/limit'));
    answers.splice(0, 9, [503, '']);
    await assert.rejects(auth.renew(SCOPE, challenge, undefined), withCode('registry/unavailable', /503/));
  });

  it('follows no realm that it must not', async (t) => {
    const { auth } = await start(t);
    for (const realm of ['http://169.254.169.254/', 'file:///x', 'x://', 'http://u:p@127.0.0.1/']) {
      await assert.rejects(
        auth.renew(SCOPE, `Bearer realm="${realm}"`, undefined),
        withCode('registry/refused'),
        realm,
      );
    }
  });

  it('offers a fixed header once', async (t) => {
    const basic = await start(t, { kind: 'basic', username: 'u', password: 'p' });
    await basic.auth.renew(SCOPE, 'Basic realm="x"', undefined);
    assert.equal(basic.auth.current(SCOPE), 'Basic dTpw');
    await assert.rejects(
      basic.auth.renew(SCOPE, 'Basic realm="x"', 'Basic dTpw'),
      withCode('registry/auth', /are refused/),
    );
    const token = await start(t, { kind: 'registry-token', token: 'r' });
    await token.auth.renew(SCOPE, token.challenge, undefined);
    assert.equal(token.auth.current(SCOPE), 'Bearer r');
    await assert.rejects(token.auth.renew(SCOPE, token.challenge, 'Bearer r'), withCode('registry/auth'));
    assert.equal(token.seen.length, 0);
  });

  it('says what it cannot answer', async (t) => {
    const { auth } = await start(t);
    for (const header of [undefined, '', 'Negotiate', 'Bearer service="x"']) {
      await assert.rejects(
        auth.renew(SCOPE, header, undefined),
        withCode('registry/auth', /no kind of authentication/),
      );
    }
    const identity = await start(t, { kind: 'identity-token', token: 'i' });
    await assert.rejects(
      identity.auth.renew(SCOPE, 'Basic realm="x"', undefined),
      withCode('registry/auth', /a token is stored/),
    );
  });

  it('hides the secrets it knows', async (t) => {
    const { auth, challenge } = await start(t, { kind: 'basic', username: 'user', password: 'hunter2' });
    await auth.renew(SCOPE, challenge, undefined);
    const header = `Basic ${Buffer.from('user:hunter2').toString('base64')}`;
    await auth.renew('other', 'Basic realm="x"', undefined);
    assert.equal(
      await auth.redact(`you sent ${header} and hunter2, hunter2`),
      'you sent Basic *** and ***, ***',
    );
  });
});
