import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildImage, memorySource, temporaryDirectory } from '../../test/support/image-builder.ts';
import { archive, file } from '../../test/support/tar-builder.ts';
import { listImages } from './images.ts';
import { pullImage } from './pull.ts';
import { Store } from './store.ts';

/** Small to send, and within the bounds of one layer; often enough in one image they are too much. */
const BOMBS: readonly { what: string; tar: () => Buffer; times: number; says: RegExp }[] = [
  {
    what: 'attributes',
    tar: () =>
      archive(
        ...Array.from({ length: 128 }, (_, i) =>
          file(`f${i}`, '', { xattrs: { 'user.note': `${i} `.padEnd(60_000, 'x') } }),
        ),
      ),
    times: 40,
    says: /the lowest 35 have more than 268435456 bytes of names, link targets and attributes together/,
  },
  {
    what: 'folders that nobody names',
    tar: () => archive(...Array.from({ length: 20 }, (_, i) => file(`${i}/${'d/'.repeat(2000)}f`))),
    times: 40,
    says: /the lowest 34 have more than 4000000 inodes, names and attributes together/,
  },
];

for (const { what, tar, times, says } of BOMBS) {
  test(`many layers with ${what} are not merged beyond what memory holds`, async (t) => {
    const store = Store.open(temporaryDirectory(t), { fsync: false });
    t.after(() => store.close());
    const layer = tar();
    const image = buildImage(Array<Buffer>(times).fill(layer));
    await assert.rejects(pullImage(store, memorySource(image)), { code: 'tree/limit', message: says });
    assert.deepEqual(listImages(store), [], 'what cannot be mounted gets no name');
    await pullImage(store, memorySource(buildImage([layer, layer]), { name: 'few' }));
  });
}
