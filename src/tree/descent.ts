/**
 * Resolves paths inside a tree as in a chroot: symlinks lead through the tree's
 * own root and never out of it (path_resolution(7)).
 */
import { VeneerError } from '../errors.ts';
import { S_IFDIR, S_IFLNK, S_IFMT, type TreeNode } from './node.ts';
import { showPath, splitPath } from './path.ts';

/** Symlinks in one resolution (MAXSYMLINKS, linux/namei.h); containerd and umoci take more, the kernel does not. */
const LINKS_MAX = 40;
/** Components of symlink targets one descent follows in its whole life: keeps a hostile layer from costing hours. */
const FOLLOWED_MAX = 10_000_000;

/**
 * Why a run came to its end: all components are used up; the directory has no
 * such name; or the name is neither directory nor symlink.
 */
export type Stop = 'end' | 'missing' | 'blocked';

/** A position in a tree and the components still to go. Reused from path to path. */
export class Descent {
  /** Directories from the root to where we are. */
  readonly dirs: TreeNode[];
  /** Their names; `names[i]` belongs to `dirs[i + 1]`. */
  readonly names: string[] = [];
  /** What is still to go, the next one last. */
  readonly pending: string[] = [];
  /** The component that a run stopped at. */
  name = '';
  /** Symlinks followed since {@link start}. */
  links = 0;
  private followed = 0;

  constructor(root: TreeNode) {
    this.dirs = [root];
  }

  /** The directory we are in. */
  get dir(): TreeNode {
    return this.dirs[this.dirs.length - 1]!;
  }

  /** Path of that directory, '' for the root. */
  path(): string {
    return this.names.join('/');
  }

  /** Back to the root, or up to the first `keep` directories below it, with new components to go. */
  start(parts: readonly string[], keep = 0): void {
    this.dirs.length = keep + 1;
    this.names.length = keep;
    this.pending.length = 0;
    this.links = 0;
    this.push(parts);
  }

  enter(name: string, dir: TreeNode): void {
    this.names.push(name);
    this.dirs.push(dir);
  }

  /** Puts a symlink's target before what is still to go. */
  follow(link: TreeNode): void {
    if (++this.links > LINKS_MAX) {
      throw new VeneerError(
        'tree/invalid',
        `Cannot resolve ${showPath(this.path())}: more than ${LINKS_MAX} symbolic links`,
      );
    }
    const parts = splitPath(link.target);
    this.followed += parts.length + 1;
    if (this.followed > FOLLOWED_MAX) {
      throw new VeneerError(
        'tree/limit',
        `Cannot resolve ${showPath(this.path())}: too many paths through symbolic links`,
      );
    }
    if (link.target.charCodeAt(0) === 0x2f) {
      this.dirs.length = 1;
      this.names.length = 0;
    }
    this.push(parts);
  }

  /** Goes as far as it can. After 'missing' and 'blocked', `name` is used up and the rest is still pending. */
  run(): Stop {
    for (let name = this.pending.pop(); name !== undefined; name = this.pending.pop()) {
      if (name === '..') {
        if (this.dirs.length > 1) {
          this.dirs.pop();
          this.names.pop();
        }
        continue;
      }
      this.name = name;
      const child = this.dir.children!.get(name);
      if (child === undefined) return 'missing';
      const type = child.mode & S_IFMT;
      if (type === S_IFDIR) this.enter(name, child);
      else if (type === S_IFLNK) this.follow(child);
      else return 'blocked';
    }
    return 'end';
  }

  private push(parts: readonly string[]): void {
    for (let i = parts.length - 1; i >= 0; i--) this.pending.push(parts[i]!);
  }
}
