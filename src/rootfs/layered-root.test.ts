/** Layers laid on a directory one at a time, or each in its own under overlayfs, are what they are merged. */
import assert from 'node:assert/strict';
import { closeSync, mkdirSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import fc from 'fast-check';
import { MountLab, whyNoKernel } from '../../test/support/kernel-mount.ts';
import { Oracle } from '../../test/support/oracle.ts';
import { SOURCE_BYTES } from '../../test/support/random-tree.ts';
import { anyLayers, buildLayer, file as fileEntry, symlink } from '../../test/support/tree-cases.ts';
import { snapshotDirectory, snapshotTree } from '../../test/support/tree-snapshot.ts';
import { diffSnapshots } from '../../test/support/tree-snapshot-diff.ts';
import type { TarEntry } from '../tar/entry.ts';
import { LayerMerge, type LinkPolicy, mergeLayers } from '../tree/merge.ts';
import type { FileTree } from '../tree/node.ts';
import { resolveLayer } from '../tree/resolve.ts';
import { walkTree } from '../tree/walk.ts';
import { LayeredRoot } from './layered-root.ts';
import { asOverlayLayer } from './overlay-layer.ts';
import { readDirectoryTree } from './read-directory.ts';
import { writeTree } from './write-tree.ts';

const RUNS = Number(process.env.VENEER_PROPERTY_RUNS ?? 40);
const oracle = new Oracle();
const lab = new MountLab(oracle);
const data = join(lab.directory, 'data');
writeFileSync(data, SOURCE_BYTES);
const file = openSync(data, 'r');
after(async () => {
  closeSync(file);
  await lab.close();
  await oracle.close();
});
const skip = whyNoKernel() ?? false;
const readData = (_source: number, at: number, length: number): Buffer =>
  SOURCE_BYTES.subarray(at, at + length);

/** The layers' trees, with data that is there; null when they mean nothing together. */
function treesOf(layers: readonly (readonly TarEntry[])[], links: LinkPolicy = 'replace'): FileTree[] | null {
  try {
    const trees = layers.map((entries, number) => {
      const tree = buildLayer(entries, number);
      walkTree(tree, (_path, node) => {
        if (node.source < 0) return;
        node.at %= 30_000;
        node.size = 1 + (node.size % 3000);
      });
      return tree;
    });
    mergeLayers(structuredClone(trees), links);
    return trees;
  } catch (error) {
    if (error instanceof RangeError || error instanceof TypeError) throw error;
    return null;
  }
}

describe('layers', { skip }, () => {
  for (const links of ['replace', 'follow', 'keep'] as const) {
    it(`one over the other: at each of them the merged tree (${links})`, async () => {
      const memory = await lab.mountMemory();
      let count = 0;
      await fc.assert(
        fc.asyncProperty(anyLayers, fc.nat(3), async (layers, known) => {
          const trees = treesOf(layers, links);
          fc.pre(trees !== null);
          const path = join(memory, String(count++));
          mkdirSync(path);
          const merge = new LayerMerge(links);
          let root = new LayeredRoot(path, null, links, { owners: true });
          for (const [index, tree] of trees.entries()) {
            merge.add(structuredClone(tree));
            if (index === known && index > 0) {
              // From here on by somebody who knows only what is on the disk.
              const found = await readDirectoryTree(path);
              found.data.close();
              root = new LayeredRoot(path, found.tree, links, { owners: true });
            }
            await root.add({ tree, file });
            const expected = await snapshotTree(merge.tree(), readData);
            assert.deepEqual(diffSnapshots(expected, await snapshotDirectory(oracle, path)), []);
          }
        }),
        // A symlink that leads to itself, and a directory in its place.
        { numRuns: RUNS, examples: [[[[symlink('d', 'd/a')], [fileEntry('d/a')]], 0]] },
      );
    });
  }

  it('each in its own directory: overlayfs shows the merged tree', async () => {
    const memory = await lab.mountMemory();
    let count = 0;
    await fc.assert(
      fc.asyncProperty(anyLayers, async (layers) => {
        const trees = treesOf(layers);
        fc.pre(trees !== null);
        const place = join(memory, String(count++));
        const below = new LayerMerge();
        const paths: string[] = [];
        for (const [index, tree] of trees.entries()) {
          const path = join(place, String(index));
          mkdirSync(path, { recursive: true });
          const resolved = resolveLayer(below.tree(), structuredClone(tree));
          below.add(structuredClone(tree));
          const sources = resolved.sources.map(() => file);
          asOverlayLayer(resolved.root);
          await writeTree(path, resolved, sources, { owners: true });
          paths.push(path);
        }
        // An opaque root hides all below it, which overlayfs does not look for.
        const lowest = Math.max(
          0,
          trees.findLastIndex(({ root }) => root.opaque),
        );
        const merged = await lab.mountOverlay(paths.slice(lowest));
        const expected = await snapshotTree(below.tree(), readData);
        const seen = await snapshotDirectory(oracle, merged);
        // A name that an upper layer hides still counts as a link there.
        const ignore = (_path: string, field: string): boolean => field === 'nlink';
        assert.deepEqual(diffSnapshots(expected, seen, { ignore }), []);
      }),
      { numRuns: RUNS / 2 },
    );
  });
});
