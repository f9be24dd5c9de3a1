/** Makes nodes of what stands in directories of the host. */
import { readlinkSync } from 'node:fs';
import { displayByteString } from '../bytes/byte-string.ts';
import { VeneerError } from '../errors.ts';
import { FindingList } from '../findings.ts';
import { type FileFacts, statAt } from '../sys/stat.ts';
import { getXattr, listXattrs } from '../sys/xattr.ts';
import { DEFAULT_LIMITS, DIRECTORY_COST, type TreeLimits } from '../tree/build.ts';
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK, TreeNode } from '../tree/node.ts';
import { showPath } from '../tree/path.ts';
import { keepXattrs } from '../tree/xattrs.ts';
import type { DirectoryData } from './directory-data.ts';
import { ifThere, withAccess } from './lend-access.ts';
import {
  isWhiteoutDevice,
  NO_FACTS,
  type OverlayFacts,
  type OverlayNamespace,
  takeOverlayFacts,
} from './overlay-facts.ts';
import { type OwnerMaps, ownerInContainer } from './owners.ts';

export interface ReadOptions {
  /** It is the upper directory of an overlayfs that keeps its attributes there. */
  readonly overlay?: OverlayNamespace;
  /** Left out: owners are the same in the container. */
  readonly owners?: OwnerMaps;
  /** Attributes that say something about this host only are left out. Default: all stay that a layer can have. */
  readonly keepXattr?: (name: string) => boolean;
  /** Sees each inode under each of its names, with all that the kernel says of it. */
  readonly onNode?: (path: string, node: TreeNode, facts: FileFacts) => void;
  readonly signal?: AbortSignal;
  readonly limits?: TreeLimits;
}

/** A directory and what its attributes say of the names in it. */
export interface ReadDir {
  readonly path: string;
  readonly node: TreeNode;
  readonly depth: number;
  readonly facts: OverlayFacts;
}

export class InodeReader {
  readonly findings = new FindingList('rootfs');
  readonly #data: DirectoryData;
  readonly #options: ReadOptions;
  readonly #limits: TreeLimits;
  /** Inodes with several names. */
  readonly #linked = new Map<string, TreeNode>();
  #nodes = 0;

  constructor(data: DirectoryData, options: ReadOptions) {
    this.#data = data;
    this.#options = options;
    this.#limits = options.limits ?? DEFAULT_LIMITS;
  }

  readRoot(): ReadDir {
    const stats = statAt(this.#data.root, '')!;
    const node = new TreeNode(stats.mode);
    const facts = this.#describe(node, '', stats, `/proc/self/fd/${this.#data.root}/.`);
    node.opaque = facts.opaque;
    this.#options.onNode?.('', node, stats);
    return { path: '', node, depth: 0, facts };
  }

  /**
   * Puts what `name` is into the directory `dir`, open as `fd`; `path` is that of the name. Comes back with it when it
   * is a directory, whose names are still to be read. What has vanished was never there.
   */
  read(dir: ReadDir, name: string, path: string, fd: number): ReadDir | null {
    const stats = this.#reach(dir.path, () => statAt(fd, name));
    if (stats === null) return null;
    if (this.#options.overlay !== undefined && isWhiteoutDevice(stats)) {
      this.addWhiteout(dir.node, name, path);
      return null;
    }
    const type = stats.mode & S_IFMT;
    if (type === S_IFSOCK) {
      this.findings.add('rootfs/socket', 'a socket is left out: no layer can hold one', undefined, path);
      return null;
    }
    const key = type !== S_IFDIR && stats.nlink > 1 ? `${stats.device} ${stats.inode}` : null;
    const known = key === null ? undefined : this.#linked.get(key);
    if (known !== undefined) {
      this.#hold(1, path);
      dir.node.children!.set(name, known);
      this.#options.onNode?.(path, known, stats);
      return null;
    }
    this.#hold(type === S_IFDIR ? DIRECTORY_COST : 1, path);
    const node = new TreeNode(stats.mode);
    const facts = ifThere(() => this.#describe(node, path, stats, `/proc/self/fd/${fd}/${name}`));
    if (facts === null) return null;
    if (dir.facts.markedWhiteouts && facts.whiteout && stats.size === 0 && type === S_IFREG) {
      this.addWhiteout(dir.node, name, path);
      return null;
    }
    if (type === S_IFREG && stats.size > 0) {
      node.source = 0;
      node.at = this.#data.add(path, stats);
    }
    if (key !== null) this.#linked.set(key, node);
    dir.node.children!.set(name, node);
    this.#options.onNode?.(path, node, stats);
    if (type !== S_IFDIR) return null;
    this.#checkDepth(path, dir.depth + 1);
    node.opaque = facts.opaque;
    return { path, node, depth: dir.depth + 1, facts };
  }

  addWhiteout(dir: TreeNode, name: string, path: string): void {
    this.#hold(1, path);
    dir.whiteouts ??= new Set();
    dir.whiteouts.add(name);
  }

  /** Gives the node all that the inode has but its bytes and names. `here`: for calls that take a path. */
  #describe(node: TreeNode, path: string, stats: FileFacts, here: string): OverlayFacts {
    const { overlay, owners, keepXattr } = this.#options;
    const type = stats.mode & S_IFMT;
    node.mtime = stats.mtime;
    node.mtimeNsec = stats.mtimeNsec;
    const place = Buffer.from(here, 'latin1');
    if (type === S_IFREG) node.size = stats.size;
    else if (type === S_IFCHR || type === S_IFBLK) {
      node.devMajor = stats.rdevMajor;
      node.devMinor = stats.rdevMinor;
    } else if (type === S_IFLNK) {
      node.target = this.#reach(path, () => readlinkSync(place, { encoding: 'latin1' }));
      node.size = node.target.length;
    }
    const xattrs = this.#reach(path, () => readXattrs(place));
    const facts =
      overlay === undefined || xattrs === null
        ? NO_FACTS
        : takeOverlayFacts(path, stats.mode, xattrs, overlay);
    const owner = owners === undefined ? stats : ownerInContainer(path, stats, xattrs, owners);
    node.uid = owner.uid;
    node.gid = owner.gid;
    if (xattrs === null) return facts;
    for (const name of xattrs.keys()) if (keepXattr?.(name) === false) xattrs.delete(name);
    this.#hold(xattrs.size, path);
    node.xattrs = keepXattrs(xattrs, stats.mode, (name, reason) => {
      const message = `the attribute ${displayByteString(name)} is left out: ${reason}`;
      this.findings.add('rootfs/xattr-dropped', message, undefined, path);
    });
    return facts;
  }

  #reach<T>(path: string, look: () => T): T {
    return withAccess(this.#data.root, path, look);
  }

  #hold(nodes: number, path: string): void {
    this.#nodes += nodes;
    if (this.#nodes <= this.#limits.nodes) return;
    throw tooMuch(path, `${this.#limits.nodes} inodes, names and attributes`);
  }

  #checkDepth(path: string, depth: number): void {
    if (depth > this.#limits.depth) throw tooMuch(path, `${this.#limits.depth} directories deep`);
  }
}

function tooMuch(path: string, what: string): VeneerError {
  return new VeneerError('tree/limit', `Cannot read ${showPath(path)}: more than ${what}`);
}

function readXattrs(path: Buffer): Map<string, string> | null {
  const names = listXattrs(path);
  if (names.length === 0) return null;
  const xattrs = new Map<string, string>();
  for (const name of names) {
    const value = getXattr(path, name);
    if (value !== null) xattrs.set(name, value);
  }
  return xattrs;
}
