/** What `docker save` writes, of old and now, pulled into a store. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { it, describe as suite, type TestContext } from 'node:test';
import type { Finding } from '../../src/errors.ts';
import { openDockerArchive } from '../../src/oci/docker-archive.ts';
import { type ImageRecord, pullImage, resolveImage, Store, verify } from '../../src/store/index.ts';
import { type SavedImage, savedByDocker, savedByOldDocker } from '../support/docker-save.ts';
import { buildImage, sampleTars, temporaryDirectory } from '../support/image-builder.ts';
import type { TestImage } from '../support/images.ts';
import { withCode } from '../support/pull-source.ts';

const [base, change, addition] = sampleTars();
const imageOf = (...tars: (Buffer | undefined)[]): TestImage =>
  buildImage(tars.map((tar) => ({ tar: tar!, compression: 'none' })));

/** `below` is of layers that are, under other ids, in `app` too; `twice` has one layer two times. */
const app = imageOf(base, change);
const below = imageOf(base);
const other = imageOf(addition, base);
const twice = imageOf(base, addition, base);

const FORMS = { 'docker up to 24': savedByOldDocker, 'docker since 25': savedByDocker } as const;

interface Lab {
  write(bytes: Buffer): string;
  /** Pulls, and compares with the image. */
  pull(
    path: string,
    image: TestImage,
    choice?: string,
  ): Promise<{ record: ImageRecord; findings: Finding[] }>;
  readonly store: Store;
}

function makeLab(t: TestContext): Lab {
  const place = temporaryDirectory(t);
  const store = Store.open(join(place, 'store'), { fsync: false });
  t.after(() => store.close());
  return {
    store,
    write(bytes) {
      const path = join(place, 'saved.tar');
      writeFileSync(path, bytes);
      return path;
    },
    async pull(path, image, choice) {
      const source = await openDockerArchive(path, choice);
      try {
        const findings: Finding[] = [];
        const record = await pullImage(store, source, { onFinding: (finding) => findings.push(finding) });
        assert.equal(record.config.digest, image.config.digest);
        assert.deepEqual(
          record.layers.map(({ diffId }) => diffId),
          image.diffIds,
        );
        assert.deepEqual(resolveImage(store, source.name), record);
        assert.deepEqual((await verify(store)).problems, []);
        return { record, findings };
      } finally {
        await source.close();
      }
    },
  };
}

for (const [form, save] of Object.entries(FORMS)) {
  suite(form, () => {
    it('one image', async (t) => {
      const { write, pull } = makeLab(t);
      const { record, findings } = await pull(write(save([{ image: app, tags: ['app:1'] }])), app);
      assert.equal(record.name, 'docker.io/library/app:1');
      assert.deepEqual(findings, []);
    });

    it('one image without a name, and one with several', async (t) => {
      const { write, pull } = makeLab(t);
      const untagged = await pull(write(save([{ image: app, tags: [] }])), app);
      assert.match(untagged.record.name, /saved:latest$/);
      const path = write(save([{ image: app, tags: ['app:1', 'app:latest', 'tool:3'] }]));
      assert.equal((await pull(path, app)).record.name, 'docker.io/library/app:1');
      assert.equal((await pull(path, app, 'tool:3')).record.name, 'docker.io/library/tool:3');
    });

    it('several images that share layers', async (t) => {
      const { write, pull, store } = makeLab(t);
      const images: SavedImage[] = [
        { image: app, tags: ['app:latest'] },
        { image: below, tags: ['below:latest', 'below:1'] },
        { image: other, tags: ['other:1'] },
        { image: twice, tags: ['twice:1'] },
      ];
      const path = write(save(images));
      for (const { image, tags } of images) await pull(path, image, tags.at(-1)!);
      assert.equal((await pull(path, below, 'docker.io/library/below:1')).record.layers.length, 1);
      await assert.rejects(
        openDockerArchive(path),
        { code: 'oci/not-found', hint: /app:latest.*other:1/ },
        'two are tagged latest: neither is meant',
      );
      await assert.rejects(openDockerArchive(path, 'gone:1'), withCode('oci/not-found'));
      assert.equal(store.exists(), true);
    });
  });
}

suite('docker 25.0', () => {
  it('layers in another order than the config are put in order', async (t) => {
    const { write, pull } = makeLab(t);
    for (const image of [app, twice]) {
      const layers = (all: TestImage['layers']): TestImage['layers'] => [
        ...new Map(all.toReversed().map((layer) => [layer.digest, layer])).values(),
      ];
      const { findings } = await pull(write(savedByDocker([{ image, tags: ['app:1'] }], { layers })), image);
      assert.deepEqual(
        findings.map(({ code }) => code),
        ['oci/layer-order'],
      );
    }
  });

  it('an image that index.json does not have is found in manifest.json', async (t) => {
    const { write, pull } = makeLab(t);
    const path = write(savedByDocker([{ image: app, tags: [] }], { indexWithoutUntagged: true }));
    assert.match((await pull(path, app)).record.name, /saved:latest$/);
  });
});
