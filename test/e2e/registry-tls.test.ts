/** The registry source against docker-registry with TLS and with token authentication. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it, describe as suite, type TestContext } from 'node:test';
import type { VeneerError } from '../../src/errors.ts';
import { type Certificates, makeCertificates } from '../support/certificates.ts';
import { startFlakyProxy } from '../support/flaky-proxy.ts';
import { makeImage, type TestImage } from '../support/images.ts';
import { AMD64, assertImage, EMPTY_ENV, openSource, readBlob, withCode } from '../support/pull-source.ts';
import { PASSWORD, pushImage, type Registry, startRegistry, USER } from '../support/registry.ts';
import { IDENTITY_TOKEN, startTokenServer, type TokenServer } from '../support/token-server.ts';

suite('registry with TLS', () => {
  interface Set {
    readonly registry: Registry;
    readonly image: TestImage;
    readonly certificates: Certificates;
  }

  async function start(t: TestContext, subject: string): Promise<Set | null> {
    const certificates = await makeCertificates(t, subject);
    const back = certificates && (await startRegistry(t));
    const registry = back && (await startRegistry(t, { storage: back.storage, tls: certificates }));
    if (!certificates || !back || !registry) return null;
    const image = makeImage({ contents: [randomBytes(200_000)] });
    await pushImage(back, 'x', image, 'latest');
    return { registry, image, certificates };
  }

  it('trusts nobody by default, not even on loopback', async (t) => {
    const set = await start(t, 'IP:127.0.0.1');
    if (set === null) return;
    const source = openSource(t, set.registry.host, 'x');
    await assert.rejects(source.resolve(AMD64), withCode('registry/tls', /certificate is not trusted/));
  });

  it('trusts the ca option, SSL_CERT_FILE, and a certs.d folder', async (t) => {
    const set = await start(t, 'IP:127.0.0.1');
    if (set === null) return;
    const { registry, image, certificates } = set;
    await assertImage(openSource(t, registry.host, 'x', { ca: await readFile(certificates.ca) }), image);
    const env = { ...EMPTY_ENV, SSL_CERT_FILE: certificates.ca };
    await assertImage(openSource(t, registry.host, 'x', { env }), image);
    const folder = join(certificates.dir, 'certs.d', registry.host);
    await mkdir(folder, { recursive: true });
    await copyFile(certificates.ca, join(folder, 'ca.crt'));
    const certsDirs = [join(certificates.dir, 'certs.d')];
    await assertImage(openSource(t, registry.host, 'x', { certsDirs }), image);
  });

  it('trusts everybody when insecure', async (t) => {
    const set = await start(t, 'IP:127.0.0.1');
    if (set === null) return;
    await assertImage(openSource(t, set.registry.host, 'x', { insecure: true }), set.image);
  });

  it('refuses a certificate for another name', async (t) => {
    const set = await start(t, 'DNS:other.example');
    if (set === null) return;
    const ca = await readFile(set.certificates.ca);
    await assert.rejects(
      openSource(t, set.registry.host, 'x', { ca }).resolve(AMD64),
      withCode('registry/tls', /ERR_TLS_CERT_ALTNAME_INVALID/),
    );
  });

  it('says which certificate file is unusable', async (t) => {
    const set = await start(t, 'IP:127.0.0.1');
    if (set === null) return;
    const env = { ...EMPTY_ENV, SSL_CERT_FILE: '/nonexistent/ca.pem' };
    await assert.rejects(
      openSource(t, set.registry.host, 'x', { env }).resolve(AMD64),
      withCode('registry/tls', /\/nonexistent\/ca\.pem/),
    );
  });
});

suite('registry with tokens', () => {
  interface Set {
    readonly registry: Registry;
    readonly image: TestImage;
    readonly tokens: TokenServer;
  }

  async function start(t: TestContext): Promise<Set | null> {
    const certificates = await makeCertificates(t, 'DNS:token');
    if (certificates === null) return null;
    const { certificate, key, ca } = certificates;
    const tokens = await startTokenServer(t, { certificate, key });
    const back = await startRegistry(t);
    const auth = { kind: 'token', realm: tokens.realm, certificate: ca } as const;
    const registry = back && (await startRegistry(t, { storage: back.storage, auth }));
    if (!back || !registry) return null;
    const image = makeImage({ contents: [randomBytes(50_000), randomBytes(10)] });
    await pushImage(back, 'team/x', image, 'latest');
    return { registry, image, tokens };
  }

  it('gets one token without credentials, and uses it for everything', async (t) => {
    const set = await start(t);
    if (set === null) return;
    set.tokens.anonymous = true;
    await assertImage(openSource(t, set.registry.host, 'team/x'), set.image);
    assert.equal(set.tokens.seen.length, 1);
    const { query, authorization } = set.tokens.seen[0]!;
    assert.equal(query.get('scope'), 'repository:team/x:pull');
    assert.equal(query.get('service'), 'veneer-test-registry');
    assert.equal(authorization, undefined);
  });

  it('gets a token with a password, and with an identity token', async (t) => {
    const set = await start(t);
    if (set === null) return;
    const { registry, image, tokens } = set;
    const basic = { kind: 'basic', username: USER, password: PASSWORD } as const;
    await assertImage(openSource(t, registry.host, 'team/x', { credentials: basic }), image);

    const dir = await mkdtemp(join(tmpdir(), 'veneer-auth-'));
    t.after(() => rm(dir, { recursive: true }));
    const config = { auths: { [registry.host]: { identitytoken: IDENTITY_TOKEN } } };
    await writeFile(join(dir, 'config.json'), JSON.stringify(config));
    const env = { ...EMPTY_ENV, DOCKER_CONFIG: dir };
    await assertImage(openSource(t, registry.host, 'team/x', { env }), image);
    assert.deepEqual(
      tokens.seen.map(({ method }) => method),
      ['GET', 'POST'],
    );
    assert.equal(tokens.seen[1]!.query.get('grant_type'), 'refresh_token');
  });

  it('refuses when the token server does, and shows no secret', async (t) => {
    const set = await start(t);
    if (set === null) return;
    const { registry } = set;
    await assert.rejects(
      openSource(t, registry.host, 'team/x').resolve(AMD64),
      withCode('registry/auth', /wants credentials, and none are stored/),
    );
    const credentials = { kind: 'basic', username: USER, password: 'some wrong secret' } as const;
    await assert.rejects(openSource(t, registry.host, 'team/x', { credentials }).resolve(AMD64), (error) => {
      withCode('registry/auth', /refuses the stored credentials/)(error);
      const text = `${error} ${(error as VeneerError).hint} ${JSON.stringify(error)}`;
      assert.doesNotMatch(text, /wrong secret|c29tZSB3cm9uZyBzZWNyZXQ|YWxpY2U6/);
      return true;
    });
  });

  it('gets a new token when the registry no longer takes the old one', async (t) => {
    const set = await start(t);
    if (set === null) return;
    const { registry, image, tokens } = set;
    tokens.anonymous = true;
    // The registry refuses it at once (its leeway is a minute), and we cannot know.
    tokens.lifetime = -120;
    tokens.claimedLifetime = 300;
    const source = openSource(t, registry.host, 'team/x');
    await assert.rejects(source.resolve(AMD64), withCode('registry/auth', /401/));
    tokens.lifetime = 300;
    const before = tokens.seen.length;
    const { manifest } = await source.resolve(AMD64);
    assert.equal(tokens.seen.length, before + 1);
    const blobs = await Promise.all(manifest.layers.map((layer) => readBlob(source, layer)));
    assert.deepEqual(
      blobs,
      image.layers.map(({ bytes }) => bytes),
    );
  });

  it('sends neither password nor token to where the registry redirects', async (t) => {
    const set = await start(t);
    if (set === null) return;
    const { registry, image } = set;
    const layer = image.layers[0]!;
    const elsewhere = await startFlakyProxy(t, registry.host);
    elsewhere.rule = () => ({ answer: { status: 200, body: layer.bytes } });
    const front = await startFlakyProxy(t, registry.host);
    const location = `http://${elsewhere.host}/signed?signature=abc`;
    front.rule = ({ path }) =>
      path.includes('/blobs/') ? { answer: { status: 307, headers: { location } } } : {};

    const credentials = { kind: 'basic', username: USER, password: PASSWORD } as const;
    const source = openSource(t, front.host, 'team/x', { credentials });
    const descriptor = { ...layer, annotations: {} };
    assert.deepEqual(await readBlob(source, descriptor), layer.bytes);
    assert.ok(
      front.seen.some(({ path, headers }) => path.includes('/blobs/') && headers.authorization !== undefined),
    );
    assert.deepEqual(
      elsewhere.seen.map(({ path }) => path),
      ['/signed?signature=abc'],
    );
    assert.equal(elsewhere.seen[0]!.headers.authorization, undefined);
  });

  it('does not log in where the registry redirects', async (t) => {
    const set = await start(t);
    if (set === null) return;
    const { registry, image, tokens } = set;
    const elsewhere = await startFlakyProxy(t, registry.host);
    const headers = { 'www-authenticate': `Bearer realm="${tokens.realm}",service="x"` };
    elsewhere.rule = () => ({ answer: { status: 401, headers } });
    const front = await startFlakyProxy(t, registry.host);
    const location = `http://${elsewhere.host}/`;
    front.rule = ({ path }) =>
      path.includes('/blobs/') ? { answer: { status: 307, headers: { location } } } : {};
    const credentials = { kind: 'basic', username: USER, password: PASSWORD } as const;
    const source = openSource(t, front.host, 'team/x', { credentials });
    await assert.rejects(
      readBlob(source, { ...image.layers[0]!, annotations: {} }),
      withCode('registry/auth', /401/),
    );
    assert.equal(tokens.seen.length, 1);
    assert.equal(elsewhere.seen.length, 1);
  });
});
