/** Sharing between layers on the command line: set, pulled, looked at, exported, swept and compacted. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { sha256 } from '../support/images.ts';
import { versionPair } from '../support/version-pair.ts';
import { CliLab, parseLines } from './run-veneer.ts';

test('config, pull, layers, images, export, gc --compact', async (t) => {
  const lab = new CliLab(t);
  const { before, after } = versionPair(2);
  assert.equal((await lab.veneer(['config'])).text, 'dedupe off\n');
  assert.equal((await lab.veneer(['config', 'dedupe', 'on'])).text, 'dedupe on\n');
  assert.equal((await lab.veneer(['config', 'dedupe', 'maybe'])).code, 2);
  assert.equal((await lab.veneer(['config', 'colour'])).code, 2);
  await lab.pull('old:1', [before]);
  await lab.pull('new:1', [after]);
  const [oldId, newId] = [before, after].map(sha256);
  const layers = parseLines((await lab.veneer(['layers', '--json'])).text);
  const fresh = layers.find(({ diffId }) => diffId === newId)!;
  assert.ok(
    (fresh.storedBytes as number) < after.length / 2,
    `${fresh.storedBytes} of ${after.length} bytes`,
  );
  assert.deepEqual(layers.find(({ diffId }) => diffId === oldId)!.sharedBy, [newId]);
  const image = parseLines((await lab.veneer(['images', '--json'])).text).find(
    ({ name }) => name === 'new:1',
  )!;
  assert.equal(image.tarBytes, after.length);
  assert.equal(image.storedBytes, fresh.storedBytes);

  const tar = join(lab.directory, 'layer.tar');
  const exported = await lab.veneer(['export', '-o', tar, newId!.slice(7, 19)]);
  assert.equal(exported.code, 0, exported.stderr);
  assert.ok(readFileSync(tar).equals(after));
  const again = await lab.veneer(['export', '-o', tar, newId!]);
  assert.match(again.stderr, /is there already/);
  assert.match((await lab.veneer(['export', '-o', 'x', 'nothing'])).stderr, /Cannot find image "nothing"/);

  assert.equal((await lab.veneer(['rm', 'old:1'])).code, 0);
  assert.match((await lab.veneer(['gc'])).text, /there for the data that others share: 1 layer/);
  assert.match((await lab.veneer(['layers'])).text, /shared by 1 layer\)/);
  const compacted = await lab.veneer(['gc', '--compact']);
  assert.match(compacted.text, /kept only what others need of 1 layer: /);
  for (const list of ['layers', 'images']) {
    const { stderr } = await lab.veneer([list]);
    assert.match(stderr, /^veneer: and .*B of 1 layer that gc --compact took apart$/m, list);
  }
  const left = parseLines((await lab.veneer(['layers', '--json'])).text).find(({ remnant }) => remnant)!;
  assert.ok((left.storedBytes as number) > 0);
  const compactImage = parseLines((await lab.veneer(['images', '--json'])).text)[0]!;
  assert.deepEqual([compactImage.name, compactImage.remnantBytes], ['new:1', left.storedBytes]);
  assert.deepEqual(readdirSync(join(lab.root, 'layers')), [newId!.slice(7)]);
  for (const words of [['verify'], ['fsck']])
    assert.equal((await lab.veneer(words)).code, 0, words.join(' '));

  const archive = join(lab.directory, 'new.tar');
  assert.equal((await lab.veneer(['export', '-o', archive, 'new:1'])).code, 0);
  const other = join(lab.directory, 'other');
  const pulled = await lab.veneer([
    'pull',
    '--root',
    other,
    `docker-archive:${archive}`,
    '--no-dedupe',
    '--json',
  ]);
  assert.equal(pulled.code, 0, pulled.stderr);
  const record = parseLines(pulled.text)[0]!;
  assert.deepEqual(record.config, image.config, 'the image ID is the same');
  assert.ok(existsSync(join(other, 'layers', newId!.slice(7), 'layer.tar')));
});
