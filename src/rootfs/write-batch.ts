/** What of a tree one thread writes at a time: some directories with the files in them, in a form that is cheap to send. */
import type { Extent, TreeNode } from '../tree/node.ts';

/** Numbers a file. */
export const FACTS = 10;

/** Directories in the order they are made, parents before children, and their files. */
export interface WriteBatch {
  /** From the root, byte strings; '' for the root. */
  readonly paths: string[];
  /** How many of the files are in each. */
  readonly counts: number[];
  readonly names: string[];
  /** A row of {@link FACTS} numbers a file; see {@link readFacts}. */
  readonly facts: Float64Array;
  /** By index of the file: symlinks. */
  readonly targets: Map<number, string>;
  readonly xattrs: Map<number, Map<string, string>>;
  /** Files whose data is not one run. */
  readonly extents: Map<number, Extent[]>;
}

/** What there is to say of the files of a batch once they are written. */
export interface WrittenBatch {
  /** sha256 of regular files, hex; '' for others. Empty when nobody asked. */
  readonly digests: string[];
  /** Inode number, change time in seconds and in nanoseconds from there. */
  readonly inodes: BigUint64Array;
  readonly ctimes: Float64Array;
  /** Bytes of file data that share blocks with where they come from. */
  readonly shared: number;
  readonly problems: WriteProblem[];
}

/** Something that could not be done as the tree says; the file is there otherwise, unless `what` is `file`. */
export interface WriteProblem {
  /** Byte string from the root. */
  readonly path: string;
  /** `owner`, `mode`, `times`, `xattr NAME`, or `file`: it was not made at all. */
  readonly what: string;
  /** Of the system call, `ENOTSUP` and such; '' when there was none. */
  readonly errno: string;
  readonly message: string;
}

export interface FileFactsRow {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: number;
  readonly mtimeNsec: number;
  readonly size: number;
  readonly source: number;
  readonly at: number;
  readonly devMajor: number;
  readonly devMinor: number;
}

export function readFacts({ facts }: WriteBatch, index: number): FileFactsRow {
  const row = index * FACTS;
  return {
    mode: facts[row]!,
    uid: facts[row + 1]!,
    gid: facts[row + 2]!,
    mtime: facts[row + 3]!,
    mtimeNsec: facts[row + 4]!,
    size: facts[row + 5]!,
    source: facts[row + 6]!,
    at: facts[row + 7]!,
    devMajor: facts[row + 8]!,
    devMinor: facts[row + 9]!,
  };
}

/** A batch and the nodes that its files are, for what comes back. */
export interface PlannedBatch {
  readonly batch: WriteBatch;
  readonly nodes: readonly TreeNode[];
}

/** Collects directories and files until they are enough for a batch. */
export class BatchBuilder {
  readonly #paths: string[] = [];
  readonly #counts: number[] = [];
  readonly #names: string[] = [];
  readonly #nodes: TreeNode[] = [];

  get size(): number {
    return this.#nodes.length + this.#paths.length;
  }

  addDirectory(path: string): void {
    this.#paths.push(path);
    this.#counts.push(0);
  }

  /** A file of the directory that was added last. */
  addFile(name: string, node: TreeNode): void {
    this.#names.push(name);
    this.#nodes.push(node);
    this.#counts[this.#counts.length - 1]!++;
  }

  finish(): PlannedBatch {
    const facts = new Float64Array(this.#nodes.length * FACTS);
    const targets = new Map<number, string>();
    const xattrs = new Map<number, Map<string, string>>();
    const extents = new Map<number, Extent[]>();
    this.#nodes.forEach((node, index) => {
      const { mode, uid, gid, mtime, mtimeNsec, size, source, at, devMajor, devMinor } = node;
      facts.set([mode, uid, gid, mtime, mtimeNsec, size, source, at, devMajor, devMinor], index * FACTS);
      if (node.target !== '') targets.set(index, node.target);
      if (node.xattrs !== null) xattrs.set(index, node.xattrs);
      if (node.extents !== null) extents.set(index, node.extents);
    });
    const batch = {
      paths: this.#paths,
      counts: this.#counts,
      names: this.#names,
      facts,
      targets,
      xattrs,
      extents,
    };
    return { batch, nodes: this.#nodes };
  }
}
