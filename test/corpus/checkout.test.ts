/** Real images checked out and updated are what the kernel shows of them. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CliLab } from '../e2e/run-veneer.ts';
import { CORPUS } from '../support/corpus-check.ts';
import { MountLab, whyNoKernel } from '../support/kernel-mount.ts';
import { Oracle } from '../support/oracle.ts';
import { missing } from '../support/require-tool.ts';
import { type Snapshot, snapshotDirectory } from '../support/tree-snapshot.ts';
import { assertSameSnapshot } from '../support/tree-snapshot-diff.ts';

const [old, now] = ['debian-v1', 'debian-v2'];

test(`${old} checked out, updated to ${now} and back`, async (t) => {
  const noKernel = whyNoKernel();
  if (noKernel !== null) return missing(t, noKernel);
  const lab = new CliLab(t);
  const oracle = new Oracle();
  const mounts = new MountLab(oracle);
  const run = async (...words: string[]): Promise<void> => {
    const ran = await lab.veneer(words);
    assert.equal(ran.code, 0, ran.stderr);
  };
  try {
    const shown = new Map<string, Snapshot>();
    for (const name of [old, now]) {
      const layout = join(CORPUS, 'oci', name);
      if (!existsSync(join(layout, 'index.json')))
        return missing(t, `the image is not there: scripts/corpus.sh ${name}`);
      await run('pull', `oci:${layout}`, '--name', name);
      const at = mounts.folder(name);
      await run('mount', name, at);
      try {
        shown.set(name, await snapshotDirectory(oracle, at));
      } finally {
        await run('umount', at);
      }
    }
    const rootfs = lab.path('rootfs');
    for (const words of [[old], ['--update', now], ['--update', old]]) {
      await run('checkout', ...words, rootfs);
      assertSameSnapshot(shown.get(words.at(-1)!)!, await snapshotDirectory(oracle, rootfs), words.join(' '));
    }
  } finally {
    await mounts.close();
    await oracle.close();
  }
});
