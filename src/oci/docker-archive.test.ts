import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it, describe as suite, type TestContext } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import {
  describe,
  imageBlobs,
  layoutFiles,
  makeImage,
  sha256,
  type TestImage,
} from '../../test/support/images.ts';
import { AMD64, assertImage, readBlob, withCode } from '../../test/support/pull-source.ts';
import { archive, file, hardLink, symlink } from '../../test/support/tar-builder.ts';
import { VeneerError } from '../errors.ts';
import { openDockerArchive } from './docker-archive.ts';

/** By this process since it started, from wherever. */
function bytesRead(): number {
  return Number(/rchar: ([0-9]+)/.exec(readFileSync('/proc/self/io', 'latin1'))![1]);
}

async function write(t: TestContext, bytes: Buffer): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'veneer-archive-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const path = join(dir, 'saved.tar');
  await writeFile(path, bytes);
  return path;
}

const image = makeImage({
  kind: 'docker',
  compression: 'none',
  contents: [Buffer.alloc(2_000_000, 'x'), Buffer.from('b')],
});
const second = makeImage({ kind: 'docker', compression: 'none', contents: [Buffer.from('second')] });
const hexOf = (digest: string): string => digest.slice('sha256:'.length);

interface Entry {
  readonly image: TestImage;
  readonly tags: readonly string[] | null;
}

const configName = ({ config }: TestImage): string => `${hexOf(config.digest)}.json`;
const layerName = (digest: string): string => `${hexOf(digest)}/layer.tar`;

const manifestOf = (entries: readonly Entry[]): Buffer =>
  file(
    'manifest.json',
    JSON.stringify(
      entries.map(({ image, tags }) => ({
        Config: configName(image),
        RepoTags: tags,
        Layers: image.layers.map(({ digest }) => layerName(digest)),
      })),
    ),
  );

const filesOf = ({ config, layers }: TestImage): Buffer[] => [
  file(`${hexOf(config.digest)}.json`, config.bytes),
  ...layers.map(({ digest, bytes }) => file(layerName(digest), bytes)),
];

/** What docker wrote up to version 24. */
const oldArchive = (entries: readonly Entry[]): Buffer =>
  archive(...entries.flatMap(({ image }) => filesOf(image)), manifestOf(entries));

/** The source gives this image's config and layers; the manifest is made up. */
async function assertLayers(
  path: string,
  name: string | undefined,
  image: TestImage,
  expectedName: string,
): Promise<void> {
  const source = await openDockerArchive(path, name);
  assert.equal(source.name, expectedName);
  const found = await source.resolve(AMD64);
  assert.equal(found.manifestDigest, sha256(found.manifestBytes));
  assert.deepEqual(found.configBytes, image.config.bytes);
  assert.deepEqual(found.config.diffIds, image.diffIds);
  for (const [index, layer] of found.manifest.layers.entries()) {
    const bytes = await readBlob(source, layer);
    assert.equal(sha256(bytes), layer.digest);
    assert.deepEqual(bytes, image.layers[index]!.bytes);
    assert.deepEqual(await readBlob(source, layer, 1000), bytes.subarray(1000));
    assert.equal((await source.locateBlob(layer))?.length, layer.size);
  }
  await source.close();
}

suite('openDockerArchive', () => {
  it('reads what docker save wrote of old', async (t) => {
    const path = await write(t, oldArchive([{ image, tags: ['app:v1', 'me/app:v2'] }]));
    await assertLayers(path, undefined, image, 'docker.io/library/app:v1');
    await assertLayers(path, 'docker.io/me/app:v2', image, 'docker.io/me/app:v2');
    await assert.rejects(openDockerArchive(path, 'app:v3'), {
      code: 'oci/not-found',
      hint: /It has app:v1, me\/app:v2\./,
    });
    const untagged = await write(t, oldArchive([{ image, tags: null }]));
    await assertLayers(untagged, undefined, image, 'docker.io/library/saved:latest');
  });

  it('makes the same manifest every time', async (t) => {
    const path = await write(t, oldArchive([{ image, tags: null }]));
    const digests = [];
    for (let i = 0; i < 2; i++)
      digests.push((await (await openDockerArchive(path)).resolve(AMD64)).manifestDigest);
    assert.equal(digests[0], digests[1]);
  });

  it('chooses among several images', async (t) => {
    const path = await write(
      t,
      oldArchive([
        { image, tags: ['one'] },
        { image: second, tags: ['two:x'] },
      ]),
    );
    await assertLayers(path, 'one', image, 'docker.io/library/one:latest');
    await assertLayers(path, 'two:x', second, 'docker.io/library/two:x');
    await assert.rejects(openDockerArchive(path), withCode('oci/not-found', /2 images and none was named/));
  });

  it('follows links to layers, and none that leave or circle', async (t) => {
    const [first, next] = image.layers as [(typeof image.layers)[0], (typeof image.layers)[0]];
    const name = layerName(next.digest);
    const withLink = (...links: Buffer[]): Buffer =>
      archive(
        file(`${hexOf(image.config.digest)}.json`, image.config.bytes),
        file(layerName(first.digest), first.bytes),
        file('elsewhere/layer.tar', next.bytes),
        ...links,
        manifestOf([{ image, tags: ['x'] }]),
      );
    const good = [
      [symlink(name, '../elsewhere/layer.tar')],
      [symlink(name, './.././elsewhere//layer.tar')],
      [hardLink(name, 'elsewhere/layer.tar')],
      [symlink(name, '../hop'), symlink('hop', 'elsewhere/layer.tar')],
    ];
    for (const links of good)
      await assertLayers(await write(t, withLink(...links)), undefined, image, 'docker.io/library/x:latest');
    const bad: [Buffer[], string][] = [
      [[symlink(name, '../../../../etc/passwd')], 'oci/unsupported'],
      [[symlink(name, '../gone')], 'oci/not-found'],
      [[symlink(name, '../hop'), symlink('hop', name)], 'oci/invalid'],
      [[symlink(name, 'layer.tar')], 'oci/invalid'],
    ];
    for (const [links, code] of bad)
      await assert.rejects(openDockerArchive(await write(t, withLink(...links))), withCode(code));
  });

  it('takes the last of several members of one name, and names with ./', async (t) => {
    const path = await write(
      t,
      archive(
        file('./manifest.json', '[]'),
        ...filesOf(image).map((member) => member),
        file(layerName(image.layers[0]!.digest), 'wrong'),
        file(`./${layerName(image.layers[0]!.digest)}`, image.layers[0]!.bytes),
        manifestOf([{ image, tags: ['x'] }]),
      ),
    );
    await assertLayers(path, undefined, image, 'docker.io/library/x:latest');
  });

  it('reads layers that are compressed in place', async (t) => {
    const tars = image.layers.map(({ bytes }) => bytes);
    const packed = [gzipSync(tars[0]!), zstdCompressSync(tars[1]!)];
    const path = await write(
      t,
      archive(
        file(`${hexOf(image.config.digest)}.json`, image.config.bytes),
        ...packed.map((bytes, index) => file(layerName(image.layers[index]!.digest), bytes)),
        manifestOf([{ image, tags: ['x'] }]),
      ),
    );
    const source = await openDockerArchive(path);
    const { manifest } = await source.resolve(AMD64);
    assert.deepEqual(
      manifest.layers.map(({ compression }) => compression),
      ['gzip', 'zstd'],
    );
    for (const [index, layer] of manifest.layers.entries()) {
      assert.equal(layer.digest, sha256(packed[index]!));
      assert.deepEqual(await readBlob(source, layer), packed[index]);
    }
  });

  it('looks at a compressed layer once, however often it is named', async (t) => {
    const tar = archive(file('noise', randomBytes(100_000)));
    const times = 1000;
    const config = JSON.stringify({
      os: 'linux',
      architecture: 'amd64',
      rootfs: { type: 'layers', diff_ids: Array<string>(times).fill(sha256(tar)) },
    });
    const path = await write(
      t,
      archive(
        file('config', config),
        file('layer', gzipSync(tar)),
        file('manifest.json', JSON.stringify([{ Config: 'config', Layers: Array(times).fill('layer') }])),
      ),
    );
    const before = bytesRead();
    const { manifest } = await (await openDockerArchive(path)).resolve(AMD64);
    assert.equal(manifest.layers.length, times);
    assert.ok(bytesRead() - before < 100 * tar.length, `${bytesRead() - before} bytes were read`);
  });

  it('does not keep paths that nobody asks for', async (t) => {
    const long = `${'d/'.repeat(600)}layer.tar`;
    const members = [file(long, 'x'), symlink('link', long), file('config', image.config.bytes)];
    const manifest = file('manifest.json', JSON.stringify([{ Config: 'config', Layers: ['link', 'link'] }]));
    const path = await write(t, archive(...members, manifest));
    await assert.rejects(openDockerArchive(path), withCode('oci/unsupported', /its link is too long/));
  });

  it('reads an archive that is also an OCI layout, with its true manifest', async (t) => {
    const oci = makeImage({ compression: 'none', contents: [Buffer.from('1'), Buffer.from('2')] });
    const annotations = {
      'io.containerd.image.name': 'docker.io/library/app:v1',
      'org.opencontainers.image.ref.name': 'v1',
    };
    const index = { manifests: [{ ...describe(oci.manifest), annotations }] };
    const manifest = [
      {
        Config: `blobs/sha256/${hexOf(oci.config.digest)}`,
        RepoTags: ['app:v1'],
        Layers: oci.layers.map(({ digest }) => `blobs/sha256/${hexOf(digest)}`),
      },
    ];
    const layout = [...layoutFiles(index, imageBlobs(oci))].map(([path, bytes]) => file(path, bytes));
    const docker = file('manifest.json', JSON.stringify(manifest));
    const path = await write(t, archive(...layout, docker));
    for (const name of [undefined, 'app:v1', 'docker.io/library/app:v1', 'v1']) {
      const source = await openDockerArchive(path, name);
      assert.equal(source.name, 'docker.io/library/app:v1');
      await assertImage(source, oci);
    }
    await assert.rejects(openDockerArchive(path, 'other'), withCode('oci/not-found'));

    // Without the layout's marker it is docker's own form with the same blobs.
    const rest = [...layoutFiles(index, imageBlobs(oci))].filter(([path]) => path.startsWith('blobs/'));
    const plain = await write(t, archive(...rest.map(([path, bytes]) => file(path, bytes)), docker));
    await assertLayers(plain, undefined, oci, 'docker.io/library/app:v1');
  });

  it('refuses what is damaged', async (t) => {
    const config = file(`${hexOf(image.config.digest)}.json`, image.config.bytes);
    const manifest = (change: object): Buffer =>
      file(
        'manifest.json',
        JSON.stringify([
          {
            Config: configName(image),
            RepoTags: null,
            Layers: image.layers.map(({ digest }) => layerName(digest)),
            ...change,
          },
        ]),
      );
    const cases: [Buffer, string][] = [
      [Buffer.from(''), 'tar/truncated'],
      [archive(), 'oci/not-found'],
      [archive(file('x', 'y')), 'oci/not-found'],
      [archive(file('manifest.json', '{')), 'oci/invalid'],
      [archive(file('manifest.json', '[]')), 'oci/not-found'],
      [archive(file('manifest.json', Buffer.alloc((4 << 20) + 1))), 'oci/limit'],
      [archive(...filesOf(image), manifest({ Config: '/etc/passwd' })), 'oci/invalid'],
      [archive(...filesOf(image), manifest({ Config: 'gone.json' })), 'oci/not-found'],
      [archive(...filesOf(image), manifest({ Config: '../../x.json' })), 'oci/not-found'],
      [archive(...filesOf(image), manifest({ Layers: [] })), 'oci/invalid'],
      [archive(config, manifest({})), 'oci/not-found'],
      [archive(file(configName(image), second.config.bytes), manifest({})), 'oci/digest-mismatch'],
      [gzipSync(oldArchive([{ image, tags: null }])), 'oci/unsupported'],
      [zstdCompressSync(oldArchive([{ image, tags: null }])), 'oci/unsupported'],
    ];
    for (const [bytes, code] of cases) {
      const path = await write(t, bytes);
      await assert.rejects(openDockerArchive(path), (error) => {
        assert.ok(error instanceof VeneerError, String(error));
        if (code !== 'tar/truncated') assert.equal(error.code, code, error.message);
        return true;
      });
    }
    await assert.rejects(openDockerArchive('/nonexistent/x.tar'), withCode('oci/not-found'));
    await assert.rejects(openDockerArchive(tmpdir()), withCode('oci/invalid'));
  });

  it('throws nothing but VeneerErrors on mutated archives', async (t) => {
    const good = oldArchive([{ image: second, tags: ['x'] }]);
    const path = await write(t, good);
    const change = fc.tuple(fc.nat({ max: good.length - 1 }), fc.nat({ max: 255 }));
    await fc.assert(
      fc.asyncProperty(
        fc.array(change, { minLength: 1, maxLength: 4 }),
        fc.nat({ max: good.length }),
        async (changes, cut) => {
          const bytes = Buffer.from(good);
          for (const [at, value] of changes) bytes[at] = value;
          await writeFile(path, cut % 3 === 0 ? bytes.subarray(0, cut) : bytes);
          try {
            const source = await openDockerArchive(path);
            const { manifest } = await source.resolve(AMD64);
            for (const layer of manifest.layers) await readBlob(source, layer);
          } catch (error) {
            assert.ok(error instanceof VeneerError, String(error));
          }
        },
      ),
      { numRuns: 150 },
    );
  });
});
