import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { buildImage, memorySource, temporaryDirectory } from '../../test/support/image-builder.ts';
import { archive, file } from '../../test/support/tar-builder.ts';
import { exportImage } from './export.ts';
import { pullImage } from './pull.ts';
import { Store } from './store.ts';

test('an archive names its image where docker takes the name, and nowhere else', async (t) => {
  const store = Store.open(join(temporaryDirectory(t), 'store'), { fsync: false });
  t.after(() => store.close());
  const image = buildImage([archive(file('a', 'a'))]);
  const tagsOf = async (name: string): Promise<unknown> => {
    const record = await pullImage(store, memorySource(image, { name }));
    const text = Buffer.concat([...exportImage(store, record)]).toString('latin1');
    const [entry] = JSON.parse(/\[\{"Config":.*?\}\]/.exec(text)![0]);
    assert.equal(entry.Config, `${image.config.digest.slice(7)}.json`);
    return entry.RepoTags;
  };
  for (const name of ['app:1', 'localhost:5000/some/app:v1.2']) assert.deepEqual(await tagsOf(name), [name]);
  for (const name of [
    'app',
    'localhost:5000/app',
    'App:1',
    `app@${image.manifest.digest}`,
    `app:1@${image.manifest.digest}`,
  ])
    assert.equal(await tagsOf(name), null, name);
});
