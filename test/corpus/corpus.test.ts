/** Every image of the corpus, every name and byte of it. */
import { test } from 'node:test';
import { checkCorpusImage } from '../support/corpus-check.ts';
import { checkCorpusDiff } from '../support/corpus-diff.ts';
import { checkCorpusUnpack } from '../support/corpus-unpack.ts';

const IMAGES = ['debian', 'layered', 'wordpressish', 'node-app', 'node-app-zstd', 'debian-v1', 'debian-v2'];

for (const name of IMAGES) test(`the image ${name}`, (t) => checkCorpusImage(t, name));

test('debian-v2 beside debian-v1, deduped', (t) => checkCorpusImage(t, 'debian-v2', 'debian-v1'));
test('node-app beside debian, deduped', (t) => checkCorpusImage(t, 'node-app', 'debian'));

test('what changed from debian-v1 to debian-v2', (t) => checkCorpusDiff(t, 'debian-v1', 'debian-v2'));

for (const name of IMAGES) test(`${name} unpacked beside umoci`, (t) => checkCorpusUnpack(t, name));
