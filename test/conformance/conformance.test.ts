/**
 * The conformance table: every tar through our writers, the kernel's mount, and the oracles.
 *
 * The tree that a case means is read back by the kernel from images of every kind and must be
 * the same everywhere; GNU tar's extraction, mkfs.erofs and umoci say independently what it is.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, before, describe, type TestContext, test } from 'node:test';
import { bufferSource, ErofsReader } from '../../src/erofs/index.ts';
import { VeneerError } from '../../src/errors.ts';
import { mergeLayers } from '../../src/tree/index.ts';
import { MountLab, whyNoKernel } from '../support/kernel-mount.ts';
import { type ContentMode, Oracle } from '../support/oracle.ts';
import { missing } from '../support/require-tool.ts';
import { layersOf, type TarCase, tarCases } from '../support/tar-cases.ts';
import { overlayView, type Snapshot, snapshotDirectory, snapshotTree } from '../support/tree-snapshot.ts';
import { assertSameSnapshot, type DiffOptions, diffSnapshots } from '../support/tree-snapshot-diff.ts';
import { CaseImages, type ImageFile, treeOfTar } from './case-images.ts';
import {
  type Difference,
  findDifference,
  layeredDifferences,
  mkfsDifferences,
  umociDifferences,
} from './differences.ts';
import {
  fsckErofs,
  mkfsImages,
  newerTool,
  OracleRefusal,
  unpackWithTar,
  unpackWithUmoci,
} from './oracles.ts';

const noKernel = whyNoKernel();
const mkfs = newerTool('mkfs.erofs');
const fsck = newerTool('fsck.erofs');
const umoci = newerTool('umoci');

let oracle: Oracle;
before(() => {
  oracle = new Oracle();
});
after(() => oracle.close());

/** Ways to choose a kind of image for each layer: all of one, and mixes. */
function mixesOf(layers: number): { name: string; selfContained: (i: number) => boolean }[] {
  const mixes = [
    { name: 'metadata images', selfContained: () => false },
    { name: 'self-contained images', selfContained: () => true },
  ];
  if (layers > 1) {
    mixes.push(
      { name: 'a mix, metadata first', selfContained: (i: number) => i % 2 === 1 },
      { name: 'a mix, self-contained first', selfContained: (i: number) => i % 2 === 0 },
    );
  }
  return mixes;
}

/** Fails unless the trees are the same, or differ where that is written down. */
function assertAsDeclared(
  expected: Snapshot,
  actual: Snapshot,
  what: string,
  difference: Difference | undefined,
  options: DiffOptions = {},
): void {
  if (difference === undefined) assertSameSnapshot(expected, actual, what, options);
  else {
    const lines = diffSnapshots(expected, actual, options);
    assert.notEqual(
      lines.length,
      0,
      `${what} does not differ any more; it was said to: ${difference.reason}`,
    );
  }
}

function assertRefused(tarCase: TarCase, code: string): void {
  assert.throws(
    () => mergeLayers(layersOf(tarCase).map(treeOfTar)),
    (error) => error instanceof VeneerError && error.code === code,
  );
}

class CaseRun {
  readonly lab: MountLab;
  readonly images: CaseImages;
  readonly content: ContentMode;
  readonly tarCase: TarCase;
  readonly layers: readonly Buffer[];
  /** The image's tree, straight from the tars. */
  expected: Snapshot = new Map();

  constructor(tarCase: TarCase) {
    this.tarCase = tarCase;
    this.layers = layersOf(tarCase);
    this.content = tarCase.huge ? 'sparse' : 'all';
    this.lab = new MountLab(oracle);
    this.images = new CaseImages(this.lab.folder('images'), this.layers);
  }

  async expect(): Promise<void> {
    const tree = mergeLayers(this.layers.map(treeOfTar));
    this.expected = await snapshotTree(tree, this.images.readerOf(tree), this.content);
  }

  async mounted(image: ImageFile): Promise<Snapshot> {
    return snapshotDirectory(oracle, await this.lab.mountErofs(image.path, image.devices), this.content);
  }

  get tars(): string[] {
    return this.images.layers.map(({ tar }) => tar);
  }

  async close(): Promise<void> {
    this.images.close();
    await this.lab.close();
  }
}

/** Per-layer images: what the kernel shows is the layer, whiteouts as overlayfs wants them. */
async function checkLayerImages(run: CaseRun): Promise<void> {
  for (const [i, { metadata, selfContained }] of run.images.layers.entries()) {
    const tree = treeOfTar(run.layers[i]!);
    const expected = overlayView(await snapshotTree(tree, run.images.readerOf(tree), run.content));
    for (const image of [metadata, selfContained]) {
      const shown = overlayView(await run.mounted(image));
      const options: DiffOptions = {
        // Facts that overlayfs has no form for travel as attributes of our own.
        ignore: (path, field) => field === 'xattrs' && /trusted\.veneer\./.test(shown.get(path)!.xattrs),
      };
      assertSameSnapshot(expected, shown, `layer ${i} as ${image.path}`, options);
    }
  }
}

async function checkMerged(run: CaseRun): Promise<ImageFile[]> {
  const made: ImageFile[] = [];
  for (const { name, selfContained } of mixesOf(run.layers.length)) {
    const image = run.images.merge('merged', (layer, i) =>
      selfContained(i) ? layer.selfContained : layer.metadata,
    );
    made.push(image);
    assertSameSnapshot(run.expected, await run.mounted(image), `merged from ${name}, mounted`);
    const tree = run.images.readBack(image);
    const read = await snapshotTree(tree, run.images.readerOf(tree), run.content);
    assertSameSnapshot(run.expected, read, `merged from ${name}, read by veneer`);
  }
  // The trees in memory and those read back from images are the same to the writer.
  const direct = run.images.write('direct', mergeLayers(run.layers.map(treeOfTar)));
  assert.equal(hashFile(direct.path), hashFile(made[0]!.path), 'merged from tars and from images');
  return made;
}

const hashFile = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');

async function checkLayered(run: CaseRun): Promise<ImageFile[]> {
  const images = run.images.layered();
  const lowers: string[] = [];
  for (const image of images) lowers.push(await run.lab.mountErofs(image.path, image.devices));
  const shown = await snapshotDirectory(oracle, await run.lab.mountOverlay(lowers), run.content);
  const options: DiffOptions = {
    // overlayfs shows the link count of the lower inode, hidden names included.
    ignore: (path, field) =>
      field === 'nlink' ||
      (field === 'xattrs' &&
        shown.get(path)!.xattrs.replace(/ ?trusted\.veneer\.\S+/, '') === run.expected.get(path)?.xattrs),
  };
  const difference = findDifference(layeredDifferences, run.tarCase.name);
  assertAsDeclared(run.expected, shown, 'overlayfs over layer images', difference, options);
  return images;
}

async function checkTar(run: CaseRun): Promise<void> {
  const { gnuTar } = run.tarCase;
  const { at, complaints } = await unpackWithTar(run.lab, run.tars);
  const unpacked = await snapshotDirectory(oracle, at, run.content);
  if (gnuTar === 'same') {
    assertSameSnapshot(unpacked, run.expected, 'GNU tar (expected) and veneer');
    assert.equal(complaints, '', 'GNU tar complains');
  } else if (complaints === '') {
    assertAsDeclared(unpacked, run.expected, 'GNU tar', { cases: /./, reason: gnuTar });
  }
}

async function checkMkfs(run: CaseRun, t: TestContext): Promise<void> {
  if (mkfs === null) return missing(t, 'mkfs.erofs 1.9 is not there: scripts/tools.sh erofs');
  const difference = findDifference(mkfsDifferences, run.tarCase.name);
  const directory = run.lab.folder('mkfs');
  for (const mode of ['i', 'f'] as const) {
    let images: Awaited<ReturnType<typeof mkfsImages>>;
    try {
      images = await mkfsImages(mkfs, directory, run.tars, mode);
    } catch (error) {
      if (difference !== undefined && error instanceof OracleRefusal) continue;
      throw error;
    }
    const shown = await run.mounted(images.merged);
    assertAsDeclared(shown, run.expected, `mkfs.erofs --tar=${mode} (expected) and veneer`, difference, {
      // Its rebuild mode loses the attributes of the root.
      ignore: (path, field) => path === '' && field !== 'name',
    });
    // Whatever it wrote, our reader must see in it what the kernel sees.
    for (const layer of images.layers) {
      const tree = new ErofsReader(bufferSource(readFileSync(layer.path))).readTree();
      const files = [layer.path, ...layer.devices];
      const read = await snapshotTree(
        tree,
        (source, from, length) => readFileSync(files[source]!).subarray(from, from + length),
        run.content,
      );
      assertSameSnapshot(
        overlayView(await run.mounted(layer)),
        overlayView(read),
        `mkfs.erofs --tar=${mode} mounted (expected) and read by veneer`,
      );
    }
  }
}

async function checkUmoci(run: CaseRun, t: TestContext): Promise<void> {
  if (umoci === null) return missing(t, 'umoci is not there: scripts/tools.sh umoci');
  const difference = findDifference(umociDifferences, run.tarCase.name);
  let at: string;
  try {
    at = await unpackWithUmoci(umoci, run.lab, run.tars);
  } catch (error) {
    if (difference !== undefined && error instanceof OracleRefusal) return;
    throw error;
  }
  const unpacked = await snapshotDirectory(oracle, at, run.content);
  assertAsDeclared(unpacked, run.expected, 'umoci (expected) and veneer', difference);
}

describe('conformance', { skip: noKernel !== null && !process.env.CI ? noKernel : false }, () => {
  for (const tarCase of tarCases) {
    if (tarCase.refused !== undefined) {
      test(`${tarCase.name} is refused`, () => assertRefused(tarCase, tarCase.refused!));
      continue;
    }
    test(tarCase.name, async (t) => {
      const run = new CaseRun(tarCase);
      try {
        await run.expect();
        let images: ImageFile[] = [];
        await t.test('GNU tar', () => checkTar(run));
        await t.test('one image a layer', () => checkLayerImages(run));
        await t.test('merged', async () => void (images = await checkMerged(run)));
        await t.test('overlayfs', async () => void images.push(...(await checkLayered(run))));
        await t.test('fsck.erofs', async (step) => {
          if (fsck === null) return missing(step, 'fsck.erofs 1.9 is not there: scripts/tools.sh erofs');
          for (const layer of run.images.layers) images.push(layer.metadata, layer.selfContained);
          await fsckErofs(fsck, images);
        });
        await t.test('mkfs.erofs', (step) => checkMkfs(run, step));
        await t.test('umoci', (step) => checkUmoci(run, step));
      } finally {
        await run.close();
      }
    });
  }
});
