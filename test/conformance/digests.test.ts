/**
 * The same input gives the same bytes: digests of what we write for every case of the table.
 *
 * A change of digests.json is a change of format and belongs into the release notes. To write it anew:
 *   VENEER_UPDATE_DIGESTS=1 node --test test/conformance/digests.test.ts
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { layersOf, type TarCase, tarCases } from '../support/tar-cases.ts';
import { CaseImages } from './case-images.ts';

const FILE = new URL('./digests.json', import.meta.url);

/** SHA-256 over the bytes of all layers' files, one behind the other. */
interface CaseDigests {
  readonly input: string;
  readonly metadata: string;
  readonly selfContained: string;
  readonly merged: string;
}

function digestCase(tarCase: TarCase): CaseDigests {
  const hash = (buffers: readonly Buffer[]): string => {
    const sum = createHash('sha256');
    for (const buffer of buffers) sum.update(buffer);
    return sum.digest('hex');
  };
  const directory = mkdtempSync(join(tmpdir(), 'veneer-digests-'));
  try {
    const layers = layersOf(tarCase);
    const images = new CaseImages(directory, layers);
    const merged = images.merge('merged', (layer) => layer.metadata);
    images.close();
    return {
      input: hash(layers),
      metadata: hash(images.layers.map(({ metadata }) => readFileSync(metadata.path))),
      selfContained: hash(images.layers.map(({ selfContained }) => readFileSync(selfContained.path))),
      merged: hash([readFileSync(merged.path)]),
    };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

test('images of the conformance table have the pinned digests', () => {
  const accepted = tarCases.filter(({ refused }) => refused === undefined);
  const now = Object.fromEntries(accepted.map((tarCase) => [tarCase.name, digestCase(tarCase)]));
  if (process.env.VENEER_UPDATE_DIGESTS) {
    writeFileSync(FILE, `${JSON.stringify(now, null, 2)}\n`);
    return;
  }
  const pinned = JSON.parse(readFileSync(FILE, 'utf8')) as Record<string, CaseDigests>;
  const changed: string[] = [];
  for (const name of new Set([...Object.keys(pinned), ...Object.keys(now)])) {
    const was = pinned[name];
    const is = now[name];
    if (was === undefined || is === undefined) changed.push(`${name}: ${was ? 'is gone' : 'is new'}`);
    else if (was.input !== is.input) changed.push(`${name}: its input is another`);
    else {
      const kinds = (['metadata', 'selfContained', 'merged'] as const).filter(
        (kind) => was[kind] !== is[kind],
      );
      if (kinds.length > 0) changed.push(`${name}: other bytes (${kinds.join(', ')})`);
    }
  }
  assert.deepEqual(changed, []);
});
