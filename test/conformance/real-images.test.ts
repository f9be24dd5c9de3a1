/** Two real images; `npm run test:corpus` has all of them. */
import { test } from 'node:test';
import { checkCorpusImage } from '../support/corpus-check.ts';
import { checkCorpusDiff } from '../support/corpus-diff.ts';

for (const name of ['debian', 'layered']) test(`the image ${name}`, (t) => checkCorpusImage(t, name));

test('what changed from debian to layered', (t) => checkCorpusDiff(t, 'debian', 'layered'));
