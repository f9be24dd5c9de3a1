import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it, describe as suite, type TestContext } from 'node:test';
import {
  describe,
  imageBlobs,
  layoutFiles,
  makeBlob,
  makeImage,
  makeIndex,
  type TestBlob,
  type TestImage,
  writeFiles,
} from '../../test/support/images.ts';
import { AMD64, assertImage, readBlob, withCode } from '../../test/support/pull-source.ts';
import { openLayout, readLayoutIndex } from './layout.ts';
import { directoryFiles } from './named-files.ts';
import { parsePlatform } from './platform.ts';

const REF = 'org.opencontainers.image.ref.name';
const image = makeImage({ contents: [Buffer.alloc(3_000_000, 'abc'), Buffer.from('2')] });
const other = makeImage({ compression: 'none', contents: [Buffer.from('other')] });
const armPlatform = { os: 'linux', architecture: 'arm64' };
const arm = makeImage({ contents: [Buffer.from('arm')], platform: armPlatform });

async function makeDir(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'veneer-layout-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

const tagged = (blob: TestBlob, tag?: string, platform?: object): object => ({
  ...describe(blob),
  ...(tag === undefined ? {} : { annotations: { [REF]: tag } }),
  ...(platform === undefined ? {} : { platform }),
});

/** A layout named `app` with these entries in its index.json. */
async function makeLayout(
  t: TestContext,
  manifests: object[],
  images: TestImage[],
  blobs: TestBlob[] = [],
): Promise<string> {
  const dir = join(await makeDir(t), 'app');
  await writeFiles(dir, layoutFiles({ manifests }, [...images.flatMap(imageBlobs), ...blobs]));
  return dir;
}

suite('openLayout', () => {
  it('gives the only image, by its tag or without', async (t) => {
    const dir = await makeLayout(t, [tagged(image.manifest, 'v1')], [image]);
    for (const choice of [{}, { tag: 'v1' }]) {
      const source = await openLayout(dir, choice);
      assert.equal(source.name, 'app:v1');
      assert.equal(source.local, true);
      await assertImage(source, image);
    }
    const bare = await openLayout(await makeLayout(t, [tagged(image.manifest)], [image]));
    assert.equal(bare.name, 'app:latest');
    await assertImage(bare, image);
  });

  it('chooses by tag, and latest by itself', async (t) => {
    const dir = await makeLayout(
      t,
      [tagged(image.manifest, 'v1'), tagged(other.manifest, 'latest')],
      [image, other],
    );
    await assertImage(await openLayout(dir), other);
    await assertImage(await openLayout(dir, { tag: 'v1' }), image);
    await assert.rejects(openLayout(dir, { tag: 'v2' }), {
      code: 'oci/not-found',
      hint: /It has v1, latest\./,
    });
    const two = await makeLayout(
      t,
      [tagged(image.manifest, 'v1'), tagged(other.manifest, 'v2')],
      [image, other],
    );
    await assert.rejects(openLayout(two), { code: 'oci/not-found', hint: /v1, v2/ });
    await assert.rejects(openLayout(await makeLayout(t, [], [])), withCode('oci/not-found', /empty/));
  });

  it('chooses by digest, also of what index.json does not name', async (t) => {
    const index = makeIndex([{ image, platform: { os: 'linux', architecture: 'amd64' } }]);
    const dir = await makeLayout(t, [tagged(index, 'v1')], [image, other], [index]);
    await assertImage(await openLayout(dir, { digest: index.digest }), image);
    await assertImage(await openLayout(dir, { digest: image.manifest.digest }), image);
    const source = await openLayout(dir, { digest: other.manifest.digest });
    assert.equal(source.name, `app@${other.manifest.digest}`);
    await assertImage(source, other);
    await assert.rejects(openLayout(dir, { digest: arm.manifest.digest }), withCode('oci/not-found'));
    const config = await openLayout(dir, { digest: image.config.digest });
    await assert.rejects(config.resolve(AMD64), withCode('oci/invalid'));
  });

  it('chooses by platform, in an index and among entries of one tag', async (t) => {
    const amd = { os: 'linux', architecture: 'amd64' };
    const index = makeIndex([
      { image: arm, platform: armPlatform },
      { image, platform: amd },
    ]);
    const outer = { mediaType: index.mediaType, schemaVersion: 2, manifests: [describe(index)] };
    const nested = { ...index, bytes: Buffer.from(JSON.stringify(outer)) };
    const nestedBlob = makeBlob(nested.mediaType, nested.bytes);
    const dirs = [
      await makeLayout(t, [tagged(index)], [image, arm], [index]),
      await makeLayout(t, [tagged(nestedBlob)], [image, arm], [index, nestedBlob]),
      await makeLayout(
        t,
        [tagged(arm.manifest, 'x', armPlatform), tagged(image.manifest, 'x', amd)],
        [image, arm],
      ),
      // Without labels only the configs tell.
      await makeLayout(t, [tagged(arm.manifest, 'x'), tagged(image.manifest, 'x')], [image, arm]),
    ];
    for (const dir of dirs) {
      const source = await openLayout(dir);
      await assertImage(source, image);
      await assertImage(source, arm, parsePlatform('linux/arm64'));
      await assert.rejects(source.resolve(parsePlatform('linux/s390x')), withCode('oci/no-platform'));
    }
    const { index: found } = await (await openLayout(dirs[1]!)).resolve(AMD64);
    assert.deepEqual([found?.digest, found?.mediaType], [nestedBlob.digest, nestedBlob.mediaType]);
  });

  it('gives the only image there is with a finding when it is for another platform', async (t) => {
    const source = await openLayout(await makeLayout(t, [tagged(arm.manifest)], [arm]));
    const { findings, manifestDigest } = await source.resolve(AMD64);
    assert.equal(manifestDigest, arm.manifest.digest);
    assert.deepEqual(findings, [
      { code: 'oci/platform-mismatch', message: 'app:latest is for linux/arm64, not for linux/amd64' },
    ]);
  });

  it('ends at indexes that nest too deep', async (t) => {
    let inner: TestBlob = makeIndex([{ image }]);
    const blobs = [inner];
    for (let depth = 0; depth < 6; depth++) {
      inner = makeBlob(inner.mediaType, { schemaVersion: 2, manifests: [describe(inner)] });
      blobs.push(inner);
    }
    const source = await openLayout(await makeLayout(t, [tagged(inner)], [image], blobs));
    await assert.rejects(source.resolve(AMD64), withCode('oci/limit', /deep/));
  });

  it('reads from an offset, and says where a blob stands', async (t) => {
    const dir = await makeLayout(t, [tagged(image.manifest)], [image]);
    const source = await openLayout(dir);
    const layer = (await source.resolve(AMD64)).manifest.layers[0]!;
    const { bytes } = image.layers[0]!;
    for (const offset of [0, 1, bytes.length - 1, bytes.length, bytes.length + 5]) {
      assert.deepEqual(await readBlob(source, layer, offset), bytes.subarray(offset));
    }
    const range = await source.locateBlob(layer);
    assert.deepEqual({ ...range, path: '' }, { path: '', offset: 0, length: layer.size });
  });

  it('refuses what is damaged', async (t) => {
    const path = (dir: string, blob: TestBlob): string => join(dir, 'blobs', blob.digest.replace(':', '/'));
    const breaks: [(dir: string) => Promise<unknown>, string][] = [
      [(dir) => rm(join(dir, 'oci-layout')), 'oci/not-found'],
      [(dir) => writeFile(join(dir, 'oci-layout'), '{"imageLayoutVersion":"2.0.0"}'), 'oci/invalid'],
      [(dir) => rm(join(dir, 'index.json')), 'oci/not-found'],
      [(dir) => writeFile(join(dir, 'index.json'), 'x'), 'oci/invalid'],
      [(dir) => truncate(join(dir, 'index.json'), 5 << 20), 'oci/limit'],
      [(dir) => rm(path(dir, image.manifest)), 'oci/not-found'],
      [(dir) => writeFile(path(dir, image.manifest), '{}'), 'oci/digest-mismatch'],
      [(dir) => writeFile(path(dir, image.config), Buffer.alloc(image.config.size)), 'oci/digest-mismatch'],
      [(dir) => truncate(path(dir, image.layers[1]!), 3), 'oci/digest-mismatch'],
      [(dir) => rm(path(dir, image.layers[0]!)), 'oci/not-found'],
      [
        async (dir) => {
          await rm(path(dir, image.layers[0]!));
          await mkdir(path(dir, image.layers[0]!));
        },
        'oci/invalid',
      ],
    ];
    for (const [damage, code] of breaks) {
      const dir = await makeLayout(t, [tagged(image.manifest)], [image]);
      await damage(dir);
      await assert.rejects(
        async () => assertImage(await openLayout(dir), image),
        withCode(code),
        String(damage),
      );
    }
    await assert.rejects(openLayout(join(await makeDir(t), 'absent')), withCode('oci/not-found'));
  });

  it('follows symlinks inside, and none that leave', async (t) => {
    const dir = await makeLayout(t, [tagged(image.manifest)], [image]);
    const blob = image.layers[0]!.digest.replace(':', '/');
    await rename(join(dir, 'blobs', blob), join(dir, 'moved'));
    await symlink('../../moved', join(dir, 'blobs', blob));
    await assertImage(await openLayout(dir), image);

    await rename(join(dir, 'moved'), join(dir, '../outside'));
    await rm(join(dir, 'blobs', blob));
    await symlink('../../../outside', join(dir, 'blobs', blob));
    await assert.rejects(
      assertImage(await openLayout(dir), image),
      withCode('oci/invalid', /leaves the directory/),
    );

    await symlink(dir, join(dir, '../link'));
    const linked = await openLayout(join(dir, '../link'));
    assert.equal(linked.name, 'link:latest');
  });

  it('lists what refers to a manifest, whatever else is not there', async (t) => {
    const type = 'application/x-note';
    const note = makeBlob(image.manifest.mediaType, {
      schemaVersion: 2,
      mediaType: image.manifest.mediaType,
      artifactType: type,
      config: describe(image.config),
      layers: [],
      subject: describe(image.manifest),
    });
    const source = await openLayout(
      await makeLayout(
        t,
        [tagged(image.manifest, 'v1'), tagged(other.manifest), tagged(note)],
        [image],
        [note],
      ),
      { tag: 'v1' },
    );
    const listed = await source.referrers!.list(image.manifest.digest, type);
    assert.deepEqual(
      listed.map(({ digest }) => digest),
      [note.digest],
    );
  });

  it('refuses a manifest and a config that disagree about the layers', async (t) => {
    const value = JSON.parse(image.manifest.bytes.toString()) as { layers: object[] };
    const manifest = makeBlob(image.manifest.mediaType, { ...value, layers: value.layers.slice(1) });
    const source = await openLayout(await makeLayout(t, [tagged(manifest)], [image], [manifest]));
    await assert.rejects(
      source.resolve(AMD64),
      withCode('oci/invalid', /manifest has 1 layers, the config names 2/),
    );
  });
});

it('an index.json that is replaced between the look at it and the reading is read in full', async (t) => {
  const dir = await makeDir(t);
  const put = async (count: number): Promise<void> => {
    const manifests = Array.from({ length: count }, () => describe(image.manifest));
    await writeFile(join(dir, 'new'), JSON.stringify({ schemaVersion: 2, manifests }));
    await rename(join(dir, 'new'), join(dir, 'index.json'));
  };
  await writeFile(join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  await put(1);
  const files = await directoryFiles(dir);
  const later = [5, 1, 7, 2];
  const read = await readLayoutIndex(
    {
      ...files,
      async locate(path) {
        const range = await files.locate(path);
        const count = path === 'index.json' ? later.shift() : undefined;
        if (count !== undefined) await put(count);
        return range;
      },
    },
    dir,
  );
  assert.equal(read.index.manifests.length, 2);
});
