/** Real images through UDF in guests: every layer by itself, and all of them under overlayfs with their sidecars. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { missing } from '../support/require-tool.ts';
import { type Snapshot, snapshotTree } from '../support/tree-snapshot.ts';
import { assertSameSnapshot } from '../support/tree-snapshot-diff.ts';
import { DEFAULT_WAYS, UdfChain } from '../support/udf-chain.ts';
import { heldTree } from '../support/udf-view.ts';
import { requireVm, type VmKernel } from '../support/vm.ts';
import { GuestLooks } from '../support/vm-looks.ts';

const KERNELS: readonly VmKernel[] = ['bookworm', 'sid'];
const IMAGES = ['debian', 'wordpressish'] as const;
const CORPUS = process.env.VENEER_CORPUS ?? fileURLToPath(new URL('../../.cache/corpus', import.meta.url));

let directory: string;
before(() => {
  directory = mkdtempSync(join(process.env.VENEER_TEST_TMP ?? tmpdir(), 'veneer-real-'));
});
after(() => rmSync(directory, { recursive: true, force: true }));

for (const kernel of KERNELS) {
  describe(`real images on ${kernel}`, () => {
    for (const name of IMAGES) {
      test(name, async (t) => {
        if (!requireVm(t, kernel)) return;
        const folder = join(CORPUS, 'tars', name);
        if (!existsSync(folder)) return missing(t, `${folder} is not there: scripts/corpus.sh ${name}`);
        const tars = readdirSync(folder)
          .filter((file) => file.endsWith('.tar'))
          .sort();
        const work = join(directory, `${kernel}-${name}`);
        mkdirSync(work);
        const chain = new UdfChain(
          work,
          tars.map((file) => join(folder, file)),
        );
        const guest = new GuestLooks(work, 'mount(2)');
        const checks: { look: number; expected: Snapshot; what: string }[] = [];
        const places: string[] = [];
        for (let layer = 0; layer < chain.length; layer++) {
          const volume = chain.alone(layer);
          const at = guest.mount('udf', volume.path, volume.options);
          places.push(at);
          const held = heldTree(chain.tree(layer), DEFAULT_WAYS);
          const expected = await snapshotTree(held, chain.reader(held));
          checks.push({ look: guest.look(at, 'all'), expected, what: `layer ${layer} by itself` });
        }
        const lowers = chain
          .layered()
          .flatMap(({ layer, volume }) => [
            ...(volume.whiteouts === null || layer === 0 ? [] : [guest.mount('erofs', volume.whiteouts)]),
            layer === 0 ? places[0]! : guest.mount('udf', volume.path, volume.options),
            ...(volume.attributes === null ? [] : [guest.mount('erofs', volume.attributes)]),
          ]);
        const merged = chain.merged();
        checks.push({
          look: guest.look(guest.overlay(lowers), 'all'),
          expected: await snapshotTree(merged, chain.reader(merged)),
          what: 'the image under overlayfs',
        });
        chain.close();
        const { output, snapshots } = await guest.boot(kernel, { timeout: 3000 });
        assert.equal(output, '', 'mounts fail');
        for (const { look, expected, what } of checks) {
          // overlayfs shows the link count of the lower inode, hidden names included
          const ignore = (_: string, field: string): boolean =>
            what.includes('overlayfs') && field === 'nlink';
          assertSameSnapshot(expected, snapshots[look]!, what, { ignore });
        }
        rmSync(work, { recursive: true, force: true });
      });
    }
  });
}
