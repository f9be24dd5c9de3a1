/** What one more layer does to a merged tree, as work on a directory that has what the tree was before. */
import { copyAttributes } from '../tree/merge.ts';
import { S_IFLNK, S_IFMT, TreeNode } from '../tree/node.ts';
import { joinPath } from '../tree/path.ts';

export interface LayerStep {
  /** Paths to be removed with all that is in them, before anything is written. */
  readonly removed: readonly string[];
  /** To be written: new names, and the directories on the way as they are to be in the end. */
  readonly tree: TreeNode;
  /** New names of inodes that were there before, under `from`. */
  readonly links: readonly { readonly from: string; readonly path: string }[];
  /** Directories of {@link tree} that are there already, parents first. */
  readonly existing: readonly { readonly path: string; readonly node: TreeNode }[];
}

type Attributes = Pick<TreeNode, 'mode' | 'uid' | 'gid' | 'mtime' | 'mtimeNsec' | 'xattrs'>;

/** A merged tree as it is at one moment. Nodes that a layer leaves alone stay the same objects, so these tell. */
export class RememberedTree {
  readonly #children = new Map<TreeNode, ReadonlyMap<string, TreeNode>>();
  /** Of directories, and of symlinks, through which a layer may change what it says of a directory. */
  readonly #attributes = new Map<TreeNode, Attributes>();
  /** A name of everything that is no directory. */
  readonly #names = new Map<TreeNode, string>();

  constructor(root: TreeNode) {
    const pending: [path: string, node: TreeNode][] = [['', root]];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const [path, dir] = next;
      this.#children.set(dir, new Map(dir.children));
      this.#attributes.set(dir, attributesOf(dir));
      for (const [name, child] of dir.children!) {
        const own = joinPath(path, name);
        if (child.children !== null) pending.push([own, child]);
        else this.#names.set(child, own);
        if ((child.mode & S_IFMT) === S_IFLNK) this.#attributes.set(child, attributesOf(child));
      }
    }
  }

  /** What leads from here to what the tree is now. */
  stepTo(root: TreeNode): LayerStep {
    const removed: string[] = [];
    const links: { from: string; path: string }[] = [];
    const top = new Visited('', root, null, true);
    const pending = [top];
    for (let dir = pending.pop(); dir !== undefined; dir = pending.pop()) {
      const before = this.#children.get(dir.node);
      if (this.#isChanged(dir.node)) dir.touch();
      for (const name of before?.keys() ?? []) {
        if (dir.node.children!.has(name)) continue;
        removed.push(joinPath(dir.path, name));
        dir.touch();
      }
      for (const [name, child] of dir.node.children!) {
        const there = before?.get(name);
        const path = joinPath(dir.path, name);
        const stays = there === child && (child.children !== null || !this.#isChanged(child));
        if (there !== undefined && !stays) removed.push(path);
        if (child.children !== null) pending.push(new Visited(path, child, dir, stays));
        if (stays) continue;
        const written = dir.touch();
        const from = there === child ? undefined : this.#names.get(child);
        if (from !== undefined) links.push({ from, path });
        else if (child.children === null) written.children!.set(name, child);
        else pending.at(-1)!.touch();
      }
    }
    return { removed, links, tree: top.touch(), existing: existingOf(top) };
  }

  #isChanged(node: TreeNode): boolean {
    const then = this.#attributes.get(node);
    if (then === undefined) return false;
    return (Object.keys(then) as (keyof Attributes)[]).some((key) => then[key] !== node[key]);
  }
}

function attributesOf({ mode, uid, gid, mtime, mtimeNsec, xattrs }: TreeNode): Attributes {
  return { mode, uid, gid, mtime, mtimeNsec, xattrs };
}

/** A directory of the tree; what is written of it is made when something in it changes. */
class Visited {
  readonly path: string;
  readonly node: TreeNode;
  readonly stays: boolean;
  readonly below: Visited[] = [];
  readonly #parent: Visited | null;
  #written: TreeNode | null = null;

  constructor(path: string, node: TreeNode, parent: Visited | null, stays: boolean) {
    this.path = path;
    this.node = node;
    this.#parent = parent;
    this.stays = stays;
  }

  get written(): TreeNode | null {
    return this.#written;
  }

  touch(): TreeNode {
    if (this.#written !== null) return this.#written;
    const written = new TreeNode(this.node.mode);
    copyAttributes(this.node, written);
    this.#written = written;
    if (this.#parent !== null) {
      this.#parent.touch().children!.set(this.path.slice(this.path.lastIndexOf('/') + 1), written);
      this.#parent.below.push(this);
    }
    return written;
  }
}

function existingOf(top: Visited): { path: string; node: TreeNode }[] {
  const existing: { path: string; node: TreeNode }[] = [];
  const pending = [top];
  for (let dir = pending.pop(); dir !== undefined; dir = pending.pop()) {
    if (!dir.stays) continue;
    existing.push({ path: dir.path, node: dir.written! });
    pending.push(...dir.below);
  }
  return existing;
}
