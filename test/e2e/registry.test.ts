/** The registry source against Debian's docker-registry on loopback. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it, describe as suite, type TestContext } from 'node:test';
import type { VeneerError } from '../../src/errors.ts';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import { parsePlatform } from '../../src/oci/platform.ts';
import { makeImage, makeIndex, type TestImage } from '../support/images.ts';
import { AMD64, assertImage, EMPTY_ENV, openSource, readBlob, withCode } from '../support/pull-source.ts';
import {
  PASSWORD,
  pushImage,
  pushManifest,
  type Registry,
  startRegistry,
  USER,
} from '../support/registry.ts';

const arm64 = parsePlatform('linux/arm64');

suite('registry without authentication', () => {
  it('pulls OCI and docker images of every compression by tag and by digest', async (t) => {
    const registry = await startRegistry(t);
    if (registry === null) return;
    for (const kind of ['oci', 'docker'] as const) {
      for (const compression of ['gzip', 'zstd', 'none'] as const) {
        const image = makeImage({ kind, compression, contents: [randomBytes(100_000), randomBytes(10)] });
        const name = `${kind}/${compression}`;
        await pushImage(registry, name, image, 'v1');
        const byTag = openSource(t, registry.host, `${name}:v1`);
        assert.equal(byTag.name, `${registry.host}/${name}:v1`);
        assert.equal(byTag.local, false);
        await assertImage(byTag, image);
        await assertImage(openSource(t, registry.host, `${name}@${image.manifest.digest}`), image);
        await assertImage(openSource(t, registry.host, `${name}:gone@${image.manifest.digest}`), image);
      }
    }
  });

  it('chooses by platform, and gives the index', async (t) => {
    const registry = await startRegistry(t);
    if (registry === null) return;
    const image = makeImage({ contents: [randomBytes(10)] });
    const armPlatform = { os: 'linux', architecture: 'arm64', variant: 'v8' };
    const arm = makeImage({ contents: [randomBytes(10)], platform: armPlatform });
    const index = makeIndex([
      { image: arm, platform: armPlatform },
      { image, platform: { os: 'linux', architecture: 'amd64' } },
    ]);
    await pushImage(registry, 'multi', image);
    await pushImage(registry, 'multi', arm);
    await pushManifest(registry, 'multi', index, 'latest');

    const source = openSource(t, registry.host, 'multi');
    await assertImage(source, image, AMD64);
    await assertImage(source, arm, arm64);
    const found = await source.resolve(arm64);
    const { mediaType, digest, bytes } = index;
    assert.deepEqual(found.index, { mediaType, digest, bytes });
    await assert.rejects(source.resolve(parsePlatform('linux/s390x')), (error) => {
      withCode('oci/no-platform')(error);
      assert.match((error as VeneerError).hint ?? '', /linux\/arm64, linux\/amd64/);
      return true;
    });
  });

  it('resumes a blob at any offset', async (t) => {
    const registry = await startRegistry(t);
    if (registry === null) return;
    const image = makeImage({ compression: 'none', contents: [randomBytes(300_000)] });
    await pushImage(registry, 'x', image, 'latest');
    const source = openSource(t, registry.host, 'x');
    const layer = (await source.resolve(AMD64)).manifest.layers[0]!;
    for (const offset of [0, 1, 65_536, layer.size - 1, layer.size]) {
      assert.deepEqual(await readBlob(source, layer, offset), image.layers[0]!.bytes.subarray(offset));
    }
  });

  it('serves many blobs at once', async (t) => {
    const registry = await startRegistry(t);
    if (registry === null) return;
    const image = makeImage({ contents: Array.from({ length: 40 }, () => randomBytes(50_000)) });
    await pushImage(registry, 'x', image, 'latest');
    const source = openSource(t, registry.host, 'x');
    const { layers } = (await source.resolve(AMD64)).manifest;
    const found = await Promise.all(layers.map((layer) => readBlob(source, layer)));
    assert.deepEqual(
      found,
      image.layers.map(({ bytes }) => bytes),
    );
  });

  it('says what is missing', async (t) => {
    const registry = await startRegistry(t);
    if (registry === null) return;
    const image = makeImage({ contents: [randomBytes(10)] });
    await pushImage(registry, 'x', image, 'latest');
    await assert.rejects(
      openSource(t, registry.host, 'x:other').resolve(AMD64),
      withCode('registry/not-found', /404 \(MANIFEST_UNKNOWN/),
    );
    await assert.rejects(openSource(t, registry.host, 'y').resolve(AMD64), withCode('registry/not-found'));
    const source = openSource(t, registry.host, 'x');
    const gone = { ...image.layers[0]!, digest: `sha256:${'0'.repeat(64)}`, annotations: {} };
    await assert.rejects(readBlob(source, gone), withCode('registry/not-found', /BLOB_UNKNOWN/));
    await assert.rejects(
      readBlob(source, { ...gone, foreign: true } as Descriptor),
      withCode('registry/not-found', /foreign layer/),
    );
  });

  it('fails streams when it is closed', async (t) => {
    const registry = await startRegistry(t);
    if (registry === null) return;
    const image = makeImage({ compression: 'none', contents: [randomBytes(20_000_000)] });
    await pushImage(registry, 'x', image, 'latest');
    const source = openSource(t, registry.host, 'x');
    const layer = (await source.resolve(AMD64)).manifest.layers[0]!;
    const blob = (await source.openBlob(layer, 0))[Symbol.asyncIterator]();
    await blob.next();
    await source.close();
    await assert.rejects(async () => {
      for (let next = await blob.next(); !next.done; next = await blob.next());
    }, withCode('io/cancelled'));
    await assert.rejects(source.resolve(AMD64), withCode('io/cancelled'));
  });
});

suite('registry with basic authentication', () => {
  /** The image is pushed through a registry without authentication that shares the storage. */
  async function startBoth(t: TestContext): Promise<{ registry: Registry; image: TestImage } | null> {
    const back = await startRegistry(t);
    const registry = back && (await startRegistry(t, { storage: back.storage, auth: { kind: 'basic' } }));
    if (back === null || registry === null) return null;
    const image = makeImage({ contents: [randomBytes(1000)] });
    await pushImage(back, 'private/x', image, 'latest');
    return { registry, image };
  }

  it('takes given credentials', async (t) => {
    const both = await startBoth(t);
    if (both === null) return;
    const { registry, image } = both;
    const credentials = { kind: 'basic', username: USER, password: PASSWORD } as const;
    await assertImage(openSource(t, registry.host, 'private/x', { credentials }), image);
  });

  it("finds credentials in docker's config.json and podman's auth.json", async (t) => {
    const both = await startBoth(t);
    if (both === null) return;
    const { registry, image } = both;
    const dir = await mkdtemp(join(tmpdir(), 'veneer-auth-'));
    t.after(() => rm(dir, { recursive: true }));
    const auth = Buffer.from(`${USER}:${PASSWORD}`).toString('base64');
    await writeFile(join(dir, 'config.json'), JSON.stringify({ auths: { [registry.host]: { auth } } }));
    await writeFile(
      join(dir, 'auth.json'),
      JSON.stringify({ auths: { [`${registry.host}/private`]: { auth } } }),
    );
    await assertImage(
      openSource(t, registry.host, 'private/x', { env: { ...EMPTY_ENV, DOCKER_CONFIG: dir } }),
      image,
    );
    const env = { ...EMPTY_ENV, REGISTRY_AUTH_FILE: join(dir, 'auth.json') };
    await assertImage(openSource(t, registry.host, 'private/x', { env }), image);
  });

  it('asks a credential helper', async (t) => {
    const both = await startBoth(t);
    if (both === null) return;
    const { registry, image } = both;
    const dir = await mkdtemp(join(tmpdir(), 'veneer-auth-'));
    t.after(() => rm(dir, { recursive: true }));
    await writeFile(join(dir, 'config.json'), JSON.stringify({ credHelpers: { [registry.host]: 'test' } }));
    const answer = JSON.stringify({ ServerURL: registry.host, Username: USER, Secret: PASSWORD });
    const script = `#!/bin/sh\n[ "$1" = get ] && [ "$(cat)" = '${registry.host}' ] && echo '${answer}'\n`;
    await writeFile(join(dir, 'docker-credential-test'), script, { mode: 0o755 });
    const env = { ...EMPTY_ENV, DOCKER_CONFIG: dir, PATH: `${dir}:${process.env.PATH}` };
    await assertImage(openSource(t, registry.host, 'private/x', { env }), image);
  });

  it('refuses without or with wrong credentials, and shows none', async (t) => {
    const both = await startBoth(t);
    if (both === null) return;
    const { registry } = both;
    await assert.rejects(
      openSource(t, registry.host, 'private/x').resolve(AMD64),
      withCode('registry/auth', /none are stored/),
    );
    const credentials = { kind: 'basic', username: USER, password: 'a wrong secret' } as const;
    await assert.rejects(
      openSource(t, registry.host, 'private/x', { credentials }).resolve(AMD64),
      (error) => {
        withCode('registry/auth', /credentials are refused/)(error);
        assert.doesNotMatch(JSON.stringify([String(error), error, (error as VeneerError).hint]), /secret/);
        return true;
      },
    );
  });
});
