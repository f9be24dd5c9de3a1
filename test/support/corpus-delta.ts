/** Deltas between real layers: every tar comes back bit by bit. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { DELTA_LEVELS, type LevelName } from '../../src/delta/level.ts';
import { rebuildTar } from '../../src/delta/rebuild.ts';
import { createLayerDelta } from '../../src/delta-image/create-layer.ts';
import { hashFile } from '../../src/store/hash-file.ts';
import { openTarFile, type TarFile } from '../../src/store/layer-tar.ts';
import { CORPUS } from './corpus-check.ts';
import { temporaryDirectory } from './image-builder.ts';
import { missing } from './require-tool.ts';

/** The layers of a corpus image, bottom first; skips the test when it is not there. */
export async function corpusTars(t: TestContext, name: string): Promise<TarFile[] | null> {
  const folder = join(CORPUS, 'tars', name);
  if (!existsSync(folder)) {
    missing(t, `the image is not there: scripts/corpus.sh ${name}`);
    return null;
  }
  const files = readdirSync(folder).filter((file) => file.endsWith('.tar'));
  const tars: TarFile[] = [];
  for (const file of files.sort()) {
    const path = join(folder, file);
    tars.push({ diffId: await hashFile(path), path, size: statSync(path).size });
  }
  return tars;
}

/** Makes a delta from `sources` to `target`, rebuilds, and compares digests; returns its size. */
export async function checkDelta(
  t: TestContext,
  sources: readonly TarFile[],
  target: TarFile,
  level: LevelName,
): Promise<number> {
  const folder = temporaryDirectory(t);
  const path = join(folder, 'delta');
  const size = await createLayerDelta(target, sources, path, { level: DELTA_LEVELS[level] });
  assert.deepEqual(readdirSync(folder), ['delta']);
  const open = [{ diffId: '', path, size }, ...sources].map(openTarFile);
  const [delta, ...tars] = open;
  try {
    const hash = createHash('sha256');
    const bytes = rebuildTar(delta!.source, (digest) => {
      return tars[sources.findIndex(({ diffId }) => diffId === digest)]!.source;
    });
    for (const piece of bytes) hash.update(piece);
    assert.equal(`sha256:${hash.digest('hex')}`, target.diffId);
  } finally {
    for (const tar of open) tar.close();
    rmSync(path);
  }
  return size;
}
