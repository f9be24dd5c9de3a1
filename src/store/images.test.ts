import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  buildImage,
  memorySource,
  sampleTars,
  temporaryDirectory,
} from '../../test/support/image-builder.ts';
import { checkImageName, putImage, resolveImage } from './images.ts';
import { pullImage } from './pull.ts';
import { Store } from './store.ts';

async function storeWith(root: string, names: readonly string[]): Promise<Store> {
  const store = Store.open(root, { fsync: false });
  for (const [i, name] of names.entries()) {
    const image = buildImage([sampleTars()[0]!], { cmd: `command-${i}` });
    await pullImage(store, memorySource(image, { name }));
  }
  return store;
}

test('names are found in all the ways people write them', async (t) => {
  const store = await storeWith(temporaryDirectory(t), [
    'docker.io/library/debian:latest',
    'node-app:latest',
    'node-app:v2',
    'localhost:5000/team/tool:1.0',
  ]);
  t.after(() => store.close());
  const found = (reference: string): string => resolveImage(store, reference).name;
  assert.equal(found('node-app:latest'), 'node-app:latest');
  assert.equal(found('node-app'), 'node-app:latest');
  assert.equal(found('node-app:v2'), 'node-app:v2');
  assert.equal(found('debian'), 'docker.io/library/debian:latest');
  assert.equal(found('library/debian'), 'docker.io/library/debian:latest');
  assert.equal(found('localhost:5000/team/tool:1.0'), 'localhost:5000/team/tool:1.0');
  const { manifest, config } = resolveImage(store, 'node-app:v2');
  assert.equal(found(manifest.digest), 'node-app:v2');
  assert.equal(found(manifest.digest.slice(7)), 'node-app:v2');
  assert.equal(found(config.digest.slice(0, 30)), 'node-app:v2');
  assert.equal(found(config.digest.slice(7, 20)), 'node-app:v2');
});

test('what is not there is an error that helps', async (t) => {
  const root = temporaryDirectory(t);
  const empty = Store.open(`${root}/empty`);
  assert.throws(() => resolveImage(empty, 'debian'), { code: 'store/no-image', hint: /veneer pull/ });
  assert.equal(empty.exists(), false, 'asking makes nothing');

  const store = await storeWith(root, ['docker.io/library/debian:latest', 'node-app:latest']);
  t.after(() => store.close());
  assert.throws(() => resolveImage(store, 'debain'), {
    hint: /did you mean docker\.io\/library\/debian:latest\?/,
  });
  assert.throws(() => resolveImage(store, 'node-app:v9'), { hint: /node-app:latest/ });
  assert.throws(() => resolveImage(store, 'something-else'), { hint: /veneer images/ });
  assert.throws(() => resolveImage(store, ''), { code: 'store/no-image' });
});

test('a prefix that fits two images names both', async (t) => {
  const store = await storeWith(temporaryDirectory(t), ['one:latest']);
  t.after(() => store.close());
  const one = resolveImage(store, 'one');
  const named = async (name: string, digits: string): Promise<void> => {
    const digest = `sha256:${digits.padEnd(64, '0')}`;
    await putImage(store, { ...one, name, manifest: { ...one.manifest, digest } });
  };
  await named('two:latest', 'abcdef1');
  await named('three:latest', 'abcdef2');
  assert.throws(() => resolveImage(store, 'abcdef'), {
    code: 'store/ambiguous',
    message: /three:latest .*two:latest/,
  });
  assert.equal(resolveImage(store, 'abcdef1').name, 'two:latest');
  assert.throws(() => resolveImage(store, 'ab'), { code: 'store/no-image' }, 'too short to be a digest');
  await named('four:latest', 'abcdef1');
  assert.equal(resolveImage(store, 'sha256:abcdef1').manifest.digest, `sha256:${'abcdef1'.padEnd(64, '0')}`);
});

test('names that nobody could handle are refused', () => {
  for (const name of [
    '',
    'a b',
    'a\nb',
    'a\u001b[31m',
    'a'.repeat(2000),
    `sha256:${'0'.repeat(64)}`,
    '0'.repeat(64),
    '-app',
    '--json',
    '/srv/image',
    './image',
    '../image',
    'app:/etc',
    'host:5000/app:/',
  ]) {
    assert.throws(
      () => checkImageName(name),
      { code: 'store/bad-name', hint: /--name/ },
      JSON.stringify(name),
    );
  }
  for (const name of ['debian:latest', 'Größe:1', 'srv/image', '.image', 'app:', 'host:5000/app:1@sha256:x'])
    checkImageName(name);
});
