/**
 * Carries out what changed from one tree to another in a directory that has the first.
 *
 * Every file is made in a directory of its own inside the checkout and renamed to where it belongs, so each name has
 * what it had or what it is to have, whole, whenever the work ends. To do it again from the beginning is always right.
 */
import { mkdirSync, renameSync, rmdirSync, unlinkSync } from 'node:fs';
import type { Change, Place } from '../diff/change.ts';
import { VeneerError } from '../errors.ts';
import type { Attributes } from '../rootfs/attributes.ts';
import { type Folder, removeTree } from '../sys/folder.ts';
import { setTimes } from '../sys/inode.ts';
import { type FileFacts, statAt } from '../sys/stat.ts';
import { removeXattr } from '../sys/xattr.ts';
import { S_IFDIR, S_IFMT, type TreeNode } from '../tree/node.ts';
import { type Descent, namesTo } from './descent.ts';
import { linkTo, type Maker } from './maker.ts';
import type { Pace } from './pace.ts';

export interface UpdateWork {
  readonly root: Folder;
  /** Name of the directory in the root in which files are made. */
  readonly staging: string;
  readonly descent: Descent;
  readonly maker: Maker;
  readonly attributes: Attributes;
  readonly pace: Pace;
  /** Hard links into the store cannot have other attributes than the others. */
  readonly link: boolean;
  /** Set the attributes of all directories that are touched: an update that did not end may have left them open. */
  readonly resumed: boolean;
}

export interface Updated {
  /** Directories that are not part of the image any more and stay for what users put into them. */
  readonly kept: string[];
  /** What was made under which name. */
  readonly touched: ReadonlyMap<string, FileFacts>;
}

/** `newRoot`: the root of the tree that the changes lead to. Changes are in the order of diffTrees, without renames. */
export async function applyChanges(
  work: UpdateWork,
  changes: readonly Change[],
  newRoot: TreeNode,
): Promise<Updated> {
  const { root, descent } = work;
  descent.enter([], { write: true });
  removeTree(root, work.staging);
  mkdirSync(root.at(work.staging), { mode: 0o700 });
  const staging = root.enter(work.staging);
  const update = new Update(work, staging);
  try {
    for (const change of changes.toReversed()) if (change.new === null) await update.remove(change);
    for (const change of changes) if (change.new !== null) await update.put(change);
  } finally {
    staging.close();
    descent.enter([], { write: true });
    removeTree(root, work.staging);
  }
  update.finishDirectories(changes, newRoot);
  const touched = update.look();
  descent.close();
  // The directory in it came and went.
  const { mtime: seconds, mtimeNsec: nanoseconds } = newRoot;
  setTimes(root.at('.'), { seconds, nanoseconds }, { seconds, nanoseconds });
  return { kept: update.kept, touched };
}

const STAGED = 'file';

class Update {
  readonly #work: UpdateWork;
  readonly #staging: Folder;
  /** First names of inodes that were made. */
  readonly #made = new Map<TreeNode, readonly string[]>();
  readonly #touched: Place[] = [];
  /** Paths of directories that users had taken away. */
  readonly #remade = new Set<string>();
  readonly kept: string[] = [];

  constructor(work: UpdateWork, staging: Folder) {
    this.#work = work;
    this.#staging = staging;
  }

  async remove({ place, old }: Change): Promise<void> {
    let folder: Folder;
    try {
      folder = this.#work.descent.parentOf(place, { write: true });
    } catch (error) {
      // Users took it away with all that was in it.
      if (isAway(error)) return;
      throw error;
    }
    try {
      const there = statAt(folder.fd, place.name);
      if (isDirectory(old!) && there !== null && (there.mode & S_IFMT) === S_IFDIR)
        rmdirSync(folder.at(place.name));
      else removeTree(folder, place.name);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOTEMPTY') this.kept.push(`/${place.path()}`);
      else if (code !== 'ENOENT') throw error;
    }
    await this.#work.pace.step(this.#work.maker.counts.bytes);
  }

  async put(change: Change): Promise<void> {
    const { place, new: now } = change;
    if (place.parent === null) return;
    const folder = this.#enter(namesTo(place.parent));
    const there = statAt(folder.fd, place.name);
    if (isDirectory(now!)) {
      if (there !== null && (there.mode & S_IFMT) === S_IFDIR) return;
      if (there !== null) unlinkSync(folder.at(place.name));
      mkdirSync(folder.at(place.name), { mode: 0o700 });
    } else {
      this.#touched.push(place);
      if (there === null || !this.#mend(change, folder, there)) this.#replace(change, folder, there);
    }
    await this.#work.pace.step(this.#work.maker.counts.bytes);
  }

  /** Gives an inode other attributes where it is; false when that is not all there is to do. */
  #mend({ kind, differs, link, place, new: now }: Change, folder: Folder, there: FileFacts): boolean {
    const more = differs.some((what) => what === 'links' || what === 'xattrs');
    if (kind !== 'attributes' || more || link !== null || this.#work.link) return false;
    if ((there.mode & S_IFMT) !== (now!.mode & S_IFMT)) return false;
    this.#work.attributes.apply(folder.at(place.name), `/${place.path()}`, now!);
    return true;
  }

  #replace({ place, link, new: now }: Change, folder: Folder, there: FileFacts | null): void {
    const { root, maker } = this.#work;
    const path = `/${place.path()}`;
    const first = link === null ? this.#made.get(now!) : namesTo(link);
    removeTree(this.#staging, STAGED);
    if (there !== null && (there.mode & S_IFMT) === S_IFDIR) removeTree(folder, place.name);
    if (first !== undefined) linkTo(root, first, this.#staging, STAGED);
    else if (!maker.make(this.#staging, STAGED, now!, path)) {
      // What cannot be made here is at least not what it was.
      removeTree(folder, place.name);
      return;
    }
    renameSync(this.#staging.at(STAGED), folder.at(place.name));
    if (first === undefined) this.#made.set(now!, [...namesTo(place)]);
  }

  /** A directory that has to be there: users may have taken it away, or put something else into its place. */
  #enter(names: readonly string[]): Folder {
    const { descent } = this.#work;
    try {
      return descent.enter(names, { write: true });
    } catch (error) {
      if (!isAway(error)) throw error;
      const parent = this.#enter(names.slice(0, -1));
      removeTree(parent, names.at(-1)!);
      mkdirSync(parent.at(names.at(-1)!), { mode: 0o700 });
      this.#remade.add(names.join('/'));
      return descent.enter(names, { write: true });
    }
  }

  /** Directories last and from below: whatever is made or removed in one changes its time. */
  finishDirectories(changes: readonly Change[], newRoot: TreeNode): void {
    const whole = new Map<Place, Change>();
    const places = new Set<Place>();
    for (const change of changes) {
      if (change.new !== null && isDirectory(change.new)) {
        whole.set(change.place, change);
        places.add(change.place);
      }
      for (let at = change.place.parent; at !== null; at = at.parent)
        if (at === change.place.parent || this.#remade.has(at.path())) places.add(at);
    }
    const { attributes, descent, resumed, root } = this.#work;
    for (const place of [...places].sort((a, b) => b.order - a.order)) {
      const names = namesTo(place);
      const node = names.reduce<TreeNode | undefined>((at, name) => at?.children?.get(name), newRoot);
      if (node === undefined || !isDirectory(node)) continue;
      if (place.parent === null) descent.close();
      const target = place.parent === null ? root.at('.') : this.#enter(names.slice(0, -1)).at(place.name);
      const change = whole.get(place);
      if (change !== undefined || resumed || this.#remade.has(place.path())) {
        this.#dropXattrs(target, change, node);
        attributes.apply(target, `/${place.path()}`, node);
      } else {
        const { mtime: seconds, mtimeNsec: nanoseconds } = node;
        // The mode that it has is given back before its time is set.
        if (place.parent !== null) descent.enter(names.slice(0, -1));
        setTimes(target, { seconds, nanoseconds }, { seconds, nanoseconds });
      }
    }
  }

  #dropXattrs(target: Buffer, change: Change | undefined, node: TreeNode): void {
    if (change?.old?.xattrs === null || change?.old === null) return;
    for (const name of change?.old.xattrs.keys() ?? []) {
      if (node.xattrs?.has(name)) continue;
      try {
        removeXattr(target, name);
      } catch (error) {
        // It was not given either.
        if (!(error instanceof VeneerError)) throw error;
      }
    }
  }

  /** What the kernel says of all that was made, once no further name changes that. */
  look(): Map<string, FileFacts> {
    const found = new Map<string, FileFacts>();
    for (const place of this.#touched) {
      const facts = statAt(this.#work.descent.parentOf(place).fd, place.name);
      if (facts !== null) found.set(place.path(), facts);
    }
    return found;
  }
}

const isDirectory = (node: TreeNode): boolean => (node.mode & S_IFMT) === S_IFDIR;

const isAway = (error: unknown): boolean =>
  ['ENOENT', 'ENOTDIR', 'ELOOP'].includes((error as NodeJS.ErrnoException).code ?? '');
