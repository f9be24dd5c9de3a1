/**
 * A root file system by way of hooks: what they have is taken from them, what they want to keep is unpacked layer by
 * layer so that they can, and what no hook cares for is left to the plain way. docs/hooks.md is the contract.
 */
import { mkdirSync, statSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { type Finding, VeneerError } from '../errors.ts';
import type { Hook, HookLayer, HookReply, HookSession, HookSubject, Verify } from '../hooks/index.ts';
import { isMounted } from '../mount/mountinfo.ts';
import { adaptToHost } from '../rootfs/host-tree.ts';
import type { LayeredRoot } from '../rootfs/layered-root.ts';
import type { LayerBlob, OpenLayer } from '../rootfs/open-layers.ts';
import { asOverlayLayer } from '../rootfs/overlay-layer.ts';
import type { OwnerMaps } from '../rootfs/owners.ts';
import { filesOf } from '../rootfs/source-files.ts';
import type { WriteProblem } from '../rootfs/write-batch.ts';
import type { WriteTreeOptions } from '../rootfs/write-tree.ts';
import { Folder, removeTree } from '../sys/folder.ts';
import { LayerMerge, type LinkPolicy } from '../tree/merge.ts';
import type { FileTree } from '../tree/node.ts';
import { needsChain, resolveLayer } from '../tree/resolve.ts';

export interface HookedUnpack {
  readonly session: HookSession;
  readonly subject: HookSubject;
  readonly blobs: readonly LayerBlob[];
  readonly maps: OwnerMaps;
  readonly links: LinkPolicy;
  readonly write: WriteTreeOptions;
  readonly signal?: AbortSignal | undefined;
}

/** A layer that was taken from a hook. */
export interface SkippedLayer {
  readonly diffID: string;
  readonly hook: string;
  /** How far it was checked. */
  readonly verified: Verify;
}

export interface HookedResult {
  /** False: no hook had a hand in it, and `rootfs` is still to be unpacked. */
  readonly filled: boolean;
  /** A hook will say what changed: nobody need write down what the files are. */
  readonly deltas: boolean;
  readonly skipped: readonly SkippedLayer[];
  readonly problems: readonly WriteProblem[];
  readonly findings: readonly Finding[];
}

/** Throws what hooks throw, `hooks/lied`, and what unpacking throws; hooks are told to undo what they did then. */
export async function unpackThroughHooks(unpack: HookedUnpack): Promise<HookedResult> {
  return new Unpacking(unpack).run();
}

class Unpacking {
  readonly #unpack: HookedUnpack;
  readonly #skipped: SkippedLayer[] = [];
  readonly #problems: WriteProblem[] = [];
  readonly #findings: Finding[] = [];

  constructor(unpack: HookedUnpack) {
    this.#unpack = unpack;
  }

  async run(): Promise<HookedResult> {
    const { session, links } = this.#unpack;
    const answers = await session.tell('unpack.ociv1.image.prepare', {});
    const deltas = answers.some(({ reply }) => reply.deltas);
    const cumulative = answers.some(({ reply }) => reply.cumulative);
    // Copies are kept by digest, and with --keep-dirlinks the same layers make another tree.
    const filled =
      links !== 'keep' && (cumulative ? await this.#fillInPlace(true) : await this.#fillDirectories());
    const { subject } = this.#unpack;
    if (filled && statSync(subject.rootfs, { throwIfNoEntry: false })?.isDirectory() !== true) {
      throw new VeneerError(
        'hooks/lied',
        `Cannot use what the hooks made: there is no folder ${subject.rootfs}`,
      );
    }
    const [skipped, problems, findings] = [this.#skipped, this.#problems, this.#findings];
    return { filled, deltas: filled && deltas, skipped, problems, findings };
  }

  /** Layers go into the root file system one after the other, above what a hook has. */
  async #fillInPlace(mayHave: boolean): Promise<boolean> {
    const { session, subject, blobs, links, write } = this.#unpack;
    const have = mayHave ? await this.#takeHighest() : 0;
    if (have < blobs.length) {
      await this.#withLayers(have, blobs.length, async (layers) => {
        let root: LayeredRoot | null = null;
        for (const [at, opened] of layers.entries()) {
          const layer = subject.layers[have + at]!;
          const about = { layer, target: subject.rootfs, portable: false };
          await session.tell('unpack.ociv1.layer.pre-extract', about);
          root ??= await this.#openRoot(have, links, write);
          this.#findings.push(...opened.tree.findings, ...adaptToHost(opened.tree, this.#unpack.maps));
          this.#problems.push(...(await root.add(opened)));
          await session.tell('unpack.ociv1.layer.post-extract', about);
          await session.tell('unpack.ociv1.layer.commit', about);
        }
      });
    }
    await session.ask('unpack.ociv1.image.assemble', { directories: [] });
    return true;
  }

  async #openRoot(have: number, links: LinkPolicy, write: WriteTreeOptions): Promise<LayeredRoot> {
    const { rootfs } = this.#unpack.subject;
    const { LayeredRoot } = await import('../rootfs/layered-root.ts');
    if (have > 0) return LayeredRoot.over(rootfs, links, write);
    // A hook may have made it, as a subvolume for example.
    if (statSync(rootfs, { throwIfNoEntry: false }) === undefined) mkdirSync(rootfs, 0o700);
    return new LayeredRoot(rootfs, null, links, write);
  }

  /** Asks for the whole image, then for the layers below the topmost, and so on; returns how many layers are there. */
  async #takeHighest(): Promise<number> {
    const { session, subject } = this.#unpack;
    for (const layer of subject.layers.toReversed()) {
      const answer = await session.ask('unpack.ociv1.layer.try-skip', { layer });
      if (answer === null) {
        removeLeft(subject.rootfs);
        continue;
      }
      const count = layer.index + 1;
      await this.#check(answer.hook, layer, answer.reply, subject.layers.slice(0, count), async () => {
        return this.#withLayers(0, count, async (layers) => {
          const { findDifference } = await import('../rootfs/compare-directory.ts');
          const { tree, files } = this.#merge(layers);
          return findDifference(subject.rootfs, tree, files, this.#signal());
        });
      });
      for (const { diffID } of subject.layers.slice(0, count)) this.#noteSkip(answer.hook, diffID);
      return count;
    }
    return 0;
  }

  /** Every layer in a directory of its own, which a hook has or wants; false when none wants any. */
  async #fillDirectories(): Promise<boolean> {
    const { session, subject } = this.#unpack;
    const directories = await allDone(subject.layers.map((layer) => this.#findDirectory(layer)));
    const found = directories.filter((directory) => directory !== null);
    if (found.length === 0) {
      const events = ['pre-extract', 'post-extract', 'commit'] as const;
      if (!session.listens(...events.map((event) => `unpack.ociv1.layer.${event}` as const))) return false;
      return this.#fillInPlace(false);
    }
    const without = directories.indexOf(null);
    if (without >= 0) {
      throw new VeneerError(
        'hooks/bad-reply',
        `Cannot put the layers together: hooks have directories for some of them, and none for layer ${without}`,
      );
    }
    await this.#fillNew(found);
    const paths = found.map(({ path }) => path);
    const answer = await session.ask('unpack.ociv1.image.assemble', { directories: paths });
    if (answer !== null) return true;
    throw new VeneerError(
      'hooks/bad-reply',
      'Cannot put the layers together: hooks gave directories for them, and none answered image.assemble',
    );
  }

  async #findDirectory(layer: HookLayer): Promise<LayerDirectory | null> {
    const { session } = this.#unpack;
    const has = await session.ask('unpack.ociv1.layer.try-skip', { layer });
    if (has !== null) {
      const { directory } = has.reply;
      if (directory === undefined) {
        throw new VeneerError(
          'hooks/bad-reply',
          `Cannot use layer ${layer.index} of ${has.hook.name}: it gave no directory`,
        );
      }
      await this.#check(has.hook, layer, has.reply, [layer], () => this.#compareLayer(layer, directory));
      this.#noteSkip(has.hook, layer.diffID);
      return { layer, path: directory, isNew: false };
    }
    const wants = await session.ask('unpack.ociv1.layer.extract-to', { layer });
    return wants === null ? null : { layer, path: wants.reply.directory, isNew: true };
  }

  /** Unpacks what no hook had, in order. */
  async #fillNew(directories: readonly LayerDirectory[]): Promise<void> {
    const last = directories.findLastIndex(({ isNew }) => isNew);
    if (last < 0) return;
    const { session, maps, write } = this.#unpack;
    const { writeTree } = await import('../rootfs/write-tree.ts');
    await this.#withLayers(0, last + 1, async (opened) => {
      const below = new BelowLayers(opened);
      for (const [index, { layer, path, isNew }] of directories.slice(0, last + 1).entries()) {
        const { tree, files, portable } = below.next(index);
        if (!isNew) continue;
        const about = { layer, target: path, portable };
        await session.tell('unpack.ociv1.layer.pre-extract', about);
        this.#findings.push(...tree.findings, ...adaptToHost(tree, maps));
        asOverlayLayer(tree.root);
        const { problems } = await writeTree(path, tree, files, write);
        this.#problems.push(...problems);
        await session.tell('unpack.ociv1.layer.post-extract', about);
        await session.tell('unpack.ociv1.layer.commit', about);
      }
    });
  }

  /** Is the directory what the layer is, above the layers below it? */
  #compareLayer(layer: HookLayer, directory: string): Promise<string | null> {
    return this.#withLayers(0, layer.index + 1, async (opened) => {
      const below = new BelowLayers(opened);
      let last = below.next(0);
      for (let index = 1; index <= layer.index; index++) last = below.next(index);
      adaptToHost(last.tree, this.#unpack.maps);
      const { findDifference } = await import('../rootfs/compare-directory.ts');
      return findDifference(directory, last.tree, last.files, { overlay: 'trusted', ...this.#signal() });
    });
  }

  #merge(layers: readonly OpenLayer[]): { tree: FileTree; files: number[] } {
    const merge = new LayerMerge(this.#unpack.links);
    for (const { tree } of layers) {
      adaptToHost(tree, this.#unpack.maps);
      merge.add(tree);
    }
    const tree = merge.tree();
    return { tree, files: filesOf(tree, layers) };
  }

  /** Throws `hooks/lied` unless the copy is what it should be, as far as that is to be checked. */
  async #check(
    hook: Hook,
    layer: HookLayer,
    { diffIDs }: HookReply<'unpack.ociv1.layer.try-skip'>,
    expected: readonly HookLayer[],
    compare: () => Promise<string | null>,
  ): Promise<void> {
    const verify = hook.verify ?? 'tree';
    const lied = (reason: string): VeneerError =>
      new VeneerError(
        'hooks/lied',
        `Cannot use the copy of layer ${layer.index} that ${hook.name} has: ${reason}`,
        {
          hint: 'Have the hook forget what it keeps.',
        },
      );
    if (verify === 'none') return;
    if (diffIDs !== undefined && diffIDs.join() !== expected.map(({ diffID }) => diffID).join()) {
      throw lied('it holds other layers');
    }
    if (verify === 'manifest') {
      if (diffIDs === undefined) throw lied('it does not say which layers are in it (diffIDs)');
      return;
    }
    const difference = await compare();
    if (difference !== null) throw lied(difference);
  }

  #noteSkip(hook: Hook, diffID: string): void {
    this.#skipped.push({ diffID, hook: hook.name, verified: hook.verify ?? 'tree' });
  }

  /** What opens and writes layers is loaded here and where it is used: with all layers from a hook, nothing of it is. */
  async #withLayers<T>(
    from: number,
    to: number,
    use: (layers: readonly OpenLayer[]) => Promise<T>,
  ): Promise<T> {
    const { blobs, subject, signal } = this.#unpack;
    const { withLayers } = await import('../rootfs/open-layers.ts');
    return withLayers(blobs.slice(from, to), { temporary: subject.bundle, signal }, use);
  }

  #signal(): { signal?: AbortSignal } {
    const { signal } = this.#unpack;
    return signal === undefined ? {} : { signal };
  }
}

/** What a hook that failed has made of the root file system is nothing to build on. */
function removeLeft(rootfs: string): void {
  if (isMounted(rootfs)) {
    throw new VeneerError(
      'hooks/lied',
      `Cannot go on without a copy: a hook that has none left something mounted on ${rootfs}`,
    );
  }
  const parent = Folder.open(dirname(rootfs));
  try {
    removeTree(parent, Buffer.from(basename(rootfs)).toString('latin1'));
  } finally {
    parent.close();
  }
}

/** As Promise.all, but nothing of it goes on behind a failure: hooks are told to undo what they did then. */
async function allDone<T>(work: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(work);
  return Promise.all(work);
}

interface LayerDirectory {
  readonly layer: HookLayer;
  readonly path: string;
  readonly isNew: boolean;
}

/** Layers as each is to lie on those below it. */
class BelowLayers {
  readonly #opened: readonly OpenLayer[];
  readonly #below = new LayerMerge();

  constructor(opened: readonly OpenLayer[]) {
    this.#opened = opened;
  }

  /** Layer `index`; called for all of them in order. */
  next(index: number): { tree: FileTree; files: number[]; portable: boolean } {
    const layer = this.#opened[index]!.tree;
    // The root of the topmost layer is the image's.
    const portable = !needsChain(layer) && !layer.root.implied;
    const copy = structuredClone(layer);
    const tree = portable ? copy : resolveLayer(this.#below.tree(), copy);
    this.#below.add(layer);
    return { tree, files: filesOf(tree, this.#opened), portable };
  }
}
