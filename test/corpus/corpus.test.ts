/** Every image of the corpus, every name and byte of it. */
import { test } from 'node:test';
import { checkCorpusImage } from '../support/corpus-check.ts';
import { checkCorpusDiff } from '../support/corpus-diff.ts';

const IMAGES = ['debian', 'layered', 'wordpressish', 'node-app', 'node-app-zstd', 'debian-v1', 'debian-v2'];

for (const name of IMAGES) test(`the image ${name}`, (t) => checkCorpusImage(t, name));

test('what changed from debian-v1 to debian-v2', (t) => checkCorpusDiff(t, 'debian-v1', 'debian-v2'));
