/** What skopeo pushes and saves, read by our sources: an independent writer of registries and archives. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it, describe as suite, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { openDockerArchive } from '../../src/oci/docker-archive.ts';
import { openLayout } from '../../src/oci/layout.ts';
import {
  describe,
  imageBlobs,
  layoutFiles,
  makeImage,
  sha256,
  type TestImage,
  writeFiles,
} from '../support/images.ts';
import { AMD64, assertImage, openSource, readBlob } from '../support/pull-source.ts';
import { startRegistry } from '../support/registry.ts';
import { requireTool } from '../support/require-tool.ts';

const run = promisify(execFile);

interface Bench {
  readonly dir: string;
  readonly image: TestImage;
  skopeo(...args: string[]): Promise<string>;
}

async function start(t: TestContext): Promise<Bench | null> {
  const program = requireTool(t, 'skopeo');
  if (program === null) return null;
  const dir = await mkdtemp(join(tmpdir(), 'veneer-skopeo-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const image = makeImage({ contents: [randomBytes(100_000), randomBytes(10)] });
  const entry = { ...describe(image.manifest), annotations: { 'org.opencontainers.image.ref.name': 'v1' } };
  await writeFiles(join(dir, 'layout'), layoutFiles({ manifests: [entry] }, imageBlobs(image)));
  return {
    dir,
    image,
    async skopeo(...args) {
      const all = ['--insecure-policy', '--tmpdir', dir, ...args];
      return (await run(program, all, { env: { PATH: process.env.PATH, HOME: dir } })).stdout;
    },
  };
}

suite('skopeo', () => {
  it('pushes what we read, and names the same digest', async (t) => {
    const bench = await start(t);
    const registry = bench && (await startRegistry(t));
    if (!bench || !registry) return;
    const { dir, image, skopeo } = bench;
    const target = `${registry.host}/from/skopeo:v1`;
    await skopeo('copy', '--dest-tls-verify=false', `oci:${dir}/layout:v1`, `docker://${target}`);
    await assertImage(openSource(t, registry.host, 'from/skopeo:v1'), image);

    // As docker's schema 2: other documents, the same layers.
    await skopeo(
      'copy',
      '--format',
      'v2s2',
      '--dest-tls-verify=false',
      `oci:${dir}/layout:v1`,
      `docker://${registry.host}/x:docker`,
    );
    const source = openSource(t, registry.host, 'x:docker');
    const { manifest, manifestDigest } = await source.resolve(AMD64);
    const said = await skopeo(
      'inspect',
      '--tls-verify=false',
      '--format',
      '{{.Digest}}',
      `docker://${registry.host}/x:docker`,
    );
    assert.equal(manifestDigest, said.trim());
    for (const [index, layer] of manifest.layers.entries()) {
      assert.deepEqual(await readBlob(source, layer), image.layers[index]!.bytes);
    }
  });

  it('writes docker archives, OCI archives and layouts that we read', async (t) => {
    const bench = await start(t);
    if (bench === null) return;
    const { dir, image, skopeo } = bench;
    const at = (name: string): string => join(dir, name);
    await skopeo('copy', `oci:${dir}/layout:v1`, `docker-archive:${at('docker.tar')}:me/app:v1`);
    const docker = await openDockerArchive(at('docker.tar'));
    assert.equal(docker.name, 'docker.io/me/app:v1');
    const { manifest, config } = await docker.resolve(AMD64);
    assert.deepEqual(config.diffIds, image.diffIds);
    for (const [index, layer] of manifest.layers.entries()) {
      assert.equal(sha256(await readBlob(docker, layer)), image.diffIds[index]);
    }
    await skopeo('copy', `oci:${dir}/layout:v1`, `oci-archive:${at('oci.tar')}:v2`);
    await assertImage(await openDockerArchive(at('oci.tar'), 'v2'), image);
    await skopeo('copy', `oci:${dir}/layout:v1`, `oci:${at('copy')}:v3`);
    await assertImage(await openLayout(at('copy')), image);
  });
});
