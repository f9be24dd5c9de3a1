/**
 * Tries hooks out: a few small images go through them into bundles, every result is compared byte by byte, and one
 * unpack is made to fail. What the hooks are told and answer is the real thing.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import {
  callbackHook,
  type Hook,
  type HookEvent,
  type HookReport,
  HookSession,
  type HookSubject,
} from '../hooks/index.ts';
import { isMounted } from '../mount/mountinfo.ts';
import { chainIds } from '../oci/digest.ts';
import { findDifference } from '../rootfs/compare-directory.ts';
import type { LayerBlob } from '../rootfs/open-layers.ts';
import { withLayers } from '../rootfs/open-layers.ts';
import { filesOf } from '../rootfs/source-files.ts';
import { Folder, removeTree } from '../sys/folder.ts';
import { detachMount } from '../sys/mount-api.ts';
import { layerTar, mergeLayers } from '../tree/index.ts';
import { type FileTree, S_IFDIR, S_IFLNK, S_IFREG, TreeNode } from '../tree/node.ts';
import { readTold, toldChanges } from './changes-hooked.ts';
import { Masks } from './masks.ts';
import { type HookedResult, unpackThroughHooks } from './unpack-hooked.ts';

export interface HookCheck {
  readonly what: string;
  readonly outcome: 'passed' | 'failed' | 'does not apply';
  /** Why, or how it went. */
  readonly detail: string;
}

export interface HookTimes {
  readonly hook: string;
  readonly event: HookEvent;
  readonly answered: number;
  readonly declined: number;
  readonly failed: number;
  /** Of the longest, milliseconds. */
  readonly longest: number;
}

const GZIP_LESS = 'application/vnd.oci.image.layer.v1.tar';

/** Calls `onCheck` for each thing that was tried. `place`: an empty folder, where the hooks have to work. */
export async function checkHooks(
  hooks: readonly Hook[],
  place: string,
  onCheck: (check: HookCheck) => void,
  signal?: AbortSignal,
): Promise<HookTimes[]> {
  const check = new HooksCheck(hooks, place, onCheck, signal);
  return check.run();
}

class HooksCheck {
  readonly #hooks: readonly Hook[];
  readonly #place: string;
  readonly #onCheck: (check: HookCheck) => void;
  readonly #signal: AbortSignal | undefined;
  readonly #times = new Map<string, HookTimes>();
  readonly #bundles: string[] = [];

  constructor(
    hooks: readonly Hook[],
    place: string,
    onCheck: (check: HookCheck) => void,
    signal: AbortSignal | undefined,
  ) {
    // What hooks say they have is to be looked at, whatever they are trusted with.
    this.#hooks = hooks.map((hook) => ({ ...hook, verify: 'tree' as const }));
    this.#place = place;
    this.#onCheck = onCheck;
    this.#signal = signal;
  }

  async run(): Promise<HookTimes[]> {
    const [base, more, top, other] = sampleLayers().map((tree, index) => this.#writeLayer(tree, index));
    const first = [base!, more!, top!];
    const second = [base!, more!, other!];
    try {
      const unpacked = await this.#try('an image is unpacked', () => this.#unpack('one', first));
      if (unpacked === null || !unpacked.filled) {
        if (unpacked !== null)
          this.#say('hooks have a hand in it', 'does not apply', 'they leave the layers alone');
        return [...this.#times.values()];
      }
      const again = await this.#try('the same image again', () => this.#unpack('two', first));
      const listens = this.#hooks.some(({ events }) => events.has('unpack.ociv1.layer.commit'));
      const kept = again?.skipped.length ?? 0;
      this.#say(
        'layers that were kept are taken',
        kept > 0 ? 'passed' : 'does not apply',
        kept > 0 ? `${kept} of ${first.length}` : listens ? 'nothing was kept' : 'no hook hears of commit',
      );
      await this.#try('what is written to one bundle is in no other', async () => {
        writeFileSync(join(this.#rootfs('two'), 'etc/name'), 'scribbled over');
        unlinkSync(join(this.#rootfs('two'), 'dir/new'));
        await this.#compare('one', first);
        return this.#unpack('three', first);
      });
      await this.#try('an image that shares layers', () => this.#unpack('shared', second));
      await this.#checkAbort(second);
      await this.#try('all is well after a failure', () => this.#unpack('after', second));
      await this.#checkDeltas(second);
    } finally {
      for (const name of this.#bundles) this.#remove(name);
    }
    return [...this.#times.values()];
  }

  async #checkAbort(layers: readonly LayerBlob[]): Promise<void> {
    const reason = 'made to fail, to see what the hooks do';
    const fails = callbackHook('check', {
      'unpack.ociv1.layer.commit': () => {
        throw new Error(reason);
      },
      'unpack.ociv1.image.assemble': () => {
        throw new Error(reason);
      },
    });
    const subject = this.#subject('aborted', layers);
    await this.#try('a failed unpack leaves nothing behind', async () => {
      try {
        await this.#unpack('aborted', layers, [fails, ...this.#hooks]);
      } catch (error) {
        if (!(error instanceof Error) || error.message !== reason) throw error;
      }
      if (isMounted(subject.rootfs)) throw new Error(`${subject.rootfs} is mounted still`);
      if (
        lstatSync(subject.rootfs, { throwIfNoEntry: false }) !== undefined &&
        this.#listens('unpack.ociv1.image.abort')
      )
        throw new Error(`${subject.rootfs} is there still`);
      return null;
    });
  }

  async #checkDeltas(layers: readonly LayerBlob[]): Promise<void> {
    const what = 'what changed is told';
    if (!this.#listens('repack.ociv1.delta-list')) {
      this.#say(what, 'does not apply', 'no hook hears of delta-list');
      return;
    }
    await this.#try(what, async () => {
      await this.#unpack('changed', layers);
      const rootfs = this.#rootfs('changed');
      writeFileSync(join(rootfs, 'etc/name'), 'changed');
      unlinkSync(join(rootfs, 'dir/new'));
      mkdirSync(join(rootfs, 'made'));
      writeFileSync(join(rootfs, 'made/file'), 'made');
      symlinkSync('made/file', join(rootfs, 'link'));
      const told = await toldChanges(
        this.#session('changed', layers),
        join(this.#place, 'changed'),
        null,
        () => null,
      );
      if (told === null) return 'it was declined';
      const reading = { rootfs, options: {}, masks: new Masks([]), oldRoot: undefined, refresh: false };
      const { changes, data } = (await readTold(told, reading))!;
      data.close();
      const missed = ['etc/name', 'dir/new', 'made', 'made/file', 'link'].filter(
        (path) => !changes.has(path),
      );
      if (missed.length > 0) throw new Error(`it leaves out ${missed.join(', ')}`);
      return `${changes.size} names`;
    });
  }

  #listens(event: HookEvent): boolean {
    return this.#hooks.some(({ events }) => events.has(event));
  }

  /** Unpacks and compares. */
  async #unpack(
    name: string,
    layers: readonly LayerBlob[],
    hooks: readonly Hook[] = this.#hooks,
  ): Promise<HookedResult> {
    this.#bundles.push(name);
    mkdirSync(join(this.#place, name), { mode: 0o700 });
    const session = this.#session(name, layers, hooks);
    let result: HookedResult;
    try {
      result = await unpackThroughHooks({
        session,
        subject: this.#subject(name, layers),
        blobs: layers,
        maps: { uidMaps: [], gidMaps: [], rootless: false },
        links: 'follow',
        write: { owners: true },
        signal: this.#signal,
      });
    } catch (error) {
      await session.abort(error);
      throw error;
    }
    if (result.filled) await this.#compare(name, layers);
    return result;
  }

  async #compare(name: string, layers: readonly LayerBlob[]): Promise<void> {
    const options = { temporary: this.#place, signal: this.#signal };
    const difference = await withLayers(layers, options, (opened) => {
      const tree = mergeLayers(
        opened.map((layer) => layer.tree),
        'follow',
      );
      return findDifference(this.#rootfs(name), tree, filesOf(tree, opened), { signal: this.#signal });
    });
    if (difference !== null) throw new Error(`the root file system is not the image: ${difference}`);
  }

  #session(name: string, layers: readonly LayerBlob[], hooks: readonly Hook[] = this.#hooks): HookSession {
    const timed = hooks.map(
      (hook): Hook => ({
        ...hook,
        call: async (request, call) => {
          const begin = performance.now();
          try {
            return await hook.call(request, call);
          } finally {
            this.#noteTime(hook.name, request.event, performance.now() - begin);
          }
        },
      }),
    );
    const onReport = ({ hook, event, outcome }: HookReport): void => this.#noteOutcome(hook, event, outcome);
    const signal = this.#signal === undefined ? {} : { signal: this.#signal };
    return new HookSession(timed, this.#subject(name, layers), { onReport, ...signal });
  }

  #timesOf(hook: string, event: HookEvent): HookTimes {
    return (
      this.#times.get(`${hook} ${event}`) ?? { hook, event, answered: 0, declined: 0, failed: 0, longest: 0 }
    );
  }

  #noteTime(hook: string, event: HookEvent, took: number): void {
    if (!this.#hooks.some(({ name }) => name === hook)) return;
    const times = this.#timesOf(hook, event);
    this.#times.set(`${hook} ${event}`, { ...times, longest: Math.max(times.longest, Math.round(took)) });
  }

  #noteOutcome(hook: string, event: HookEvent, outcome: HookReport['outcome']): void {
    if (!this.#hooks.some(({ name }) => name === hook)) return;
    const times = this.#timesOf(hook, event);
    this.#times.set(`${hook} ${event}`, { ...times, [outcome]: times[outcome] + 1 });
  }

  #rootfs(name: string): string {
    return join(this.#place, name, 'rootfs');
  }

  #subject(name: string, layers: readonly LayerBlob[]): HookSubject {
    const chains = chainIds(layers.map(({ diffId }) => diffId));
    const document = {
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      ...digestOf(chains.at(-1)!),
      size: 2,
    };
    return {
      bundle: join(this.#place, name),
      rootfs: this.#rootfs(name),
      source: { layout: this.#place, tag: name },
      manifest: { ...document, content: {} },
      config: { ...document, mediaType: 'application/vnd.oci.image.config.v1+json', content: {} },
      layers: layers.map(({ diffId, digest, size }, index) => ({
        index,
        mediaType: GZIP_LESS,
        digest,
        size,
        diffID: diffId,
        chainID: chains[index]!,
        parentChainID: chains[index - 1] ?? null,
      })),
      maps: { uid: [], gid: [], rootless: false },
    };
  }

  async #try<T>(what: string, work: () => Promise<T>): Promise<T | null> {
    try {
      const result = await work();
      this.#say(what, 'passed', typeof result === 'string' ? result : '');
      return result;
    } catch (error) {
      if (this.#signal?.aborted) throw error;
      this.#say(what, 'failed', (error as Error).message);
      return null;
    }
  }

  #say(what: string, outcome: HookCheck['outcome'], detail: string): void {
    this.#onCheck({ what, outcome, detail });
  }

  /** Takes down and removes what is left of a bundle. */
  #remove(name: string): void {
    while (isMounted(this.#rootfs(name))) detachMount(this.#rootfs(name), { lazy: true });
    const folder = Folder.open(this.#place);
    try {
      removeTree(folder, name);
    } finally {
      folder.close();
    }
  }

  #writeLayer(tree: FileTree, index: number): LayerBlob {
    const tar = Buffer.concat([...layerTar(tree, (node, from, piece) => void fill(node, from, piece))]);
    const path = join(this.#place, `layer-${index}.tar`);
    rmSync(path, { force: true });
    closeSync(openSync(path, 'wx', 0o600));
    writeFileSync(path, tar);
    const { digest } = digestOf(tar);
    return { digest, diffId: digest, size: tar.length, range: { path, offset: 0, length: tar.length } };
  }
}

function digestOf(bytes: Buffer | string): { digest: string } {
  return { digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}` };
}

/** The bytes of a file of the samples: its number, over and over. */
function fill(node: TreeNode, _from: number, piece: Buffer): void {
  piece.fill(node.at & 0xff);
}

/** Three layers of an image and another topmost one: with what layers can say to those below them. */
function sampleLayers(): FileTree[] {
  let number = 0x61;
  const dir = (children: Record<string, TreeNode>, rest: Partial<TreeNode> = {}): TreeNode => {
    const node = Object.assign(new TreeNode(S_IFDIR | 0o755), { mtime: 1_500_000_000 }, rest);
    for (const [name, child] of Object.entries(children)) node.children!.set(name, child);
    return node;
  };
  const file = (size: number, rest: Partial<TreeNode> = {}): TreeNode =>
    Object.assign(
      new TreeNode(S_IFREG | 0o644),
      { size, source: 0, at: number++, mtime: 1_400_000_000 },
      rest,
    );
  const link = (target: string): TreeNode =>
    Object.assign(new TreeNode(S_IFLNK | 0o777), { target, size: target.length, mtime: 1_300_000_000 });
  const implied = { implied: true };
  const twin = file(500, { uid: 10, gid: 20, mode: S_IFREG | 0o4755 });
  const roots = [
    dir({
      etc: dir({ name: file(10), gone: file(11) }, { mode: S_IFDIR | 0o711, uid: 3 }),
      dir: dir({ old: file(12), sub: dir({ deep: file(70_000) }) }),
      twin,
      also: twin,
      lib: link('dir/sub'),
      '\xe9\xff': file(13),
    }),
    dir(
      {
        etc: dir({}, { ...implied, whiteouts: new Set(['gone']) }),
        dir: dir({ new: file(14) }, { opaque: true }),
        linked: file(0, { source: -1, lowerLink: 'twin' }),
      },
      implied,
    ),
    dir({ etc: dir({ name: file(20) }, { gid: 7 }), note: file(15) }, { mode: S_IFDIR | 0o750 }),
    dir({ other: file(16) }, { ...implied, whiteouts: new Set(['also']) }),
  ];
  return roots.map((root) => ({ root, sources: [], findings: [] }));
}
