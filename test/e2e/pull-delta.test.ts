/** `pull --delta-from`: deltas beside their images in registries and layouts, and what happens when they are no good. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { buildImage, noise, writeLayout } from '../support/image-builder.ts';
import type { TestImage } from '../support/images.ts';
import { EMPTY_ENV } from '../support/pull-source.ts';
import { type ReferrersRegistry, startReferrersRegistry } from '../support/referrers-registry.ts';
import { pushImage, startRegistry } from '../support/registry.ts';
import { archive, file } from '../support/tar-builder.ts';
import { CliLab, cleanEnv, LAUNCHER, parseLines, type Ran } from './run-veneer.ts';

const large = noise(900_000, 1);
const edited = Buffer.from(large);
edited[450_000]! ^= 1;
const shared = archive(file('shared', noise(200_000, 2)));
const one = buildImage([shared, archive(file('usr/lib/large', large), file('a', '1'))]);
const two = buildImage([shared, archive(file('usr/lib/large', edited), file('a', '2'))]);
const other = buildImage([archive(file('other', noise(100_000, 3)))]);

class DeltaLab extends CliLab {
  /** Runs veneer and expects success. */
  async run(...words: string[]): Promise<Ran> {
    const ran = await this.veneer(words, { env: EMPTY_ENV });
    assert.equal(ran.code, 0, `${words.join(' ')}: ${ran.stderr}`);
    return ran;
  }

  /** `one` in the store, and a layout with a delta from it to `two`. */
  async prepare(base: TestImage = one): Promise<void> {
    await writeLayout(this.path('one'), one);
    await writeLayout(this.path('two'), two);
    await writeLayout(this.path('base'), base);
    await this.run('pull', `oci:${this.path('base')}`, '--name', 'base');
    const delta = `oci:${this.path('delta')}`;
    await this.run(
      'delta',
      'create',
      '--from',
      `oci:${this.path('one')}`,
      '--to',
      `oci:${this.path('two')}`,
      '-o',
      delta,
    );
  }

  async publish(host: string): Promise<{ tag: string | null }> {
    await pushImage({ host, storage: '' }, 'app', two, 'two');
    const ran = await this.run('delta', 'push', '--json', `oci:${this.path('delta')}`, `${host}/app`);
    return parseLines(ran.text)[0] as { tag: string | null };
  }

  /** The image came out right: `verify` hashes every layer. */
  async checkImage(name: string): Promise<void> {
    const [image] = parseLines((await this.run('images', '--json')).text).filter(
      (line) => line.name === name,
    );
    assert.equal((image as { manifest: { digest: string } }).manifest.digest, two.manifest.digest);
    await this.run('verify');
    await this.run('fsck');
    const bytes = (await this.run('cat', `${name}:/usr/lib/large`)).stdout;
    assert.ok(bytes.equals(edited));
  }

  /** Nothing is left of what was unfinished. */
  checkClean(): void {
    const left = readdirSync(join(this.root, 'tmp')).filter(
      (entry) => entry !== 'downloads' && entry !== 'locks',
    );
    assert.deepEqual(left, []);
  }
}

const layerBlobs = two.layers.map(({ digest }) => digest);
const fetched = (registry: ReferrersRegistry): string[] =>
  registry.requests.filter(
    (line) => line.startsWith('GET') && layerBlobs.some((digest) => line.includes(digest)),
  );

describe('pull --delta-from', () => {
  it("Debian's docker-registry: by the fallback tag", async (t) => {
    const registry = await startRegistry(t);
    if (registry === null) return;
    const lab = new DeltaLab(t);
    await lab.prepare();
    const { tag } = await lab.publish(registry.host);
    assert.equal(tag, two.manifest.digest.replace(':', '-'));
    const ran = await lab.run(
      'pull',
      '--json',
      '--delta-from',
      'base',
      `${registry.host}/app:two`,
      '--name',
      'two',
    );
    const [record] = parseLines(ran.text) as [{ delta: { bytes: number } }];
    assert.ok(record.delta.bytes < 5000, `${record.delta.bytes} bytes`);
    assert.equal(ran.stderr, '');
    await lab.checkImage('two');
    lab.checkClean();
  });

  it('a registry with the referrers API: no layer is fetched', async (t) => {
    const registry = await startReferrersRegistry(t);
    const lab = new DeltaLab(t);
    await lab.prepare();
    assert.equal((await lab.publish(registry.host)).tag, null);
    await lab.run('pull', '--delta-from', 'base', `${registry.host}/app:two`, '--name', 'two');
    assert.deepEqual(fetched(registry), []);
    await lab.checkImage('two');
    // Once more there is nothing to do at all.
    registry.requests.length = 0;
    await lab.run('pull', '--delta-from', 'base', `${registry.host}/app:two`, '--name', 'two');
    assert.ok(!registry.requests.some((line) => line.includes('referrers')));
  });

  it('a layout that has image and delta', async (t) => {
    const lab = new DeltaLab(t);
    await lab.prepare();
    const both = `oci:${lab.path('two')}`;
    await lab.run('delta', 'create', '--from', `oci:${lab.path('one')}`, '--to', both, '-o', `${both}:delta`);
    const ran = await lab.run('pull', '--json', '--delta-from', 'base', `${both}:latest`, '--name', 'two');
    const [record] = parseLines(ran.text) as [{ delta: { bytes: number } }];
    assert.ok(record.delta.bytes < 5000);
    await lab.checkImage('two');
    lab.checkClean();
  });

  it('another base: told, and pulled whole', async (t) => {
    const registry = await startReferrersRegistry(t);
    const lab = new DeltaLab(t);
    await lab.prepare(other);
    await lab.publish(registry.host);
    const ran = await lab.run('pull', '--delta-from', 'base', `${registry.host}/app:two`, '--name', 'two');
    assert.match(ran.stderr, /no delta is used: .*none of 1 is from layers of the store/);
    assert.equal(fetched(registry).length, 2);
    await lab.checkImage('two');
    const unknown = await lab.veneer(['pull', '--delta-from', 'nothing', `${registry.host}/app:two`]);
    assert.equal(unknown.code, 1);
    assert.match(unknown.stderr, /Cannot find image "nothing"/);
  });

  it('an image without a delta, and a source that lists none', async (t) => {
    const registry = await startReferrersRegistry(t);
    const lab = new DeltaLab(t);
    await lab.prepare();
    await pushImage({ host: registry.host, storage: '' }, 'app', two, 'two');
    const ran = await lab.run('pull', '--delta-from', 'base', `${registry.host}/app:two`, '--name', 'two');
    assert.match(ran.stderr, /no delta is used: .*there is none/);
    assert.equal(fetched(registry).length, 1);
    await lab.checkImage('two');
  });

  type Lie = (lab: DeltaLab, registry: ReferrersRegistry) => void;
  const deltaBlob = (registry: ReferrersRegistry): string => {
    const manifests = [...registry.manifests.values()].map(({ bytes }) => JSON.parse(bytes.toString()));
    return manifests.find(({ artifactType }) => artifactType !== undefined).layers[2].digest as string;
  };
  const change = (registry: ReferrersRegistry, edit: (bytes: Buffer) => Buffer): void => {
    const digest = deltaBlob(registry);
    registry.blobs.set(digest, edit(Buffer.from(registry.blobs.get(digest)!)));
  };
  const lies: Record<string, [lie: Lie, told: RegExp]> = {
    'a delta that was changed': [
      (_, registry) =>
        change(registry, (bytes) => {
          bytes[bytes.length >> 1]! ^= 1;
          return bytes;
        }),
      /is fetched whole, it could not be rebuilt: .*digest/,
    ],
    'a delta that is longer': [
      (_, registry) => change(registry, (bytes) => Buffer.concat([bytes, bytes])),
      /is fetched whole, it could not be rebuilt/,
    ],
    'a delta that is gone': [
      (_, registry) => void registry.blobs.delete(deltaBlob(registry)),
      /is fetched whole, it could not be rebuilt: .*404/,
    ],
    'a list that is no JSON': [
      (_, registry) =>
        void (hooks.get(registry)!.answer = (request, response) => {
          if (!request.url!.includes('/referrers/')) return false;
          response.end('<html>');
          return true;
        }),
      /no delta is used: .*not JSON/,
    ],
    'a list of what is not there': [
      (_, registry) =>
        void (hooks.get(registry)!.answer = (request, response) => {
          if (!request.url!.includes('/referrers/')) return false;
          const mediaType = 'application/vnd.oci.image.manifest.v1+json';
          const digest = `sha256:${'0'.repeat(64)}`;
          response.end(JSON.stringify({ schemaVersion: 2, manifests: [{ mediaType, digest, size: 10 }] }));
          return true;
        }),
      /no delta is used: .*404/,
    ],
    'a list that claims the image itself is a delta': [
      (_, registry) =>
        void (hooks.get(registry)!.answer = (request, response) => {
          if (!request.url!.includes('/referrers/')) return false;
          const { mediaType, digest, size } = two.manifest;
          response.end(JSON.stringify({ schemaVersion: 2, manifests: [{ mediaType, digest, size }] }));
          return true;
        }),
      /no delta is used/,
    ],
  };
  const hooks = new WeakMap<
    object,
    { answer: ((request: IncomingMessage, response: ServerResponse) => boolean) | null }
  >();

  async function hookedRegistry(t: TestContext): Promise<ReferrersRegistry> {
    const hook: { answer: ((request: IncomingMessage, response: ServerResponse) => boolean) | null } = {
      answer: null,
    };
    const registry = await startReferrersRegistry(t, {
      onRequest: (request, response) => hook.answer?.(request, response) ?? false,
    });
    hooks.set(registry, hook);
    return registry;
  }

  for (const [what, [lie, told]] of Object.entries(lies)) {
    it(`${what}: told, and pulled whole`, async (t) => {
      const registry = await hookedRegistry(t);
      const lab = new DeltaLab(t);
      await lab.prepare();
      await lab.publish(registry.host);
      lie(lab, registry);
      const ran = await lab.run('pull', '--delta-from', 'base', `${registry.host}/app:two`, '--name', 'two');
      assert.match(ran.stderr, told);
      assert.equal(fetched(registry).length, 1);
      await lab.checkImage('two');
      lab.checkClean();
    });
  }

  it('killed while the delta comes: nothing half, and the next pull goes on', async (t) => {
    let slow = true;
    const registry: ReferrersRegistry = await startReferrersRegistry(t, {
      async onRequest(request, response) {
        const [, digest] = /^\/v2\/app\/blobs\/(.*)$/.exec(request.url!) ?? [];
        const bytes = digest === undefined ? undefined : registry.blobs.get(digest);
        if (!slow || request.method !== 'GET' || bytes === undefined || digest !== deltaBlob(registry))
          return false;
        response.writeHead(200, { 'content-length': String(bytes.length) });
        response.write(bytes.subarray(0, bytes.length >> 1));
        return true;
      },
    });
    const lab = new DeltaLab(t);
    await lab.prepare();
    await lab.publish(registry.host);
    const words = ['pull', '--delta-from', 'base', `${registry.host}/app:two`, '--name', 'two'];
    const child = spawn(process.execPath, [LAUNCHER, ...words], {
      env: { ...cleanEnv({ VENEER_ROOT: lab.root }), ...EMPTY_ENV },
      stdio: 'ignore',
    });
    const ended = once(child, 'close');
    const parts = (): string[] => readdirSync(join(lab.root, 'tmp', 'downloads'));
    while (child.exitCode === null && parts().length === 0) await delay(5);
    await delay(50);
    child.kill('SIGKILL');
    await ended;
    assert.equal((await lab.veneer(['ls', 'two'])).code, 1);
    await lab.run('fsck');
    slow = false;
    registry.requests.length = 0;
    await lab.run(...words);
    assert.deepEqual(fetched(registry), []);
    await lab.checkImage('two');
    assert.deepEqual(parts(), []);
    lab.checkClean();
  });
});
