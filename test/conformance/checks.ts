/** What is checked of one case. Each check stands alone and throws with both sides named. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { TestContext } from 'node:test';
import { bufferSource, ErofsReader } from '../../src/erofs/index.ts';
import { mergeLayers } from '../../src/tree/index.ts';
import { MountLab } from '../support/kernel-mount.ts';
import type { ContentMode, Oracle } from '../support/oracle.ts';
import { missing, newerTool } from '../support/require-tool.ts';
import { StoredImage } from '../support/stored-image.ts';
import { layersOf, type TarCase } from '../support/tar-cases.ts';
import { overlayView, type Snapshot, snapshotDirectory, snapshotTree } from '../support/tree-snapshot.ts';
import { assertSameSnapshot, type DiffOptions, diffSnapshots } from '../support/tree-snapshot-diff.ts';
import { CaseImages, type ImageFile, type LayerFiles, treeOfTar } from './case-images.ts';
import {
  type Difference,
  findDifference,
  layeredDifferences,
  mkfsDifferences,
  umociDifferences,
  umociNotAsked,
} from './differences.ts';
import {
  findUnnamed,
  fsckErofs,
  mkfsImages,
  OracleRefusal,
  type Unnamed,
  unpackWithTar,
  unpackWithUmoci,
  writeLayout,
} from './oracles.ts';

const hashFile = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');

/** Fails unless the trees are the same, or differ where that is written down. */
function assertAsDeclared(
  expected: Snapshot,
  actual: Snapshot,
  what: string,
  difference: Difference | undefined,
  options: DiffOptions = {},
): void {
  if (difference === undefined) {
    assertSameSnapshot(expected, actual, what, options);
    return;
  }
  const lines = diffSnapshots(expected, actual, options);
  assert.notEqual(lines.length, 0, `${what} do not differ any more; they were said to: ${difference.reason}`);
}

/** Ways to choose a kind of image for each layer: all of one, and mixes. */
const MIXES: ReadonlyArray<readonly [string, (layer: LayerFiles, i: number) => ImageFile]> = [
  ['metadata images', (layer) => layer.metadata],
  ['self-contained images', (layer) => layer.selfContained],
  ['a mix, metadata first', (layer, i) => (i % 2 === 0 ? layer.metadata : layer.selfContained)],
  ['a mix, self-contained first', (layer, i) => (i % 2 === 1 ? layer.metadata : layer.selfContained)],
];

export class CaseRun {
  private readonly oracle: Oracle;
  private readonly lab: MountLab;
  private readonly images: CaseImages;
  private readonly content: ContentMode;
  private readonly tarCase: TarCase;
  private readonly layers: readonly Buffer[];
  private readonly unnamed: Unnamed;
  private readonly written: ImageFile[] = [];
  /** The image's tree, straight from the tars. */
  private expected: Snapshot = new Map();
  /** The case as an image in a store, once a check has pulled it. */
  private stored: StoredImage | undefined;

  private constructor(oracle: Oracle, tarCase: TarCase) {
    this.oracle = oracle;
    this.tarCase = tarCase;
    this.layers = layersOf(tarCase);
    this.content = tarCase.huge ? 'sparse' : 'all';
    this.unnamed = findUnnamed(this.layers.map(treeOfTar));
    this.lab = new MountLab(oracle);
    this.images = new CaseImages(this.lab.folder('images'), this.layers);
    for (const { metadata, selfContained } of this.images.layers) this.written.push(metadata, selfContained);
  }

  /** Makes the expected tree and the image of every layer. */
  static async start(oracle: Oracle, tarCase: TarCase): Promise<CaseRun> {
    const run = new CaseRun(oracle, tarCase);
    const tree = mergeLayers(run.layers.map(treeOfTar));
    run.expected = await snapshotTree(tree, run.images.readerOf(tree), run.content);
    return run;
  }

  async close(): Promise<void> {
    this.stored?.close();
    this.images.close();
    await this.lab.close();
  }

  private snapshot(directory: string): Promise<Snapshot> {
    return snapshotDirectory(this.oracle, directory, this.content);
  }

  private async mounted(image: ImageFile): Promise<Snapshot> {
    return this.snapshot(await this.lab.mountErofs(image.path, image.devices));
  }

  private get tars(): string[] {
    return this.images.layers.map(({ tar }) => tar);
  }

  /** GNU tar's extraction, whiteouts applied by the oracle process, is the tree. */
  async checkTar(): Promise<void> {
    const { gnuTar } = this.tarCase;
    const { at, complaints } = await unpackWithTar(this.lab, this.tars);
    const unpacked = await this.snapshot(at);
    const said = complaints === '' ? '' : `, it says: ${complaints}`;
    if (gnuTar === 'same')
      assertSameSnapshot(unpacked, this.expected, `GNU tar (expected) and veneer${said}`);
    else if (complaints === '')
      assertAsDeclared(unpacked, this.expected, 'GNU tar and veneer', { cases: /./, reason: gnuTar });
  }

  /** What the kernel shows of a layer's images is the layer, whiteouts as overlayfs wants them. */
  async checkLayerImages(): Promise<void> {
    for (const [i, { metadata, selfContained }] of this.images.layers.entries()) {
      const tree = treeOfTar(this.layers[i]!);
      const expected = overlayView(await snapshotTree(tree, this.images.readerOf(tree), this.content));
      for (const image of [metadata, selfContained]) {
        const shown = overlayView(await this.mounted(image));
        const options: DiffOptions = {
          // Facts that overlayfs has no form for travel as attributes of our own.
          ignore: (path, field) => field === 'xattrs' && /trusted\.veneer\./.test(shown.get(path)!.xattrs),
        };
        assertSameSnapshot(expected, shown, `layer ${i} (expected) and ${image.path} mounted`, options);
      }
    }
  }

  /** Images merged over any mix of layer images are the tree, to the kernel and to our reader. */
  async checkMerged(): Promise<void> {
    let first: ImageFile | undefined;
    for (const [name, choose] of MIXES.slice(0, this.layers.length > 1 ? 4 : 2)) {
      const image = this.images.merge('merged', choose);
      first ??= image;
      this.written.push(image);
      assertSameSnapshot(this.expected, await this.mounted(image), `merged from ${name}, mounted`);
      const tree = this.images.readBack(image);
      const read = await snapshotTree(tree, this.images.readerOf(tree), this.content);
      assertSameSnapshot(this.expected, read, `merged from ${name}, read by veneer`);
    }
    // To the writer, trees from tars and trees read back are the same, unless a layer's image holds copied data.
    if (this.images.layers.some(({ metadata }) => this.images.holdsData(metadata))) return;
    const direct = this.images.write('direct', mergeLayers(this.layers.map(treeOfTar)));
    assert.equal(hashFile(direct.path), hashFile(first!.path), 'merged from tars and from their images');
  }

  /** Pulled into a store and mounted by veneer, merged or as layers. */
  async checkStore(mode: 'merged' | 'layers'): Promise<void> {
    this.stored ??= await this.pull();
    const target = this.lab.folder('target');
    const shown = await this.stored.mounted(target, mode, () => this.snapshot(target));
    if (mode === 'merged') {
      assertSameSnapshot(this.expected, shown, 'pulled and mounted');
      return;
    }
    const options: DiffOptions = {
      ignore: (path, field) =>
        // overlayfs shows the link count of the lower inode, hidden names included.
        field === 'nlink' ||
        // Facts that overlayfs has no form for travel as attributes of our own.
        (field === 'xattrs' && withoutFacts(shown.get(path)!.xattrs) === this.expected.get(path)!.xattrs),
    };
    const difference = findDifference(layeredDifferences, this.tarCase.name);
    assertAsDeclared(this.expected, shown, 'pulled and mounted as layers', difference, options);
  }

  private async pull(): Promise<StoredImage> {
    const layout = this.lab.folder('layout');
    writeLayout(layout, this.tars);
    return StoredImage.pull(this.lab.folder('store'), layout);
  }

  /** fsck.erofs accepts all that was written. */
  async checkFsck(t: TestContext): Promise<void> {
    const fsck = newerTool('fsck.erofs');
    if (fsck === null) {
      missing(t, 'fsck.erofs 1.9 is not there: scripts/tools.sh');
      return;
    }
    await fsckErofs(fsck, this.written);
  }

  /** mkfs.erofs makes the same tree of the tars, and our reader sees in its images what the kernel sees. */
  async checkMkfs(t: TestContext): Promise<void> {
    const mkfs = newerTool('mkfs.erofs');
    if (mkfs === null) {
      missing(t, 'mkfs.erofs 1.9 is not there: scripts/tools.sh');
      return;
    }
    const difference = findDifference(mkfsDifferences, this.tarCase.name);
    const directory = this.lab.folder('mkfs');
    // Its merge loses the attributes of the root, and takes those of a directory from layers that do not name it.
    const { somewhere } = this.unnamed;
    const options: DiffOptions = {
      ignore: (path, field) => (path === '' || somewhere.has(path)) && field !== 'name' && field !== 'type',
    };
    /** What each mode shows; null for one that refuses the case. */
    const trees: (Snapshot | null)[] = [];
    for (const mode of ['i', 'f'] as const) {
      try {
        const images = await mkfsImages(mkfs, directory, this.tars, mode);
        await this.checkReader(images.layers, `mkfs.erofs --tar=${mode}`);
        trees.push(await this.mounted(images.merged));
      } catch (error) {
        if (difference === undefined || !(error instanceof OracleRefusal)) throw error;
        trees.push(null);
      }
    }
    if (difference === undefined) {
      for (const tree of trees)
        assertSameSnapshot(tree!, this.expected, 'mkfs.erofs (expected) and veneer', options);
      return;
    }
    const same = trees.every(
      (tree) => tree !== null && diffSnapshots(tree, this.expected, options).length === 0,
    );
    assert.ok(!same, `mkfs.erofs and veneer do not differ any more; they were said to: ${difference.reason}`);
  }

  private async checkReader(layers: readonly ImageFile[], who: string): Promise<void> {
    for (const layer of layers) {
      const tree = new ErofsReader(bufferSource(readFileSync(layer.path))).readTree();
      const files = [layer.path, ...layer.devices];
      const read = await snapshotTree(
        tree,
        (source, from, length) => readFileSync(files[source]!).subarray(from, from + length),
        this.content,
      );
      const shown = await this.mounted(layer).catch((error: Error) => {
        throw new OracleRefusal(error.message);
      });
      const what = `${who} mounted (expected) and read by veneer`;
      assertSameSnapshot(overlayView(shown), overlayView(read), what, {
        // It gives special files the size that their entry states.
        ignore: (path, field) => field === 'size' && !/file|symlink/.test(shown.get(path)!.type),
      });
    }
  }

  /** umoci unpacks the same tree. */
  async checkUmoci(t: TestContext): Promise<void> {
    const umoci = newerTool('umoci');
    if (umoci === null) {
      missing(t, 'umoci 0.6 is not there: scripts/tools.sh');
      return;
    }
    const tooSlow = findDifference(umociNotAsked, this.tarCase.name);
    if (tooSlow !== undefined) {
      t.diagnostic(`not asked: ${tooSlow.reason}`);
      return;
    }
    const difference = findDifference(umociDifferences, this.tarCase.name);
    try {
      const unpacked = await this.snapshot(await unpackWithUmoci(umoci, this.lab, this.tars));
      // Directories that nobody names get the time when it runs.
      const { everywhere } = this.unnamed;
      const options: DiffOptions = {
        ignore: (path, field) => (field === 'mtime' || field === 'mtimeNsec') && everywhere.has(path),
      };
      assertAsDeclared(unpacked, this.expected, 'umoci (expected) and veneer', difference, options);
    } catch (error) {
      if (difference === undefined || !(error instanceof OracleRefusal)) throw error;
    }
  }
}

const withoutFacts = (xattrs: string): string => xattrs.replaceAll(/trusted\.veneer\.\S+ ?/g, '').trimEnd();
