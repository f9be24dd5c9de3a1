import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import fc from 'fast-check';
import { withCode } from '../../test/support/pull-source.ts';
import { VeneerError } from '../errors.ts';
import { credentialFiles, findCredentials } from './credentials.ts';

const encode = (user: string, password: string): string =>
  Buffer.from(`${user}:${password}`).toString('base64');
const basic = (username: string, password: string) => ({ kind: 'basic', username, password });

interface Place {
  readonly dir: string;
  readonly env: NodeJS.ProcessEnv;
  put(path: string, content: unknown, mode?: number): Promise<void>;
  find(domain?: string, repository?: string): ReturnType<typeof findCredentials>;
}

async function makePlace(t: TestContext): Promise<Place> {
  const dir = await mkdtemp(join(tmpdir(), 'veneer-credentials-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const env = { HOME: dir, PATH: `${dir}/bin:${process.env.PATH}` };
  return {
    dir,
    env,
    async put(path, content, mode = 0o600) {
      await mkdir(dirname(join(dir, path)), { recursive: true });
      const text = typeof content === 'string' ? content : JSON.stringify(content);
      await writeFile(join(dir, path), text, { mode });
    },
    find: (domain = 'example.com', repository = 'team/app') =>
      findCredentials(domain, repository, { env, helperTimeout: 5000 }),
  };
}

const CONFIG = '.docker/config.json';

describe('findCredentials', () => {
  it('finds none where there are none', async (t) => {
    const place = await makePlace(t);
    assert.equal(await place.find(), null);
    for (const content of [
      '',
      ' \n',
      {},
      { auths: null },
      { auths: {} },
      { auths: { 'example.com': {} } },
      { auths: { 'example.com': null } },
    ]) {
      await place.put(CONFIG, content);
      assert.equal(await place.find(), null);
    }
    await place.put(CONFIG, { auths: { 'other.com': { auth: encode('u', 'p') } } });
    assert.equal(await place.find(), null);
  });

  it('reads every form', async (t) => {
    const place = await makePlace(t);
    const cases: [object, object][] = [
      [{ auth: encode('u', 'p:q') }, basic('u', 'p:q')],
      [{ auth: encode('u', 'p\0\0') }, basic('u', 'p')],
      [{ username: 'u', password: 'p' }, basic('u', 'p')],
      [
        { auth: encode('u', 'p'), identitytoken: 'i' },
        { kind: 'identity-token', token: 'i' },
      ],
      [{ registrytoken: 'r' }, { kind: 'registry-token', token: 'r' }],
    ];
    for (const [entry, expected] of cases) {
      await place.put(CONFIG, { auths: { 'example.com': entry }, other: [1] });
      assert.deepEqual(await place.find(), expected);
    }
  });

  it('takes the most specific key, however it is spelt', async (t) => {
    const place = await makePlace(t);
    for (const key of [
      'example.com',
      'https://example.com',
      'https://example.com/v2/',
      'http://example.com/v1',
    ]) {
      await place.put(CONFIG, { auths: { [key]: { auth: encode('u', 'p') } } });
      assert.deepEqual(await place.find(), basic('u', 'p'), key);
    }
    await place.put(CONFIG, {
      auths: {
        'example.com': { auth: encode('host', 'p') },
        'example.com/team': { auth: encode('team', 'p') },
        'example.com/team/app': { auth: encode('app', 'p') },
        'example.com/tea': { auth: encode('wrong', 'p') },
      },
    });
    assert.deepEqual(await place.find(), basic('app', 'p'));
    assert.deepEqual(await place.find('example.com', 'team/other'), basic('team', 'p'));
    assert.deepEqual(await place.find('example.com', 'else'), basic('host', 'p'));
    assert.equal(await place.find('example.com:5000', 'team/app'), null);
  });

  it('knows the names of Docker Hub', async (t) => {
    const place = await makePlace(t);
    for (const key of [
      'https://index.docker.io/v1/',
      'docker.io',
      'index.docker.io',
      'registry-1.docker.io',
    ]) {
      await place.put(CONFIG, { auths: { [key]: { auth: encode('u', 'p') } } });
      assert.deepEqual(await place.find('docker.io', 'library/debian'), basic('u', 'p'), key);
    }
  });

  it('looks into the files in order', async (t) => {
    const place = await makePlace(t);
    const files = [
      'auth-file.json',
      'run/containers/auth.json',
      '.config/containers/auth.json',
      'docker/config.json',
    ];
    Object.assign(place.env, {
      REGISTRY_AUTH_FILE: join(place.dir, files[0]!),
      XDG_RUNTIME_DIR: join(place.dir, 'run'),
      DOCKER_CONFIG: join(place.dir, 'docker'),
    });
    assert.deepEqual(
      credentialFiles(place.env),
      files.map((file) => join(place.dir, file)),
    );
    for (const [index, file] of [...files].reverse().entries()) {
      await place.put(file, { auths: { 'example.com': { auth: encode(`u${index}`, 'p') } } });
      assert.deepEqual(await place.find(), basic(`u${index}`, 'p'));
    }
    place.env.REGISTRY_AUTH_FILE = '/dev/null';
    assert.deepEqual(await place.find(), basic('u2', 'p'));
  });

  it('refuses broken files without showing a word of them', async (t) => {
    const place = await makePlace(t);
    const broken = [
      '{"auths": {"example.com": {"auth": "c2VjcmV0"',
      'secret',
      { auths: 'secret' },
      { auths: { 'example.com': 'secret' } },
      { auths: { 'example.com': { auth: ['secret'] } } },
      { auths: { 'example.com': { auth: Buffer.from('secret').toString('base64') } } },
      { auths: { 'example.com': { auth: Buffer.from(':secret').toString('base64') } } },
      { auths: { 'example.com': { registrytoken: 'secret\nX-Other: 1' } } },
      { credHelpers: { 'example.com': { secret: 'secret' } } },
    ];
    for (const content of broken) {
      await place.put(CONFIG, content);
      await assert.rejects(place.find(), (error) => {
        withCode('registry/credentials', /config\.json/)(error);
        const everything = `${(error as Error).stack} ${JSON.stringify(error)} ${String((error as Error).cause)}`;
        assert.doesNotMatch(everything.replace(/\n {4}at .*/g, ''), /secret|c2VjcmV0/);
        return true;
      });
    }
  });

  it('throws nothing but VeneerErrors', async (t) => {
    const place = await makePlace(t);
    const key = fc.constantFrom('auths', 'credsStore', 'credHelpers', '__proto__', 'example.com');
    await fc.assert(
      fc.asyncProperty(
        fc.dictionary(key, fc.oneof(fc.jsonValue(), fc.dictionary(key, fc.jsonValue()))),
        async (value) => {
          await place.put(CONFIG, value);
          try {
            await place.find();
          } catch (error) {
            assert.ok(error instanceof VeneerError, String(error));
          }
        },
      ),
      { numRuns: 100 },
    );
  });
});

describe('credential helpers', () => {
  const script = (body: string): string => `#!/bin/sh\n${body}\n`;
  const helper = 'bin/docker-credential-test';

  it('are asked for the server', async (t) => {
    const place = await makePlace(t);
    await place.put(
      helper,
      script(`read server\nprintf '{"Username":"%s","Secret":"%s"}' "$1" "$server"`),
      0o700,
    );
    await place.put(CONFIG, { credsStore: 'test' });
    assert.deepEqual(await place.find(), basic('get', 'example.com'));
    assert.deepEqual(await place.find('docker.io', 'library/x'), basic('get', 'https://index.docker.io/v1/'));
    await place.put(CONFIG, { credsStore: 'absent', credHelpers: { 'example.com': 'test' } });
    assert.deepEqual(await place.find(), basic('get', 'example.com'));
  });

  it('may give an identity token, or nothing', async (t) => {
    const place = await makePlace(t);
    const auths = { 'example.com': { auth: encode('u', 'p') } };
    await place.put(CONFIG, { credsStore: 'test', auths });
    await place.put(helper, script(`echo '{"Username":"<token>","Secret":"t"}'`), 0o700);
    assert.deepEqual(await place.find(), { kind: 'identity-token', token: 't' });
    await place.put(helper, script('echo credentials not found in native keychain; exit 1'), 0o700);
    assert.deepEqual(await place.find(), basic('u', 'p'));
  });

  it('fail with a reason and without what they print', async (t) => {
    const place = await makePlace(t);
    await place.put(CONFIG, { credsStore: 'test' });
    const cases: [string | null, RegExp][] = [
      [null, /is not installed/],
      ['echo secret; exit 3', /failed with exit code 3/],
      ['echo secret', /not JSON/],
      [`echo '{"Secret":"secret"}'`, /no Username and Secret/],
      ['yes secret', /too long/],
      ['kill -9 $$', /ended by SIGKILL/],
    ];
    for (const [body, message] of cases) {
      if (body !== null) await place.put(helper, script(body), 0o700);
      await assert.rejects(place.find(), (error) => {
        withCode('registry/credentials', message)(error);
        assert.doesNotMatch(`${error} ${JSON.stringify(error)}`, /secret/);
        return true;
      });
    }
  });

  it('are not waited for without end', async (t) => {
    const place = await makePlace(t);
    await place.put(CONFIG, { credsStore: 'test' });
    await place.put(helper, script('exec sleep 1000'), 0o700);
    const search = { env: place.env, helperTimeout: 200 };
    await assert.rejects(
      findCredentials('example.com', 'x', search),
      withCode('registry/credentials', /within 0\.2 s/),
    );
  });

  it('have plain names', async (t) => {
    const place = await makePlace(t);
    for (const name of ['../x', '/bin/sh', 'a b', '-x', 'x'.repeat(65)]) {
      await place.put(CONFIG, { credsStore: name });
      await assert.rejects(place.find(), withCode('registry/credentials', /odd characters/));
    }
  });
});
