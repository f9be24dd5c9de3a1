/**
 * The conformance table through UDF on kernels that have it: every layer by itself, and every chain under overlayfs
 * with its sidecars, entry by entry.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type FileTree, walkTree } from '../../src/tree/index.ts';
import { findDifference, layeredDifferences } from '../conformance/differences.ts';
import type { ContentMode } from '../support/oracle.ts';
import { layersOf, type TarCase, tarCases } from '../support/tar-cases.ts';
import { type Snapshot, snapshotTree } from '../support/tree-snapshot.ts';
import { assertSameSnapshot, diffSnapshots } from '../support/tree-snapshot-diff.ts';
import { DEFAULT_WAYS, UdfChain } from '../support/udf-chain.ts';
import { heldTree } from '../support/udf-view.ts';
import { requireVm, type VmKernel } from '../support/vm.ts';
import { GuestLooks } from '../support/vm-looks.ts';

const KERNELS: readonly VmKernel[] = ['bookworm', 'sid'];
interface Look {
  readonly number: number;
  readonly expected: Snapshot;
  readonly what: string;
}

interface PreparedCase {
  readonly tarCase: TarCase;
  readonly alone: readonly Look[];
  readonly overlay: Look | null;
}

let directory: string;
before(() => {
  directory = mkdtempSync(join(process.env.VENEER_TEST_TMP ?? tmpdir(), 'veneer-udf-'));
});
after(() => rmSync(directory, { recursive: true, force: true }));

const UNICODE = { names: 'unicode', whiteouts: 'sidecar' } as const;

/** Names in ASCII are the same bytes both ways. */
function waysFor(tree: FileTree): (typeof DEFAULT_WAYS)[] {
  let ascii = true;
  walkTree(tree, (path, { target }) => {
    ascii &&= /^[\0-\x7f]*$/.test(path + target);
  });
  return ascii ? [DEFAULT_WAYS] : [DEFAULT_WAYS, UNICODE];
}

/** Writes everything a case needs and notes what the guest shall mount and look at. */
async function prepare(tarCase: TarCase, i: number, guest: GuestLooks): Promise<PreparedCase> {
  const folder = join(directory, String(i));
  mkdirSync(folder, { recursive: true });
  const paths = layersOf(tarCase).map((tar, layer) => {
    const path = join(folder, `${layer}.tar`);
    writeFileSync(path, tar);
    return path;
  });
  const chain = new UdfChain(folder, paths);
  try {
    // UDF does not tell holes from data, so terabytes of them cannot be compared there
    const content: ContentMode = tarCase.huge ? 'none' : 'all';
    const alone: Look[] = [];
    let lowest = '';
    for (let layer = 0; layer < chain.length; layer++) {
      for (const ways of waysFor(chain.tree(layer))) {
        const volume = chain.alone(layer, ways);
        const at = guest.mount('udf', volume.path, volume.options);
        if (layer === 0 && ways === DEFAULT_WAYS) lowest = at;
        const held = heldTree(chain.tree(layer), ways);
        const expected = await snapshotTree(held, chain.reader(held), content);
        alone.push({
          number: guest.look(at, content),
          expected,
          what: `layer ${layer} by itself, names as ${ways.names}`,
        });
      }
    }
    const stack = chain.layered();
    // a lone volume that holds everything has nothing to gain from an overlay
    if (stack.length === 1 && stack[0]!.volume.attributes === null) return { tarCase, alone, overlay: null };
    const lowers: string[] = [];
    for (const { layer, volume } of stack) {
      if (volume.whiteouts !== null && layer > 0) lowers.push(guest.mount('erofs', volume.whiteouts));
      lowers.push(layer === 0 ? lowest : guest.mount('udf', volume.path, volume.options));
      if (volume.attributes !== null) lowers.push(guest.mount('erofs', volume.attributes));
    }
    const merged = chain.merged();
    const overlay = {
      number: guest.look(guest.overlay(lowers), content),
      expected: await snapshotTree(merged, chain.reader(merged), content),
      what: 'under overlayfs with sidecars',
    };
    return { tarCase, alone, overlay };
  } finally {
    chain.close();
  }
}

function checkOverlay({ tarCase, overlay }: PreparedCase, snapshots: readonly Snapshot[]): void {
  if (overlay === null) return;
  // overlayfs shows the link count of the lower inode, hidden names included
  const ignore = { ignore: (_: string, field: string) => field === 'nlink' };
  const shown = snapshots[overlay.number]!;
  const difference = findDifference(layeredDifferences, tarCase.name);
  if (difference === undefined) assertSameSnapshot(overlay.expected, shown, overlay.what, ignore);
  else assert.notEqual(diffSnapshots(overlay.expected, shown, ignore).length, 0, difference.reason);
}

for (const kernel of KERNELS) {
  describe(`UDF on ${kernel}`, () => {
    test('the conformance table', async (t) => {
      if (!requireVm(t, kernel)) return;
      const guest = new GuestLooks(directory, 'mount(2)');
      const cases: PreparedCase[] = [];
      for (const [i, tarCase] of tarCases.entries()) {
        if (tarCase.refused === undefined) cases.push(await prepare(tarCase, i, guest));
      }
      const { output, snapshots } = await guest.boot(kernel, { timeout: 1800 });
      assert.equal(output, '', 'mounts fail');
      for (const prepared of cases) {
        await t.test(prepared.tarCase.name, () => {
          for (const { number, expected, what } of prepared.alone) {
            assertSameSnapshot(expected, snapshots[number]!, what);
          }
          checkOverlay(prepared, snapshots);
        });
      }
    });
  });
}
