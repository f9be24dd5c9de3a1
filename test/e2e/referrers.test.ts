/** Referrers: pushed and found again, in registries with the API and without, and in layouts. */
import assert from 'node:assert/strict';
import { it, describe as suite, type TestContext } from 'node:test';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import { openLayout } from '../../src/oci/layout.ts';
import { parseReference } from '../../src/oci/reference.ts';
import { fallbackTag } from '../../src/oci/referrers.ts';
import { type PushedReferrer, pushReferrer } from '../../src/registry/push.ts';
import { buildImage, noise, temporaryDirectory } from '../support/image-builder.ts';
import { describe, layoutFiles, makeBlob, type TestBlob, writeFiles } from '../support/images.ts';
import { EMPTY_ENV, openSource, withCode } from '../support/pull-source.ts';
import { startReferrersRegistry } from '../support/referrers-registry.ts';
import { pushImage, startRegistry } from '../support/registry.ts';
import { archive, file } from '../support/tar-builder.ts';

const TYPE = 'application/vnd.example.notes.v1';
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

interface Artifact {
  readonly manifest: TestBlob;
  readonly blobs: readonly TestBlob[];
}

const image = buildImage([archive(file('hello', 'hello\n'))]);

function makeArtifact(seed: number, artifactType = TYPE, subject: TestBlob = image.manifest): Artifact {
  const config = makeBlob('application/vnd.oci.empty.v1+json', {});
  const notes = makeBlob('application/octet-stream', noise(300_000, seed));
  const manifest = makeBlob(MANIFEST, {
    schemaVersion: 2,
    mediaType: MANIFEST,
    artifactType,
    config: describe(config),
    layers: [describe(notes)],
    subject: describe(subject),
  });
  return { manifest, blobs: [config, notes] };
}

async function push(host: string, { manifest, blobs }: Artifact): Promise<PushedReferrer> {
  const bytes = new Map(blobs.map((blob) => [blob.digest, blob.bytes]));
  return pushReferrer(
    parseReference(`${host}/app`),
    {
      descriptor: { ...describe(manifest), annotations: {} },
      bytes: manifest.bytes,
      async openBlob({ digest }: Descriptor) {
        return (async function* () {
          const all = bytes.get(digest)!;
          for (let at = 0; at < all.length; at += 65_536) yield all.subarray(at, at + 65_536);
        })();
      },
    },
    { env: EMPTY_ENV, certsDirs: [] },
  );
}

/** What a source lists for the image, by digest, and that it can be read. */
async function found(t: TestContext, host: string, type = TYPE): Promise<string[]> {
  const { referrers } = openSource(t, host, 'app:latest');
  const list = await referrers!.list(image.manifest.digest, type);
  for (const one of list) assert.equal((await referrers!.read(one)).length, one.size);
  return list.map(({ digest }) => digest).sort();
}

const digests = (artifacts: readonly Artifact[]): string[] =>
  artifacts.map(({ manifest }) => manifest.digest).sort();

suite('referrers', () => {
  it("in Debian's docker-registry, which has no API for them: the fallback tag", async (t) => {
    const registry = await startRegistry(t);
    if (registry === null) return;
    await pushImage(registry, 'app', image, 'latest');
    assert.deepEqual(await found(t, registry.host), []);
    const artifacts = [makeArtifact(1), makeArtifact(2), makeArtifact(3, 'application/vnd.example.other')];
    for (const artifact of artifacts) {
      const pushed = await push(registry.host, artifact);
      assert.equal(pushed.tag, fallbackTag(image.manifest.digest));
    }
    assert.deepEqual(await found(t, registry.host), digests(artifacts.slice(0, 2)));
    assert.deepEqual(
      await found(t, registry.host, 'application/vnd.example.other'),
      digests(artifacts.slice(2)),
    );
    // Once more: nothing is sent, nothing is listed twice.
    const again = await push(registry.host, artifacts[0]!);
    assert.equal(again.sent, 0);
    assert.deepEqual(await found(t, registry.host), digests(artifacts.slice(0, 2)));
  });

  for (const [what, options] of [
    ['all at once', {}],
    ['page by page', { pageSize: 1 }],
    ['without a filter, page by page', { pageSize: 2, filters: false }],
  ] as const) {
    it(`by the API, ${what}`, async (t) => {
      const registry = await startReferrersRegistry(t, options);
      const artifacts = [makeArtifact(1), makeArtifact(2), makeArtifact(3)];
      for (const artifact of [makeArtifact(4, 'application/vnd.example.other'), ...artifacts])
        assert.equal((await push(registry.host, artifact)).tag, null);
      assert.deepEqual(await found(t, registry.host), digests(artifacts));
      assert.ok(!registry.manifests.has(fallbackTag(image.manifest.digest)));
    });
  }

  it('an endless list is given up', async (t) => {
    let page = 0;
    const registry = await startReferrersRegistry(t, {
      onRequest(request, response) {
        if (!request.url!.includes('/referrers/')) return false;
        const path = request.url!.replace(/\?.*/, '');
        response.writeHead(200, { link: `<${path}?last=${++page}>; rel="next"` });
        response.end('{"schemaVersion":2,"manifests":[]}');
        return true;
      },
    });
    await assert.rejects(found(t, registry.host), withCode('oci/limit', /100 pages/));
  });

  it('a list that leads elsewhere is not followed', async (t) => {
    const registry = await startReferrersRegistry(t, {
      onRequest(request, response) {
        if (!request.url!.includes('/referrers/')) return false;
        response.writeHead(200, { link: '<http://169.254.169.254/secret?x=1>; rel="next"' });
        response.end('{"schemaVersion":2,"manifests":[]}');
        return true;
      },
    });
    assert.deepEqual(await found(t, registry.host), []);
    assert.equal(registry.requests.filter((line) => line.includes('referrers')).length, 1);
  });

  it('a push that is cut leaves no manifest', async (t) => {
    const registry = await startReferrersRegistry(t, {
      onRequest(request) {
        if (request.method !== 'PUT' || !request.url!.includes('blobs')) return false;
        request.socket.destroy();
        return true;
      },
    });
    const { manifest, blobs } = makeArtifact(1);
    const retry = { attempts: 2, baseDelay: 1 };
    const options = { env: EMPTY_ENV, certsDirs: [], retry };
    const descriptor = { ...describe(manifest), annotations: {} };
    const openBlob = async (): Promise<AsyncIterable<Buffer>> => {
      return (async function* () {
        yield blobs[0]!.bytes;
      })();
    };
    const target = parseReference(`${registry.host}/app`);
    await assert.rejects(
      pushReferrer(target, { descriptor, bytes: manifest.bytes, openBlob }, options),
      withCode('registry/unavailable'),
    );
    assert.equal(registry.manifests.size, 0);
  });

  it('in an OCI layout: listed without a tag, or under the fallback tag', async (t) => {
    const dir = temporaryDirectory(t);
    const [untagged, tagged, other] = [makeArtifact(1), makeArtifact(2), makeArtifact(3, 'application/x')];
    const list = makeBlob('application/vnd.oci.image.index.v1+json', {
      schemaVersion: 2,
      manifests: [describe(tagged.manifest), describe(untagged.manifest)],
    });
    const name = 'org.opencontainers.image.ref.name';
    const index = {
      schemaVersion: 2,
      manifests: [
        { ...describe(image.manifest), annotations: { [name]: 'latest' } },
        describe(untagged.manifest),
        describe(other.manifest),
        { ...describe(list), annotations: { [name]: fallbackTag(image.manifest.digest) } },
      ],
    };
    const artifacts = [untagged, tagged, other];
    await writeFiles(
      dir,
      layoutFiles(index, [
        image.manifest,
        image.config,
        ...image.layers,
        list,
        ...artifacts.flatMap(({ manifest, blobs }) => [manifest, ...blobs]),
      ]),
    );
    const source = await openLayout(dir, { tag: 'latest' });
    t.after(() => source.close());
    const listed = await source.referrers!.list(image.manifest.digest, TYPE);
    assert.deepEqual(listed.map(({ digest }) => digest).sort(), digests([untagged, tagged]));
    assert.deepEqual(await source.referrers!.list(`sha256:${'0'.repeat(64)}`, TYPE), []);
  });
});
