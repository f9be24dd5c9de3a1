/** A real image through veneer and the kernel, compared with GNU tar's extraction of all its layers. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { fsckErofs, unpackWithTar } from '../conformance/oracles.ts';
import { MountLab, whyNoKernel } from './kernel-mount.ts';
import { Oracle } from './oracle.ts';
import { missing, newerTool } from './require-tool.ts';
import { StoredImage } from './stored-image.ts';
import { snapshotDirectory } from './tree-snapshot.ts';
import { assertSameSnapshot } from './tree-snapshot-diff.ts';

export const CORPUS =
  process.env.VENEER_CORPUS ?? fileURLToPath(new URL('../../.cache/corpus', import.meta.url));
/** Larger images are unpacked to disk. */
const IN_MEMORY = 256 << 20;

/**
 * Pulls image `name` of the corpus, mounts it merged and as layers, and compares every byte. With `beside`, its layers
 * share their data with those of that image.
 */
export async function checkCorpusImage(t: TestContext, name: string, beside?: string): Promise<void> {
  const layout = join(CORPUS, 'oci', name);
  const noKernel = whyNoKernel();
  if (noKernel !== null) return missing(t, noKernel);
  if (!existsSync(join(layout, 'index.json')))
    return missing(t, `the image is not there: scripts/corpus.sh ${name}`);
  // The zstd image has the layers of its gzip twin.
  const folder = join(CORPUS, 'tars', name.replace(/-zstd$/, ''));
  const tars = readdirSync(folder)
    .filter((file) => file.endsWith('.tar'))
    .sort()
    .map((file) => join(folder, file));
  const size = tars.reduce((sum, tar) => sum + statSync(tar).size, 0);

  const oracle = new Oracle();
  const lab = new MountLab(oracle);
  try {
    const where = size > IN_MEMORY ? lab.folder('unpacked') : await lab.mountMemory();
    const { at } = await unpackWithTar(lab, tars, where);
    const expected = await snapshotDirectory(oracle, at);
    t.diagnostic(`${expected.size} names`);
    const base = beside === undefined ? undefined : join(CORPUS, 'oci', beside);
    const stored = await StoredImage.pull(lab.folder('store'), layout, base);
    const target = lab.folder('target');
    for (const mode of ['merged', 'layers'] as const) {
      const shown = await stored.mounted(target, mode, () => snapshotDirectory(oracle, target));
      assertSameSnapshot(expected, shown, `GNU tar (expected) and veneer, ${mode}`, {
        ignore: (path, field) =>
          mode === 'layers' &&
          // overlayfs shows the link count of the lower inode, hidden names included.
          (field === 'nlink' ||
            // Facts that overlayfs has no form for travel as attributes of our own.
            (field === 'xattrs' && /^trusted\.veneer\./.test(shown.get(path)!.xattrs))),
      });
      const fsck = newerTool('fsck.erofs');
      if (fsck !== null) await fsckErofs(fsck, await stored.images(mode));
    }
    stored.close();
  } finally {
    await lab.close();
    await oracle.close();
  }
}
