/** What was changed in the root file system of a bundle since its mtree file was written. */
import { isPortableXattr } from '../rootfs/host-tree.ts';
import { S_IFDIR, S_IFMT } from '../tree/node.ts';
import { joinPath } from '../tree/path.ts';
import type { DiskNode, DiskTree } from './disk-tree.ts';
import { compareKeywords } from './mtree/compare.ts';
import { type Keywords, parseMtree } from './mtree/parse.ts';
import { decodeVis } from './mtree/vis.ts';

export type Change = 'modified' | 'extra' | 'missing';

export interface Changes {
  /** By path, sorted; of what is missing only the topmost name. */
  readonly changes: ReadonlyMap<string, Change>;
  /** Directories of which all that is there is new or changed, and two names or more are missing. */
  readonly replaced: ReadonlySet<string>;
}

/** Everything that an mtree file says. */
export class MtreeFile {
  readonly #text: string;
  #parsed: Map<string, Keywords> | null = null;

  constructor(bytes: Buffer) {
    this.#text = bytes.toString('latin1');
  }

  /** All names with their keywords. */
  entries(): Map<string, Keywords> {
    this.#parsed ??= parseMtree(this.#text);
    return this.#parsed;
  }

  /** The names in `paths` have their keywords. */
  some(paths: ReadonlySet<string>): Map<string, Keywords> {
    return this.#parsed ?? parseMtree(this.#text, paths);
  }
}

/**
 * Compares `disk` with `mtree`. `isMasked` tells names that do not count. An inode that is proven is not looked at; the
 * data of a file is read only when nothing else tells that it was changed.
 */
export async function findChanges(
  disk: DiskTree,
  mtree: MtreeFile,
  isMasked: (path: string) => boolean,
  signal?: AbortSignal,
): Promise<Changes> {
  const doubtful = disk.unproven();
  const allProven = [...doubtful.values()].every(({ children }) => children === null);
  const found = new Map<string, Change>();
  if (doubtful.size === 0) return { changes: found, replaced: new Set() };
  const known = mtree.some(new Set(doubtful.keys()));
  const unread: string[] = [];
  // Compared while others are read.
  function* alikeButForData(): Generator<[path: string, node: DiskNode]> {
    for (const [path, node] of doubtful) {
      const keywords = known.get(path);
      if (keywords === undefined) found.set(path, 'extra');
      else if (isModified(disk, path, node, keywords)) found.set(path, 'modified');
      else if (keywords.has('sha256digest')) {
        unread.push(path);
        yield [path, node];
      }
    }
  }
  await disk.hash(alikeButForData(), signal);
  for (const path of unread) {
    if (known.get(path)!.get('sha256digest') !== disk.digest(path, 'sha256')) found.set(path, 'modified');
  }
  addOtherNames(disk.root, found);
  // Where all directories are proven, no name can be missing.
  if (!allProven)
    for (const path of known.keys()) if (lookUp(disk.root, path) === null) found.set(path, 'missing');
  const changes = new Map<string, Change>();
  /** Something that does not count is missing below these: it stays in the image. */
  const kept = new Set<string>();
  for (const path of [...found.keys()].sort()) {
    const change = found.get(path)!;
    if (isMasked(path)) for (const dir of parentsOf(path)) kept.add(dir);
    else if (change !== 'missing' || isTopmost(disk.root, path)) changes.set(path, change);
  }
  const replaced = [...findReplaced(disk.root, changes, isMasked)].filter((path) => !kept.has(path));
  return { changes, replaced: new Set(replaced) };
}

/** Says nothing of a directory that depends on the file system it is on. */
function counts(keyword: string, isDir: boolean): boolean {
  if (isDir && (keyword === 'size' || keyword === 'nlink')) return false;
  return !keyword.startsWith('xattr.') || isPortableXattr(decodeVis(keyword.slice(6)));
}

/** By all but the data of a file. */
function isModified(disk: DiskTree, path: string, node: DiskNode, expected: Keywords): boolean {
  const { facts, knownInode } = node;
  const isDir = (facts.mode & S_IFMT) === S_IFDIR;
  // Another inode with other names: which names belong together may have changed.
  if (!isDir && facts.nlink > 1 && knownInode !== null && knownInode !== facts.inode) return true;
  const found = disk.keywords(path, node, 'stat');
  const isCompared = (keyword: string): boolean => keyword !== 'sha256digest' && counts(keyword, isDir);
  return compareKeywords(expected, found, isCompared).length > 0;
}

/** Of an inode that is in the layer under one of its names, all are: a layer cannot link to a lower one's file. */
function addOtherNames(root: DiskNode, found: Map<string, Change>): void {
  const inodeOf = ({ facts }: DiskNode): string => `${facts.device} ${facts.inode}`;
  const isLinked = ({ facts, children }: DiskNode): boolean => children === null && facts.nlink > 1;
  const inodes = new Set<string>();
  for (const path of found.keys()) {
    const node = lookUp(root, path)!;
    if (isLinked(node)) inodes.add(inodeOf(node));
  }
  if (inodes.size === 0) return;
  const pending: [path: string, node: DiskNode][] = [['', root]];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const [path, node] = next;
    if (isLinked(node) && inodes.has(inodeOf(node)) && !found.has(path)) found.set(path, 'modified');
    for (const [name, child] of node.children ?? []) pending.push([joinPath(path, name), child]);
  }
}

function lookUp(root: DiskNode, path: string): DiskNode | null {
  let node: DiskNode | undefined = root;
  if (path === '') return root;
  for (const name of path.split('/')) {
    node = node.children?.get(name);
    if (node === undefined) return null;
  }
  return node;
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(path.lastIndexOf('/'), 0));
}

function* parentsOf(path: string): Generator<string> {
  for (let at = path; at !== ''; at = parentOf(at)) yield parentOf(at);
}

/** Whether the directory that a missing name was in is there, and still a directory: otherwise nothing is to be said. */
function isTopmost(root: DiskNode, path: string): boolean {
  const parent = lookUp(root, parentOf(path));
  return parent !== null && parent.children !== null;
}

function findReplaced(
  root: DiskNode,
  changes: ReadonlyMap<string, Change>,
  isMasked: (path: string) => boolean,
): Set<string> {
  const missing = new Map<string, number>();
  for (const [path, change] of changes) {
    if (change !== 'missing') continue;
    const parent = parentOf(path);
    missing.set(parent, (missing.get(parent) ?? 0) + 1);
  }
  const isNew = (path: string, node: DiskNode): boolean => {
    const change = changes.get(path);
    if (isMasked(path) || change === undefined || (change === 'modified' && node.children !== null))
      return false;
    return [...(node.children ?? [])].every(([name, child]) => isNew(joinPath(path, name), child));
  };
  const replaced = new Set<string>();
  for (const [path, count] of missing) {
    if (count < 2 || path === '') continue;
    const dir = lookUp(root, path)!;
    if ([...dir.children!].every(([name, child]) => isNew(joinPath(path, name), child))) replaced.add(path);
  }
  return replaced;
}
