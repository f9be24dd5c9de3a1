/** The root file system of a bundle as it is on the disk, name by name; data and attributes are read when asked for. */
import { closeSync, constants, fdatasyncSync, openSync, readdirSync, readlinkSync } from 'node:fs';
import { isUnreadable, withAccess } from '../rootfs/lend-access.ts';
import { O_PATH, openBeneath } from '../sys/open-beneath.ts';
import { type FileFacts, statAt } from '../sys/stat.ts';
import { getXattr, listXattrs } from '../sys/xattr.ts';
import { threadFile } from '../threads/thread-file.ts';
import { runInThreads } from '../threads/thread-pool.ts';
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../tree/node.ts';
import { joinPath } from '../tree/path.ts';
import { FileHasher } from './hash-file.ts';
import type { HashWorkerData } from './hash-worker.ts';
import type { InodeProof, ProvenNode } from './inode-proofs.ts';
import { type Keyword, keywordsOf } from './mtree/keywords.ts';

/** One name. */
export interface DiskNode {
  readonly facts: FileFacts;
  readonly children: Map<string, DiskNode> | null;
  /** Nothing of the inode has changed since the proofs were noted; of a directory: itself, and the names in it. */
  readonly proven: boolean;
  /** The number of the inode that had the name then; null when none had, or nobody knows. */
  readonly knownInode: bigint | null;
}

/** `digest`: only with the data of regular files read; otherwise it is left out. */
export type Thoroughness = 'stat' | 'digest';

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY;
/** What is read without threads. */
const FEW_FILES = 500;
const FEW_BYTES = 16 << 20;
/** What a thread is sent at a time. */
const BATCH_FILES = 100;
const BATCH_BYTES = 8 << 20;

export class DiskTree {
  readonly root: DiskNode;
  readonly #fd: number;
  #parent: { readonly path: string; readonly fd: number } | null = null;
  readonly #hasher = new FileHasher();
  /** sha256 by path, of those that were read ahead. */
  readonly #digests = new Map<string, string>();

  /** To be closed. Names are taken from `proofs` where they prove that there are no others. */
  constructor(path: string, proofs: ProvenNode | null) {
    this.#fd = openSync(path, O_PATH | constants.O_DIRECTORY);
    try {
      this.root = this.#read(proofs);
    } catch (error) {
      closeSync(this.#fd);
      throw error;
    }
  }

  close(): void {
    if (this.#parent !== null) closeSync(this.#parent.fd);
    closeSync(this.#fd);
  }

  #read(proofs: ProvenNode | null): DiskNode {
    const root = makeNode(statAt(this.#fd, '')!, proofs);
    const pending: [path: string, node: DiskNode, known: ProvenNode | null][] = [['', root, proofs]];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const [path, node, known] = next;
      const names = node.proven ? [...known!.children!.keys()] : null;
      for (const [name, facts] of this.#look(path, names)) {
        const knownChild = known?.children?.get(name) ?? null;
        const child = makeNode(facts, knownChild);
        node.children!.set(name, child);
        if (child.children !== null) pending.push([joinPath(path, name), child, knownChild]);
      }
    }
    return root;
  }

  /** What these names in a directory are, or all that are there. */
  #look(path: string, names: readonly string[] | null): [name: string, facts: FileFacts][] {
    return withAccess(this.#fd, path, () => {
      const dir = openBeneath(this.#fd, path, DIRECTORY);
      try {
        const all = names ?? readdirSync(`/proc/self/fd/${dir}`, { encoding: 'latin1' });
        return all.flatMap((name) => {
          const facts = statAt(dir, name);
          return facts === null ? [] : [[name, facts] as const];
        });
      } finally {
        closeSync(dir);
      }
    });
  }

  /**
   * Writes what is not proven to the disk. Afterwards whoever has mapped a file into memory gets it another change time
   * by writing, as with a first write; until then the kernel does not see these.
   */
  flush(): void {
    for (const [path, { facts }] of this.unproven()) {
      if ((facts.mode & S_IFMT) !== S_IFREG) continue;
      const file = this.#openFile(path);
      try {
        fdatasyncSync(file);
      } finally {
        closeSync(file);
      }
    }
  }

  /** Everything that may have changed, by path. */
  unproven(): Map<string, DiskNode> {
    const found = new Map<string, DiskNode>();
    const pending: [path: string, node: DiskNode][] = [['', this.root]];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const [path, node] = next;
      if (!node.proven) found.set(path, node);
      for (const [name, child] of node.children ?? []) pending.push([joinPath(path, name), child]);
    }
    return found;
  }

  /** Is it the inode that was found, unchanged? */
  isStill(path: string, { facts }: DiskNode): boolean {
    const slash = path.lastIndexOf('/');
    const [found] = this.#look(path.slice(0, Math.max(slash, 0)), [path.slice(slash + 1)]);
    const now = found?.[1] ?? null;
    if (now === null || !isUnreadable(facts)) return now !== null && isUnchanged(now, facts);
    // The time of its last change is ours: we have lent ourselves the permission.
    const { mode, size, inode, mtime, mtimeNsec } = facts;
    return (
      now.mode === mode &&
      now.size === size &&
      now.inode === inode &&
      now.mtime === mtime &&
      now.mtimeNsec === mtimeNsec
    );
  }

  #openFile(path: string): number {
    return withAccess(this.#fd, path, () =>
      openBeneath(this.#fd, path, constants.O_RDONLY | constants.O_NONBLOCK),
    );
  }

  /** What an mtree file would say of it. */
  keywords(path: string, { facts }: DiskNode, how: Thoroughness): Keyword[] {
    const type = facts.mode & S_IFMT;
    const target = type === S_IFLNK ? this.#readLink(path) : '';
    const xattrs = type === S_IFREG || type === S_IFDIR ? this.#readXattrs(path) : null;
    const digest = type === S_IFREG && how === 'digest' ? this.digest(path, 'sha256') : '';
    const all = keywordsOf({ ...facts, target, xattrs, digest });
    return how === 'digest' ? all : all.filter(([keyword]) => keyword !== 'sha256digest');
  }

  #readLink(path: string): string {
    return this.#inParent(path, (here) => readlinkSync(here, { encoding: 'latin1' }));
  }

  #readXattrs(path: string): Map<string, string> {
    return this.#inParent(path, (here) => {
      const xattrs = new Map<string, string>();
      for (const name of listXattrs(here)) {
        const value = getXattr(here, name);
        if (value !== null) xattrs.set(name, value);
      }
      return xattrs;
    });
  }

  /** Of the data of a regular file, hex. */
  digest(path: string, algorithm: string): string {
    const known = algorithm === 'sha256' ? this.#digests.get(path) : undefined;
    return known ?? this.#hasher.digest(this.#openFile(path), algorithm);
  }

  /**
   * Reads these files with several threads, so that their sha256 is known when it is asked for. What its owner may not
   * read is left for then, and so is everything when it is little.
   */
  async hash(files: Iterable<[path: string, node: DiskNode]>, signal?: AbortSignal): Promise<void> {
    const source = files[Symbol.iterator]();
    /** Paths of files, up to so many and so much that one of them more is the last. */
    const take = (count: number, bytes: number): string[] => {
      const paths: string[] = [];
      for (let size = 0; paths.length < count && size < bytes; ) {
        const { done, value } = source.next();
        if (done) break;
        const [path, { facts }] = value;
        if ((facts.mode & S_IFMT) !== S_IFREG || this.#digests.has(path)) continue;
        paths.push(path);
        size += facts.size;
      }
      return paths;
    };
    const waiting = take(FEW_FILES, FEW_BYTES);
    const more = take(1, 1);
    // Threads would only begin.
    if (more.length === 0) return;
    waiting.push(...more);
    const next = (): string[] | null => {
      signal?.throwIfAborted();
      const paths = waiting.length > 0 ? waiting.splice(0, BATCH_FILES) : take(BATCH_FILES, BATCH_BYTES);
      return paths.length === 0 ? null : paths;
    };
    await runInThreads<string[], (string | null)[]>({
      code: threadFile(import.meta.url, 'hash-worker'),
      data: { root: this.#fd } satisfies HashWorkerData,
      next,
      messageOf: (paths) => paths,
      onDone: (paths, digests) => {
        for (const [i, digest] of digests.entries())
          if (digest !== null) this.#digests.set(paths[i]!, digest);
      },
    });
  }

  /** Calls `use` with a path that leads through the open parent directory. */
  #inParent<T>(path: string, use: (here: Buffer) => T): T {
    const slash = path.lastIndexOf('/');
    const name = path.slice(slash + 1);
    return withAccess(this.#fd, path, () => {
      const dir = this.#openParent(path.slice(0, Math.max(slash, 0)));
      return use(Buffer.from(`/proc/self/fd/${dir}/${name === '' ? '.' : name}`, 'latin1'));
    });
  }

  /** The last one stays open: names mostly come directory by directory. */
  #openParent(path: string): number {
    if (this.#parent?.path === path) return this.#parent.fd;
    const fd = openBeneath(this.#fd, path, O_PATH | constants.O_DIRECTORY);
    if (this.#parent !== null) closeSync(this.#parent.fd);
    this.#parent = { path, fd };
    return fd;
  }
}

function makeNode(facts: FileFacts, known: ProvenNode | null): DiskNode {
  const isDir = (facts.mode & S_IFMT) === S_IFDIR;
  const proven = known !== null && (known.children !== null) === isDir && isUnchanged(facts, known);
  return { facts, children: isDir ? new Map() : null, proven, knownInode: known?.inode ?? null };
}

function isUnchanged(facts: FileFacts, proof: InodeProof): boolean {
  return facts.inode === proof.inode && facts.ctime === proof.ctime && facts.ctimeNsec === proof.ctimeNsec;
}
