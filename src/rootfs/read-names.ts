/** Reads what became of some names in a directory, as a layer over what was there before. */
import { closeSync, constants } from 'node:fs';
import { openBeneath } from '../sys/open-beneath.ts';
import { joinPath, splitPath } from '../tree/path.ts';
import { settleWhiteouts } from '../tree/whiteout.ts';
import type { DirectoryData } from './directory-data.ts';
import type { InodeReader, ReadDir, ReadOptions } from './inode-reader.ts';
import { ifThere, withAccess } from './lend-access.ts';
import { type DirectoryTree, readBelow, readTree } from './read-directory.ts';

/** A name that may have changed; byte string from the root, '' for the root itself. */
export interface ChangedName {
  readonly path: string;
  /** With all that is and was in it. */
  readonly recursive: boolean;
}

/**
 * The layer that these names of `path` make: what is there now with all its attributes, a whiteout for what is not, and
 * an opaque directory with all that is in it where that may have changed. Directories on the way are implied.
 */
export function readChangedNames(
  path: string | Buffer,
  names: readonly ChangedName[],
  options: Omit<ReadOptions, 'overlay'> = {},
): Promise<DirectoryTree> {
  return readTree(path, options, async (reader, data) => {
    const root = reader.readRoot();
    root.node.implied = true;
    const changed = new ChangedNames(reader, data, root);
    for (const name of [...names].sort((a, b) => (a.path < b.path ? -1 : 1))) changed.add(name);
    await readBelow(reader, data, changed.whole, options.signal);
    settleWhiteouts(
      [],
      changed.opaque.map(({ node }) => node),
    );
    return root.node;
  });
}

class ChangedNames {
  /** Directories of which all is to be read. */
  readonly whole: ReadDir[] = [];
  readonly opaque: ReadDir[] = [];
  readonly #reader: InodeReader;
  readonly #data: DirectoryData;
  readonly #root: ReadDir;
  /** By path: directories that were met. */
  readonly #dirs = new Map<string, ReadDir>();

  constructor(reader: InodeReader, data: DirectoryData, root: ReadDir) {
    this.#reader = reader;
    this.#data = data;
    this.#root = root;
  }

  add({ path, recursive }: ChangedName): void {
    let dir = this.#root;
    const parts = splitPath(path);
    for (const [at, name] of parts.entries()) {
      // All of it will be read.
      if (dir.node.opaque) return;
      const next = this.#step(dir, name, at === parts.length - 1);
      if (next === null) return;
      dir = next;
    }
    dir.node.implied = false;
    if (!recursive || dir.node.opaque) return;
    dir.node.opaque = true;
    dir.node.whiteouts = null;
    this.opaque.push(dir);
    this.whole.push(dir);
  }

  /** The directory `name`, or null when the way ends there. */
  #step(dir: ReadDir, name: string, last: boolean): ReadDir | null {
    const path = joinPath(dir.path, name);
    const known = this.#dirs.get(path);
    if (known !== undefined) return known;
    if (dir.node.children!.has(name) || dir.node.whiteouts?.has(name)) return null;
    const flags = constants.O_RDONLY | constants.O_DIRECTORY;
    const fd = ifThere(() =>
      withAccess(this.#data.root, dir.path, () => openBeneath(this.#data.root, dir.path, flags)),
    );
    if (fd === null) return null;
    try {
      const found = this.#reader.read(dir, name, path, fd);
      if (found === null) {
        // Nothing is there, or what no layer can hold.
        if (!dir.node.children!.has(name)) this.#reader.addWhiteout(dir.node, name, path);
        return null;
      }
      if (!last) found.node.implied = true;
      this.#dirs.set(path, found);
      return found;
    } finally {
      closeSync(fd);
    }
  }
}
