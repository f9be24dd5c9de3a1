/** A directory that layers come to one at a time, for those who keep what it is after each of them. */
import { closeSync, constants, fchmodSync, openSync, renameSync, rmdirSync, unlinkSync } from 'node:fs';
import { Folder, removeTree } from '../sys/folder.ts';
import { linkAt, makeDirectoryAt, openDirectoryAt } from '../sys/make-at.ts';
import { openBeneath } from '../sys/open-beneath.ts';
import { statAt } from '../sys/stat.ts';
import { listXattrs, removeXattr } from '../sys/xattr.ts';
import { LayerMerge, type LinkPolicy } from '../tree/merge.ts';
import type { FileTree } from '../tree/node.ts';
import { type LayerStep, RememberedTree } from './layer-step.ts';
import type { OpenLayer } from './open-layers.ts';
import { readDirectoryTree } from './read-directory.ts';
import type { WriteProblem } from './write-batch.ts';
import { type WriteTreeOptions, writeInto } from './write-tree.ts';

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY;

export class LayeredRoot {
  readonly #path: string;
  readonly #merge: LayerMerge;
  readonly #options: WriteTreeOptions;
  /** Open tars by their digest. */
  readonly #files = new Map<string, number>();

  /**
   * @param path of a directory
   * @param start what is in it already, or null when it is empty
   */
  constructor(path: string, start: FileTree | null, links: LinkPolicy, options: WriteTreeOptions) {
    this.#path = path;
    this.#merge = new LayerMerge(links, start ?? undefined);
    this.#options = options;
  }

  /** Over whatever is in the directory `path`. */
  static async over(path: string, links: LinkPolicy, options: WriteTreeOptions): Promise<LayeredRoot> {
    const { signal } = options;
    const { tree, data } = await readDirectoryTree(path, signal === undefined ? {} : { signal });
    data.close();
    return new LayeredRoot(path, tree, links, options);
  }

  /**
   * Lays the layer, whose owners are the host's already, over what is there. After an error the directory is
   * something between. Returns what the file system would not take.
   */
  async add({ tree, file }: OpenLayer): Promise<readonly WriteProblem[]> {
    const before = new RememberedTree(this.#merge.root);
    this.#files.set(tree.sources[0]!.digest, file);
    this.#merge.add(tree);
    const step = before.stepTo(this.#merge.root);
    const root = openSync(this.#path, DIRECTORY);
    try {
      prepareDirectories(root, step);
      const links = new HeldLinks(root, step.links);
      removeAll(root, step.removed);
      const sources = this.#merge.sources.map(({ digest }) => this.#files.get(digest) ?? -1);
      const { problems } = await writeInto(root, step.tree, sources, this.#options, () => links.place());
      return problems;
    } finally {
      closeSync(root);
    }
  }
}

/** Lets us into the directories that something happens in, and takes off them what they are not to have any more. */
function prepareDirectories(root: number, { existing }: LayerStep): void {
  for (const { path, node } of existing) {
    const fd = openBeneath(root, path, DIRECTORY);
    try {
      fchmodSync(fd, 0o700);
      const here = Buffer.from(`/proc/self/fd/${fd}/.`);
      for (const name of listXattrs(here)) {
        if (name !== 'security.selinux' && node.xattrs?.has(name) !== true) removeXattr(here, name);
      }
    } finally {
      closeSync(fd);
    }
  }
}

function removeAll(root: number, paths: readonly string[]): void {
  for (const path of paths) {
    const [parent, name] = splitLast(path);
    const fd = openBeneath(root, parent, DIRECTORY);
    const folder = Folder.open(`/proc/self/fd/${fd}`);
    closeSync(fd);
    try {
      removeTree(folder, name);
    } finally {
      folder.close();
    }
  }
}

/** Inodes that get new names, kept under others while their old ones may be removed. */
class HeldLinks {
  readonly #root: number;
  readonly #name = `.veneer-${process.pid}`;
  readonly #links: LayerStep['links'];

  constructor(root: number, links: LayerStep['links']) {
    this.#root = root;
    this.#links = links;
    if (links.length === 0) return;
    makeDirectoryAt(root, this.#name, 0o700);
    this.#inHold((hold) => {
      for (const [index, { from }] of links.entries()) {
        const [parent, name] = splitLast(from);
        const dir = openBeneath(root, parent, DIRECTORY);
        try {
          linkAt(dir, name, hold, String(index));
        } finally {
          closeSync(dir);
        }
      }
    });
  }

  place(): void {
    if (this.#links.length === 0) return;
    this.#inHold((hold) => {
      for (const [index, { path }] of this.#links.entries()) {
        const [parent, name] = splitLast(path);
        const dir = openBeneath(this.#root, parent, DIRECTORY);
        try {
          renameSync(at(hold, String(index)), at(dir, name));
          // Of two names of one inode rename(2) leaves both.
          if (statAt(hold, String(index)) !== null) unlinkSync(at(hold, String(index)));
        } finally {
          closeSync(dir);
        }
      }
    });
    rmdirSync(at(this.#root, this.#name));
  }

  #inHold(work: (hold: number) => void): void {
    const hold = openDirectoryAt(this.#root, this.#name);
    try {
      work(hold);
    } finally {
      closeSync(hold);
    }
  }
}

const at = (fd: number, name: string): Buffer => Buffer.from(`/proc/self/fd/${fd}/${name}`, 'latin1');

function splitLast(path: string): [parent: string, name: string] {
  const slash = path.lastIndexOf('/');
  return [path.slice(0, Math.max(slash, 0)), path.slice(slash + 1)];
}
