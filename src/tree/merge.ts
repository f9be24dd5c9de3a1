/**
 * Merges layers into the tree that applying them one after the other leaves
 * (OCI image spec, layer.md, "Applying Changesets"). docs/decisions/0006.
 */
import { type Finding, VeneerError } from '../errors.ts';
import { FindingList } from '../findings.ts';
import { DEFAULT_DIR_MODE } from './build.ts';
import { Descent } from './descent.ts';
import { lookupParts } from './lookup.ts';
import { type DataSource, type FileTree, S_IFDIR, S_IFLNK, S_IFMT, TreeNode } from './node.ts';
import { joinPath, showPath, splitPath } from './path.ts';

/**
 * What a layer's directory does to a lower layer's symlink to a directory. `replace`: takes its place, as overlayfs has
 * it. `follow`: entries go through it, as when layers are unpacked one over the other; a directory that the layer
 * itself describes takes its place. `keep`: entries go through it in any case (umoci's --keep-dirlinks).
 */
export type LinkPolicy = 'replace' | 'follow' | 'keep';

/**
 * The image of `layers`, bottom-up. Consumes them: their nodes live on in the
 * result, data references rewritten to its sources. Sources with the same digest
 * are one. Throws `tree/invalid` for a hard link whose target no layer below has.
 */
export function mergeLayers(layers: readonly FileTree[], links: LinkPolicy = 'replace'): FileTree {
  const merge = new LayerMerge(links);
  for (const layer of layers) merge.add(layer);
  return merge.tree();
}

/** The same one layer at a time. Nodes that a layer leaves alone stay the same objects. */
export class LayerMerge {
  readonly root: TreeNode;
  readonly sources: DataSource[];
  readonly #links: LinkPolicy;
  readonly #findings: Finding[] = [];
  readonly #own = new FindingList('tree');

  /** `start`: a merged tree that the layers come upon; it is changed. */
  constructor(links: LinkPolicy = 'replace', start?: Pick<FileTree, 'root' | 'sources'>) {
    this.#links = links;
    this.root = start?.root ?? new TreeNode(DEFAULT_DIR_MODE);
    this.sources = [...(start?.sources ?? [])];
  }

  /** Consumes the layer. */
  add(layer: FileTree): void {
    for (const finding of layer.findings) this.#findings.push(finding);
    const flagged = prepare(layer, mapSources(this.sources, layer.sources), this.root);
    overlay(this.root, layer.root, this.#own, this.#links);
    // Some of these are in the result now; there they must say nothing any more.
    for (const dir of flagged) {
      dir.implied = false;
      dir.opaque = false;
      dir.whiteouts = null;
    }
  }

  tree(): FileTree {
    const findings = [...this.#findings, ...this.#own.list()];
    return { root: this.root, sources: this.sources, findings, merged: true };
  }
}

/** Adds what is new of `added` to `sources`; returns the new index of each. */
export function mapSources(sources: DataSource[], added: readonly DataSource[]): number[] {
  const identity = ({ kind, digest }: DataSource): string => `${kind} ${digest}`;
  const known = new Map(sources.map((source, index) => [identity(source), index]));
  return added.map((source) => {
    const index = source.digest === '' ? undefined : known.get(identity(source));
    if (index !== undefined) return index;
    const last = sources.push(source) - 1;
    known.set(identity(source), last);
    return last;
  });
}

/** Takes all attributes of one directory over to another. */
export function copyAttributes(from: TreeNode, to: TreeNode): void {
  to.mode = from.mode;
  to.uid = from.uid;
  to.gid = from.gid;
  to.mtime = from.mtime;
  to.mtimeNsec = from.mtimeNsec;
  to.xattrs = from.xattrs;
}

/** Points a node's data at other source indexes: `indexes[old]` is the new one. */
export function rewriteSources(node: TreeNode, indexes: readonly number[]): void {
  if (node.source >= 0) node.source = indexes[node.source]!;
  if (node.extents !== null) {
    node.extents = node.extents.map((extent) => ({ ...extent, source: indexes[extent.source]! }));
  }
}

/**
 * Makes a layer ready to lie on `below`: data references rewritten, hard links to
 * lower layers replaced by the inodes they mean, as long as `below` still is what
 * the layer found. Returns the directories that carry facts about lower layers.
 */
function prepare(layer: FileTree, indexes: readonly number[], below: TreeNode): TreeNode[] {
  const moved = indexes.some((to, from) => to !== from);
  // A hard-linked inode comes by once a name. Mostly its index tells that it is rewritten already.
  const done = indexes.every((to) => to >= indexes.length) ? null : new Set<TreeNode>();
  const flagged: TreeNode[] = [];
  const descent = new Descent(below);
  const dirs = [layer.root];
  const paths = [''];
  for (let dir = dirs.pop(); dir !== undefined; dir = dirs.pop()) {
    const path = paths.pop()!;
    if (dir.implied || dir.opaque || dir.whiteouts !== null) flagged.push(dir);
    for (const [name, node] of dir.children!) {
      if ((node.mode & S_IFMT) === S_IFDIR) {
        dirs.push(node);
        paths.push(joinPath(path, name));
      } else if (node.lowerLink !== null) {
        dir.children!.set(name, findLinkTarget(descent, node.lowerLink, joinPath(path, name)));
      } else if (moved) {
        const source = node.extents === null ? node.source : (node.extents[0]?.source ?? -1);
        if (source < 0 || (done === null ? source >= indexes.length : done.has(node))) continue;
        done?.add(node);
        rewriteSources(node, indexes);
      }
    }
  }
  return flagged;
}

/** The inode that a hard link at `path` to `target` in the lower layers means. */
export function findLinkTarget(descent: Descent, target: string, path: string): TreeNode {
  const node = lookupParts(descent, splitPath(target), false);
  if (node !== null && (node.mode & S_IFMT) !== S_IFDIR) return node;
  throw new VeneerError(
    'tree/invalid',
    `Cannot link ${showPath(path)} to ${showPath(target)}: ${
      node === null
        ? 'neither its layer nor a lower one has such a file before it'
        : 'the lower layers have a directory there'
    }`,
  );
}

/** Lays `layer` on `below`, which becomes the merged tree. */
function overlay(below: TreeNode, layer: TreeNode, findings: FindingList, links: LinkPolicy): void {
  const descent = new Descent(below);
  const belows = [below];
  const uppers = [layer];
  const paths = [''];
  for (let upper = uppers.pop(); upper !== undefined; upper = uppers.pop()) {
    const lower = belows.pop()!;
    const path = paths.pop()!;
    if (!upper.implied) copyAttributes(upper, lower);
    if (upper.opaque) {
      lower.children = upper.children;
      continue;
    }
    const children = lower.children!;
    if (upper.whiteouts !== null) {
      for (const name of upper.whiteouts) children.delete(name);
    }
    for (const [name, child] of upper.children!) {
      if ((child.mode & S_IFMT) === S_IFDIR) {
        const there = children.get(name);
        if (there !== undefined) {
          if ((there.mode & S_IFMT) === S_IFDIR) {
            belows.push(there);
            uppers.push(child);
            paths.push(joinPath(path, name));
            continue;
          }
          const through = passThrough(descent, there, child, joinPath(path, name), links);
          if (through !== null) {
            belows.push(through);
            uppers.push(child);
            paths.push(joinPath(path, name));
            continue;
          }
          if (child.implied) {
            findings.add(
              'tree/parent-replaced',
              'a lower layer has no directory here, but a higher one has entries below it',
              undefined,
              joinPath(path, name),
            );
          }
        }
      }
      children.set(name, child);
    }
  }
}

/** The directory that `child` goes to through the symlink `link` at `path`, or null when it takes its place. */
function passThrough(
  descent: Descent,
  link: TreeNode,
  child: TreeNode,
  path: string,
  links: LinkPolicy,
): TreeNode | null {
  if ((link.mode & S_IFMT) !== S_IFLNK || links === 'replace' || (links === 'follow' && !child.implied))
    return null;
  const target = followToEnd(descent, path);
  if (target === null || (target.mode & S_IFMT) !== S_IFDIR) return null;
  if (!child.implied) {
    // What the layer says of the directory is said of the link, but for its mode: a symlink has none.
    link.uid = child.uid;
    link.gid = child.gid;
    link.mtime = child.mtime;
    link.mtimeNsec = child.mtimeNsec;
    child.implied = true;
  }
  return target;
}

/** Null for a link that leads nowhere, in a circle too. */
function followToEnd(descent: Descent, path: string): TreeNode | null {
  try {
    return lookupParts(descent, splitPath(path), true);
  } catch (error) {
    if (error instanceof VeneerError && error.code === 'tree/invalid') return null;
    throw error;
  }
}
