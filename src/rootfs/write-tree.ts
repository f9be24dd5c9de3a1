/**
 * Writes a tree into an empty directory: files by several threads, then hard links, then what directories are like.
 *
 * Until the end every directory is ours alone (0700): nobody else can put a symlink in the way of what is still to be
 * written, whoever owns it in the end.
 */
import { closeSync, constants, fchmodSync, fchownSync, openSync, readdirSync } from 'node:fs';
import { VeneerError } from '../errors.ts';
import { linkAt, setTimesAt, setXattrOf } from '../sys/make-at.ts';
import { openBeneath } from '../sys/open-beneath.ts';
import { statAt } from '../sys/stat.ts';
import { listXattrs, removeXattr } from '../sys/xattr.ts';
import { type FileTree, S_IFDIR, S_IFMT, type TreeNode } from '../tree/node.ts';
import { joinPath, showPath } from '../tree/path.ts';
import { BatchBuilder, type PlannedBatch, type WriteProblem } from './write-batch.ts';
import { writeBatches } from './write-pool.ts';
import { Attempts } from './write-problems.ts';

export interface WriteTreeOptions {
  /** Give every file its owner; otherwise all stay ours. */
  readonly owners: boolean;
  /** Note digests, inode numbers and change times. */
  readonly inspect?: boolean;
  /** Share blocks with the sources where that can be done. */
  readonly share?: boolean;
  /** Whether to go on when a file system does not take something; otherwise that is an error. Default: never. */
  readonly bearable?: (problem: WriteProblem) => boolean;
  /** Told now and then, how many files there are already. */
  readonly onFiles?: (done: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** What a file system says of an inode that was written, for those who want to know later whether it was changed. */
export interface WrittenFacts {
  readonly inode: bigint;
  readonly ctime: number;
  readonly ctimeNsec: number;
  /** sha256 of a regular file's data, hex; else ''. */
  readonly digest: string;
  /** As the file system counts them; of directories only, the tree knows those of others. */
  readonly size: number;
  readonly nlink: number;
}

export interface WrittenTree {
  /** Empty unless asked for. */
  readonly facts: Map<TreeNode, WrittenFacts>;
  /** Bytes of file data that share blocks with the sources. */
  readonly shared: number;
  /** What was borne. */
  readonly problems: readonly WriteProblem[];
}

/** Files of a batch: enough to be worth a message, few enough to keep all threads busy to the end. */
const BATCH_FILES = 512;

/**
 * Writes `tree` into the empty directory `path`, which becomes its root. `sources` are open files, one a data source of
 * the tree. After an error something of it may be there: remove it.
 *
 * Throws `rootfs/not-empty`; `rootfs/refused` for what is not bearable; `io/failed`, `io/no-space`.
 */
export async function writeTree(
  path: string | Buffer,
  tree: Pick<FileTree, 'root'>,
  sources: readonly number[],
  options: WriteTreeOptions,
): Promise<WrittenTree> {
  const root = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    takeOver(root, path);
    return await new TreeWriter(root, tree.root, sources, options).run();
  } finally {
    closeSync(root);
  }
}

/**
 * Writes `tree` over what is in the open directory `root`: its directories may be there, nothing else of it may.
 * Directories get what the tree says of them, after `placed` was called: all that is to be in them is there then.
 */
export async function writeInto(
  root: number,
  tree: TreeNode,
  sources: readonly number[],
  options: WriteTreeOptions,
  placed: () => void,
): Promise<WrittenTree> {
  return new TreeWriter(root, tree, sources, options).run(placed);
}

/** Makes the root ours alone, and takes off it what everything in it would inherit: the group, default ACLs. */
function takeOver(root: number, path: string | Buffer): void {
  if (readdirSync(`/proc/self/fd/${root}`).length > 0) {
    throw new VeneerError('rootfs/not-empty', `Cannot unpack into ${path}: there is something in it already`);
  }
  fchownSync(root, process.geteuid!(), process.getegid!());
  fchmodSync(root, 0o700);
  const here = Buffer.from(`/proc/self/fd/${root}/.`);
  for (const name of listXattrs(here)) if (name !== 'security.selinux') removeXattr(here, name);
}

class TreeWriter {
  readonly #root: number;
  readonly #tree: TreeNode;
  readonly #sources: readonly number[];
  readonly #options: WriteTreeOptions;
  readonly #facts = new Map<TreeNode, WrittenFacts>();
  readonly #problems: WriteProblem[] = [];
  /** Directories, parents first. */
  readonly #dirs: [path: string, node: TreeNode][] = [];
  /** Further names of inodes. */
  readonly #links: [first: string, path: string, node: TreeNode][] = [];

  constructor(root: number, tree: TreeNode, sources: readonly number[], options: WriteTreeOptions) {
    this.#root = root;
    this.#tree = tree;
    this.#sources = sources;
    this.#options = options;
  }

  async run(placed: () => void = () => {}): Promise<WrittenTree> {
    const { owners, inspect = false, share = false, onFiles, signal } = this.#options;
    const [root, sources, umask] = [this.#root, this.#sources, process.umask()];
    const settings = { root, sources, owners, inspect, share, umask };
    let done = 0;
    let allShared = 0;
    await writeBatches(
      this.#plan(),
      settings,
      ({ nodes }, { digests, inodes, ctimes, shared, problems }) => {
        this.#bear(problems);
        if (inspect) {
          nodes.forEach((node, index) => {
            const [inode, ctime, ctimeNsec] = [inodes[index]!, ctimes[2 * index]!, ctimes[2 * index + 1]!];
            const digest = digests[index]!;
            this.#facts.set(node, { inode, ctime, ctimeNsec, digest, size: 0, nlink: 0 });
          });
        }
        done += nodes.length;
        allShared += shared;
        onFiles?.(done);
      },
      signal,
    );
    for (const [first, path] of this.#links) this.#link(first, path);
    placed();
    // Linking has changed the inode.
    if (inspect) for (const [first, , node] of this.#links) this.#inspectAgain(first, node);
    const attempts = new Attempts();
    for (const [path, node] of this.#dirs.reverse()) this.#describe(path, node, attempts);
    this.#bear(attempts.problems);
    return { facts: this.#facts, shared: allShared, problems: this.#problems };
  }

  #bear(problems: readonly WriteProblem[]): void {
    for (const problem of problems) {
      if (this.#options.bearable?.(problem) !== true) throw refused(problem);
      this.#problems.push(problem);
    }
  }

  /** A directory with its files after the other, files in the order of the tree: mostly that of their data. */
  *#plan(): Generator<PlannedBatch> {
    const firstNames = new Map<TreeNode, string>();
    let batch = new BatchBuilder();
    const pending: [path: string, node: TreeNode][] = [['', this.#tree]];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const [path, dir] = next;
      this.#dirs.push(next);
      batch.addDirectory(path);
      const below: [path: string, node: TreeNode][] = [];
      for (const [name, node] of dir.children!) {
        const own = joinPath(path, name);
        if ((node.mode & S_IFMT) === S_IFDIR) {
          below.push([own, node]);
          continue;
        }
        const first = firstNames.get(node);
        if (first !== undefined) {
          this.#links.push([first, own, node]);
          continue;
        }
        firstNames.set(node, own);
        if (batch.size >= BATCH_FILES) {
          yield batch.finish();
          batch = new BatchBuilder();
          batch.addDirectory(path);
        }
        batch.addFile(name, node);
      }
      for (const one of below.reverse()) pending.push(one);
    }
    yield batch.finish();
  }

  #link(first: string, path: string): void {
    const [fromDir, from] = this.#openParent(first);
    try {
      const [dir, name] = this.#openParent(path);
      try {
        linkAt(fromDir, from, dir, name);
      } catch (error) {
        const problem = new Attempts();
        problem.attempt(path, 'file', () => {
          throw error;
        });
        this.#bear(problem.problems);
      } finally {
        closeSync(dir);
      }
    } finally {
      closeSync(fromDir);
    }
  }

  /** To be closed. */
  #openParent(path: string): [dir: number, name: string] {
    const slash = path.lastIndexOf('/');
    const dir = openBeneath(this.#root, path.slice(0, Math.max(slash, 0)), DIRECTORY);
    return [dir, path.slice(slash + 1)];
  }

  #inspectAgain(path: string, node: TreeNode): void {
    const [dir, name] = this.#openParent(path);
    const facts = statAt(dir, name);
    closeSync(dir);
    const known = this.#facts.get(node);
    if (facts === null || known === undefined) return;
    const { inode, ctime, ctimeNsec } = facts;
    this.#facts.set(node, { ...known, inode, ctime, ctimeNsec });
  }

  /** Gives a directory what the tree says of it. All below it is complete. */
  #describe(path: string, node: TreeNode, attempts: Attempts): void {
    const { owners, inspect } = this.#options;
    const dir = openBeneath(this.#root, path, DIRECTORY);
    try {
      if (owners) attempts.attempt(path, 'owner', () => fchownSync(dir, node.uid, node.gid));
      attempts.attempt(path, 'mode', () => fchmodSync(dir, node.mode & 0o7777));
      for (const [name, value] of node.xattrs ?? []) {
        attempts.attempt(path, `xattr ${name}`, () => setXattrOf(dir, name, value));
      }
      attempts.attempt(path, 'times', () => setTimesAt(dir, null, node.mtime, node.mtimeNsec));
      if (!inspect) return;
      const { inode, ctime, ctimeNsec, size, nlink } = statAt(dir, '')!;
      this.#facts.set(node, { inode, ctime, ctimeNsec, digest: '', size, nlink });
    } finally {
      closeSync(dir);
    }
  }
}

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY;

function refused({ path, what, errno, message }: WriteProblem): VeneerError {
  const subject = what === 'file' ? showPath(path) : `the ${what} of ${showPath(path)}`;
  const text = `Cannot write ${subject}: ${message.replace(/^.*?: /, '')}`;
  if (errno === 'ENOSPC' || errno === 'EDQUOT') return new VeneerError('io/no-space', text);
  const asUser = errno === 'EPERM' && process.geteuid?.() !== 0;
  return new VeneerError(
    'rootfs/refused',
    text,
    asUser ? { hint: 'Unpack as root, or with --rootless.' } : {},
  );
}
