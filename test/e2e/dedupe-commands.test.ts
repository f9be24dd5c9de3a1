/** What reads layers gives the same for deduped ones: listing, reading, comparing, checkouts, UDF, disks. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { MountLab, whyNoKernel } from '../support/kernel-mount.ts';
import { Oracle } from '../support/oracle.ts';
import { missing } from '../support/require-tool.ts';
import { snapshotDirectory } from '../support/tree-snapshot.ts';
import { assertSameSnapshot } from '../support/tree-snapshot-diff.ts';
import { versionPair } from '../support/version-pair.ts';
import { CliLab, type Ran } from './run-veneer.ts';

interface Stores {
  readonly full: CliLab;
  readonly shared: CliLab;
}

/** Two stores with the images old:1 and new:1; in one of them new:1 has nothing of its own that old:1 has. */
async function makeStores(t: { after(work: () => void): void }): Promise<Stores> {
  const { before, after } = versionPair(5);
  const [full, shared] = [new CliLab(t), new CliLab(t)];
  await shared.veneer(['config', 'dedupe', 'on']);
  for (const lab of [full, shared]) {
    await lab.pull('old:1', [before]);
    await lab.pull('new:1', [after]);
  }
  return { full, shared };
}

async function run(lab: CliLab, ...words: string[]): Promise<Ran> {
  const ran = await lab.veneer(words);
  assert.equal(ran.code, 0, `${words.join(' ')}: ${ran.stderr}`);
  return ran;
}

test('ls, cat and diff say the same', async (t) => {
  const { full, shared } = await makeStores(t);
  for (const words of [
    ['ls', '-lR', 'new:1'],
    ['cat', 'new:1:/lib/large', 'new:1:/moved/binary', 'new:1:/zeros', 'new:1:/sparse'],
    ['diff', 'old:1', 'new:1'],
    ['diff', '--stat', 'old:1', 'new:1'],
  ]) {
    const [expected, found] = [await run(full, ...words), await run(shared, ...words)];
    assert.ok(found.stdout.equals(expected.stdout), words.join(' '));
  }
});

test('checkouts, disks and UDF mounts show the same', async (t) => {
  const noKernel = whyNoKernel();
  if (noKernel !== null) return missing(t, noKernel);
  const udfThere = /\budf$/m.test(readFileSync('/proc/filesystems', 'utf8'));
  if (!udfThere) t.diagnostic('this kernel has no UDF: test/vm looks at that');
  const { full, shared } = await makeStores(t);
  const oracle = new Oracle();
  const mounts = new MountLab(oracle);
  try {
    const views = [];
    for (const lab of [full, shared]) {
      const target = lab.path('target');
      mkdirSync(target);
      await run(lab, 'checkout', 'new:1', lab.path('out'));
      const out = await snapshotDirectory(oracle, lab.path('out'));
      await run(lab, 'disk', 'new:1', '-o', lab.path('new.raw'));
      const disk = await snapshotDirectory(oracle, await mounts.mountErofs(lab.path('new.raw')));
      await mounts.release();
      await run(lab, 'verify', lab.path('new.raw'));
      if (!udfThere) {
        views.push({ out, disk, udf: disk });
        continue;
      }
      await run(lab, 'mount', '--format', 'udf', 'new:1', target);
      views.push({ out, disk, udf: await snapshotDirectory(oracle, target) });
      await run(lab, 'umount', target);
    }
    const [expected, found] = views;
    for (const what of ['out', 'disk', 'udf'] as const)
      assertSameSnapshot(expected![what], found![what], `full (expected) and deduped, ${what}`);
  } finally {
    await mounts.close();
    await oracle.close();
  }
});
