/**
 * Builds one layer's tree from its tar entries, in archive order.
 *
 * What counts is the tree that unpacking the archive would leave: the last entry
 * of a name wins, links follow what is there at that moment. Only whiteouts are
 * outside that order. The choices are argued in docs/decisions/0001 to 0005.
 */
import { VeneerError } from '../errors.ts';
import { FindingList } from '../findings.ts';
import type { TarEntry } from '../tar/entry.ts';
import { Descent } from './descent.ts';
import {
  type DataSource,
  type FileTree,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  TreeNode,
} from './node.ts';
import { checkName, cleanPath, hasDotDot, joinPath, showPath, splitPath, TARGET_MAX } from './path.ts';
import { parseWhiteout, settleWhiteouts, WHITEOUT_PREFIX } from './whiteout.ts';
import { keepXattrs } from './xattrs.ts';

/** What a directory gets that nobody describes. */
export const DEFAULT_DIR_MODE = S_IFDIR | 0o755;

/** Bounds on what one layer may make us hold in memory; an archive of a few megabytes can unfold to anything. */
export interface TreeLimits {
  /** Directories on the way to an entry, the root not counted. */
  readonly depth: number;
  /** Inodes, further names of inodes, whiteouts and extended attributes, replaced ones included; a directory is {@link DIRECTORY_COST}. */
  readonly nodes: number;
  /** Bytes of names, link targets and extended attributes, replaced ones included. */
  readonly text: number;
}

/**
 * Deeper paths than the first a kernel cannot name in one call (PATH_MAX / 2). The others keep a layer with its plan
 * below 4 GB, what the runtime gives a process by default.
 */
export const DEFAULT_LIMITS: TreeLimits = { depth: 2048, nodes: 4_000_000, text: 256 << 20 };

/** A directory takes the memory of so many files. */
export const DIRECTORY_COST = 3;

const SLASH = 0x2f;
const DOT = 0x2e;

export class TreeBuilder {
  private readonly root = new TreeNode(DEFAULT_DIR_MODE);
  private readonly source: DataSource;
  private readonly limits: TreeLimits;
  private readonly findings = new FindingList('tree');
  /** Leads to parents; stays at the last one, so that the next need not start at the root. */
  private readonly descent: Descent;
  private readonly linkDescent: Descent;
  /** The last entry's parent as its name spells it, and the directory it led to: neighbours share it. */
  private parentName: string | null = '';
  private parent: TreeNode;
  private nodes = 1;
  private text = 0;
  /** Directories that took the place of something else in this layer: what lower layers have there was removed. */
  private readonly fresh = new Set<TreeNode>();
  private readonly withWhiteouts: TreeNode[] = [];
  private readonly opaque: TreeNode[] = [];
  private readonly lowerLinks: { readonly path: string; readonly entry: string; readonly offset: number }[] =
    [];

  /** `source` becomes `sources[0]` of the tree: the tar that payload offsets point into. */
  constructor(
    source: DataSource = { kind: 'tar', digest: '', size: 0, alignment: 512 },
    limits: TreeLimits = DEFAULT_LIMITS,
  ) {
    this.source = source;
    this.limits = limits;
    this.root.implied = true;
    this.parent = this.root;
    this.descent = new Descent(this.root);
    this.linkDescent = new Descent(this.root);
  }

  /**
   * Adds one member. Returns the node of a regular file, so that a writer may
   * move its data, else null. Throws `tree/invalid` for what no file system can
   * hold, `tree/limit` for what is too much.
   */
  add(entry: TarEntry): TreeNode | null {
    const raw = entry.path;
    let end = raw.length;
    while (end > 0 && raw.charCodeAt(end - 1) === SLASH) end--;
    const slash = end === 0 ? -1 : raw.lastIndexOf('/', end - 1);
    const name = raw.slice(slash + 1, end);
    if (name === '' || name === '.' || name === '..') return this.addOdd(entry);
    const length = Math.max(slash, 0);
    if (this.parentName === null || this.parentName.length !== length || !raw.startsWith(this.parentName)) {
      const parentName = raw.slice(0, length);
      const parent = this.findParent(parentName, entry, isWhiteout(name));
      if (parent === null) return null;
      this.parentName = parentName;
      this.parent = parent;
    }
    return this.place(this.parent, name, entry);
  }

  /** The layer's tree. The builder must not be used afterwards. */
  finish(): FileTree {
    settleWhiteouts(this.withWhiteouts, this.opaque);
    for (const { path, entry, offset } of this.lowerLinks) {
      if (!hasName(this.root, path)) continue;
      const message = `the target of this hard link, ${showPath(path)}, comes later in the layer: the link means what a lower layer has there`;
      this.findings.add('tree/link-forward', message, offset, entry);
    }
    return { root: this.root, sources: [this.source], findings: this.findings.list() };
  }

  /** Names that end in `.` or `..`, or that are the root itself. */
  private addOdd(entry: TarEntry): TreeNode | null {
    const parts = cleanPath(entry.path);
    const name = parts.pop();
    if (hasDotDot(entry.path)) this.findDotDot(entry, 'name');
    if (name === undefined) {
      if (entry.type !== 'dir') {
        throw new VeneerError(
          'tree/invalid',
          `Cannot add '/': the root is a directory and cannot become a ${entry.type} (entry at offset ${entry.headerOffset})`,
        );
      }
      this.setAttributes(this.root, S_IFDIR, entry);
      this.root.implied = false;
      return null;
    }
    const parent = this.findParent(parts.join('/'), entry, isWhiteout(name));
    // What this entry replaces may be the parent that the last one had.
    this.parentName = null;
    return parent === null ? null : this.place(parent, name, entry);
  }

  /**
   * The directory that `path` leads to, made where it is missing. Null when the
   * entry says nothing: below a whiteout, or a whiteout below a file of this layer.
   */
  private findParent(path: string, entry: TarEntry, whiteout: boolean): TreeNode | null {
    const descent = this.descent;
    const parts = this.startParent(path, entry);
    if (parts.some(isWhiteout)) {
      this.find('tree/whiteout-ignored', 'a name below a whiteout means nothing', entry);
      return null;
    }
    for (let stop = descent.run(); stop !== 'end'; stop = descent.run()) {
      const name = this.ownText(descent.name, entry);
      if (isWhiteout(name)) {
        this.find('tree/whiteout-ignored', 'a symbolic link leads this name below a whiteout', entry);
        return null;
      }
      if (stop === 'blocked' && whiteout) {
        this.find(
          'tree/whiteout-ignored',
          'this layer has a file where the whiteout expects a directory',
          entry,
        );
        return null;
      }
      checkName(name, entry.headerOffset);
      const dir = this.newNode(DEFAULT_DIR_MODE, entry);
      if (stop === 'blocked') {
        this.find(
          'tree/parent-replaced',
          `${showPath(joinPath(descent.path(), name))} was no directory and is one now`,
          entry,
        );
        this.makeFresh(dir);
      } else {
        dir.implied = true;
      }
      descent.dir.children!.set(name, dir);
      descent.enter(name, dir);
    }
    if (descent.names.length > this.limits.depth) {
      throw new VeneerError(
        'tree/limit',
        `Cannot add ${showPath(entry.path)}: more than ${this.limits.depth} directories deep (entry at offset ${entry.headerOffset})`,
      );
    }
    if (descent.links > 0) {
      this.find(
        'tree/symlink-parent',
        `a parent is a symbolic link: the entry stands in ${showPath(descent.path())}`,
        entry,
      );
    }
    return descent.dir;
  }

  /** Sets the descent off to `path`; returns the components it has still to go. */
  private startParent(path: string, entry: TarEntry): string[] {
    const descent = this.descent;
    if (hasDotDot(path)) {
      this.findDotDot(entry, 'name');
      const parts = cleanPath(path);
      descent.start(parts);
      return parts;
    }
    // Archives go from neighbour to neighbour: keep the directories that both paths begin with.
    let at = path.startsWith('./') ? 2 : path.charCodeAt(0) === SLASH ? 1 : 0;
    let keep = 0;
    for (; keep < descent.names.length; keep++) {
      const name = descent.names[keep]!;
      const end = at + name.length;
      if (!path.startsWith(name, at) || (end < path.length && path.charCodeAt(end) !== SLASH)) break;
      at = end + 1;
    }
    const parts = splitPath(path.slice(at));
    descent.start(parts, keep);
    return parts;
  }

  private place(parent: TreeNode, lastName: string, entry: TarEntry): TreeNode | null {
    const name = this.ownText(lastName, entry);
    if (name.charCodeAt(0) === DOT && isWhiteout(name)) {
      this.addWhiteout(parent, name, entry);
      return null;
    }
    checkName(name, entry.headerOffset);
    const existing = parent.children!.get(name);
    switch (entry.type) {
      case 'dir':
        this.addDir(parent, name, existing, entry);
        return null;
      case 'link':
        this.addLink(parent, name, existing, entry);
        return null;
      case 'symlink':
        this.addSymlink(parent, name, existing, entry);
        return null;
      case 'file': {
        const node = this.newNode(S_IFREG, entry);
        this.setAttributes(node, S_IFREG, entry);
        setData(node, entry);
        this.put(parent, name, existing, node, entry);
        return node;
      }
      default:
        this.addSpecial(parent, name, existing, entry);
        return null;
    }
  }

  private addDir(parent: TreeNode, name: string, existing: TreeNode | undefined, entry: TarEntry): void {
    if (existing !== undefined && (existing.mode & S_IFMT) === S_IFDIR) {
      this.setAttributes(existing, S_IFDIR, entry);
      existing.implied = false;
      return;
    }
    const node = this.newNode(S_IFDIR, entry);
    this.setAttributes(node, S_IFDIR, entry);
    if (existing !== undefined) this.makeFresh(node);
    this.put(parent, name, existing, node, entry);
  }

  private addSymlink(parent: TreeNode, name: string, existing: TreeNode | undefined, entry: TarEntry): void {
    const target = entry.linkPath;
    if (target.length === 0 || target.length > TARGET_MAX || target.includes('\0')) {
      const reason =
        target.length === 0
          ? 'it has no target'
          : target.length > TARGET_MAX
            ? `its target has ${target.length} bytes, at most ${TARGET_MAX} are possible`
            : 'its target holds a NUL byte';
      throw new VeneerError(
        'tree/invalid',
        `Cannot add the symbolic link ${showPath(entry.path)}: ${reason} (entry at offset ${entry.headerOffset})`,
      );
    }
    const node = this.newNode(S_IFLNK, entry);
    this.setAttributes(node, S_IFLNK, entry);
    node.mode = S_IFLNK | 0o777;
    node.target = target;
    node.size = target.length;
    this.holdText(target.length, entry);
    this.put(parent, name, existing, node, entry);
  }

  private addSpecial(parent: TreeNode, name: string, existing: TreeNode | undefined, entry: TarEntry): void {
    const type = entry.type === 'char' ? S_IFCHR : entry.type === 'block' ? S_IFBLK : S_IFIFO;
    const node = this.newNode(type, entry);
    this.setAttributes(node, type, entry);
    if (type !== S_IFIFO) {
      node.devMajor = entry.devMajor;
      node.devMinor = entry.devMinor;
    }
    if (type === S_IFCHR && node.devMajor === 0 && node.devMinor === 0) {
      this.find(
        'tree/device-whiteout',
        'a character device 0:0, which overlayfs takes for a deletion',
        entry,
      );
    }
    this.put(parent, name, existing, node, entry);
  }

  /** A hard link gets no attributes of its own: it is another name of an inode that has them. */
  private addLink(parent: TreeNode, name: string, existing: TreeNode | undefined, entry: TarEntry): void {
    if (hasDotDot(entry.linkPath)) this.findDotDot(entry, 'target');
    const parts = cleanPath(entry.linkPath);
    const last = parts.pop();
    if (last === undefined) throw this.linkError(entry, 'its target is the root directory');
    const descent = this.linkDescent;
    descent.start(parts);
    const stop = descent.run();
    const dirs = descent.dirs;
    const at = dirs.indexOf(parent);
    // Making the link would first remove what has its name, and so the target.
    const through =
      at >= 0 && (at + 1 < dirs.length ? descent.names[at] : stop === 'end' ? null : descent.name) === name;
    if (through) throw this.linkError(entry, 'its target is below the link itself');
    if (stop === 'blocked') throw this.linkError(entry, 'a parent of its target is no directory');
    if (stop === 'end') {
      if (descent.dir === parent && last === name) {
        this.find('tree/link-self', 'a hard link to itself means nothing', entry);
        return;
      }
      const target = descent.dir.children!.get(last);
      if (target !== undefined) {
        if ((target.mode & S_IFMT) === S_IFDIR) throw this.linkError(entry, 'its target is a directory');
        this.hold(1, entry);
        if (target !== existing) this.put(parent, name, existing, target, entry);
        return;
      }
    }
    if (dirs.some((dir) => this.fresh.has(dir)))
      throw this.linkError(entry, 'this layer has removed its target');
    const rest = stop === 'missing' ? [descent.name, ...descent.pending.reverse()] : [];
    const path = cleanPath([...descent.names, ...rest, last].join('/')).join('/');
    const node = this.newNode(S_IFREG, entry);
    this.setAttributes(node, S_IFREG, entry);
    node.lowerLink = path;
    const own = cleanPath(entry.path).join('/');
    this.holdText(path.length + own.length, entry);
    this.lowerLinks.push({ path, entry: own, offset: entry.headerOffset });
    this.put(parent, name, existing, node, entry);
  }

  private linkError(entry: TarEntry, reason: string): VeneerError {
    return new VeneerError(
      'tree/invalid',
      `Cannot link ${showPath(entry.path)} to ${showPath(entry.linkPath)}: ${reason} (entry at offset ${entry.headerOffset})`,
    );
  }

  private addWhiteout(parent: TreeNode, name: string, entry: TarEntry): void {
    const meaning = parseWhiteout(name);
    switch (meaning.kind) {
      case 'remove':
        checkName(meaning.name, entry.headerOffset);
        this.hold(1, entry);
        if (parent.whiteouts === null) {
          parent.whiteouts = new Set();
          this.withWhiteouts.push(parent);
        }
        parent.whiteouts.add(meaning.name);
        return;
      case 'opaque':
        parent.opaque = true;
        this.opaque.push(parent);
        return;
      case 'internal':
        this.find('tree/whiteout-ignored', "aufs's own bookkeeping, no part of the image", entry);
        return;
      case 'invalid':
        this.find('tree/whiteout-invalid', 'a whiteout of no name', entry);
    }
  }

  /** Gives `node` the name, whatever has it now. */
  private put(
    parent: TreeNode,
    name: string,
    existing: TreeNode | undefined,
    node: TreeNode,
    entry: TarEntry,
  ): void {
    if (existing !== undefined) {
      this.find('tree/duplicate', 'replaces what an earlier entry of this layer put there', entry);
      // Through symlinks this may have been on the way to the parent itself.
      this.parentName = null;
    }
    parent.children!.set(name, node);
  }

  private makeFresh(dir: TreeNode): void {
    dir.opaque = true;
    this.opaque.push(dir);
    this.fresh.add(dir);
  }

  private newNode(mode: number, entry: TarEntry): TreeNode {
    this.hold((mode & S_IFMT) === S_IFDIR ? DIRECTORY_COST : 1, entry);
    return new TreeNode(mode);
  }

  /** Counts what `entry` makes us keep. */
  private hold(nodes: number, entry: TarEntry): void {
    this.nodes += nodes;
    if (this.nodes > this.limits.nodes)
      throw this.limitError(entry, `${this.limits.nodes} inodes, names and attributes`);
  }

  private holdText(bytes: number, entry: TarEntry): void {
    this.text += bytes;
    if (this.text > this.limits.text)
      throw this.limitError(entry, `${this.limits.text} bytes of names, link targets and attributes`);
  }

  private limitError(entry: TarEntry, limit: string): VeneerError {
    return new VeneerError(
      'tree/limit',
      `Cannot add ${showPath(entry.path)}: more than ${limit} in one layer (entry at offset ${entry.headerOffset})`,
    );
  }

  /** A name of the tree: counted, and copied when as a slice it would keep a path alive that is much longer. */
  private ownText(name: string, entry: TarEntry): string {
    this.holdText(name.length, entry);
    return entry.path.length > 4 * name.length + 64 ? Buffer.from(name, 'latin1').toString('latin1') : name;
  }

  private setAttributes(node: TreeNode, type: number, entry: TarEntry): void {
    node.mode = type | (entry.mode & 0o7777);
    node.uid = entry.uid;
    node.gid = entry.gid;
    node.mtime = entry.mtime;
    node.mtimeNsec = entry.mtimeNsec;
    node.xattrs = null;
    if (entry.xattrs === null) return;
    let bytes = 0;
    for (const [name, value] of entry.xattrs) bytes += name.length + value.length;
    this.hold(entry.xattrs.size, entry);
    this.holdText(bytes, entry);
    node.xattrs = this.keepXattrs(entry.xattrs, type, entry);
  }

  private keepXattrs(xattrs: Map<string, string>, type: number, entry: TarEntry): Map<string, string> | null {
    return keepXattrs(xattrs, type, (name, reason) => {
      this.find(
        'tree/xattr-dropped',
        `the attribute ${showPath(name).slice(2, -1)} is left out: ${reason}`,
        entry,
      );
    });
  }

  private findDotDot(entry: TarEntry, where: 'name' | 'target'): void {
    this.find('tree/dot-dot', `'..' in the ${where}, resolved inside the root`, entry);
  }

  private find(code: string, message: string, entry: TarEntry): void {
    this.findings.add(code, message, entry.headerOffset, cleanPath(entry.path).join('/'));
  }
}

function isWhiteout(name: string): boolean {
  return name.startsWith(WHITEOUT_PREFIX);
}

/** Is there such a name, symlinks not followed? `path` is clean. */
function hasName(root: TreeNode, path: string): boolean {
  let node: TreeNode | undefined = root;
  for (const part of path.split('/')) {
    node = node.children?.get(part);
    if (node === undefined) return false;
  }
  return true;
}

/** Points the node at its bytes in the tar. */
function setData(node: TreeNode, entry: TarEntry): void {
  node.size = entry.size;
  if (entry.sparse === null) {
    if (entry.size > 0) {
      node.source = 0;
      node.at = entry.payloadOffset;
    }
  } else if (entry.sparse.length > 0) {
    node.source = 0;
    node.extents = entry.sparse.map(({ offset, length, source }) => ({
      offset,
      length,
      source: 0,
      at: source,
    }));
  }
}
