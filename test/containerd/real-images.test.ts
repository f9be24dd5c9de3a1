/** Real images through containerd: what our snapshotter shows is what its overlayfs snapshotter shows. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chainIds } from '../../src/oci/digest.ts';
import { CONTAINERD_VERSIONS, openContainerdLab } from '../support/containerd-lab.ts';
import { Oracle } from '../support/oracle.ts';
import { missing } from '../support/require-tool.ts';
import { snapshotDirectory } from '../support/tree-snapshot.ts';
import { assertSameSnapshot } from '../support/tree-snapshot-diff.ts';

const CORPUS = process.env.VENEER_CORPUS ?? fileURLToPath(new URL('../../.cache/corpus', import.meta.url));

for (const version of CONTAINERD_VERSIONS) {
  for (const name of ['debian', 'layered']) {
    test(`containerd ${version}: ${name}, file by file`, async (t) => {
      const layout = join(CORPUS, 'oci', name);
      if (!existsSync(layout)) return missing(t, `scripts/corpus.sh ${name} was not run`);
      const lab = await openContainerdLab(t, version);
      if (lab === null) return;
      const json = (path: string) => JSON.parse(readFileSync(join(layout, path), 'utf8'));
      const blob = (digest: string) => json(join('blobs', digest.replace(':', '/')));
      const manifest = blob(json('index.json').manifests[0].digest);
      const top = chainIds(blob(manifest.config.digest).rootfs.diff_ids).at(-1)!;
      const oracle = new Oracle();
      try {
        await lab.importLayout(layout, '--snapshotter', 'veneer');
        const ours = await lab.viewed('veneer', top, (at) => snapshotDirectory(oracle, at));
        await lab.importLayout(layout, '--local', '--snapshotter', 'overlayfs');
        const theirs = await lab.viewed('overlayfs', top, (at) => snapshotDirectory(oracle, at));
        assert.ok(ours.size > 1000);
        // Its root is a directory of its own, made when the layer was unpacked.
        assertSameSnapshot(theirs, ours, 'overlayfs (expected) and veneer', {
          ignore: (path) => path === '',
        });
      } finally {
        await oracle.close();
      }
    });
  }
}
