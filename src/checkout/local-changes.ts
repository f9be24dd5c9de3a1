/** What users did to a checkout where an update wants to change something. */
import { closeSync, constants, fstatSync, openSync, readlinkSync } from 'node:fs';
import type { Change, Place } from '../diff/change.ts';
import { Contents, type DiffSide } from '../diff/content.ts';
import { fileSource } from '../store/data-files.ts';
import type { Folder } from '../sys/folder.ts';
import { type FileFacts, statAt } from '../sys/stat.ts';
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, TreeNode } from '../tree/node.ts';
import type { Descent } from './descent.ts';
import { READ_ONLY } from './farm.ts';
import type { StatIndex } from './stat-index.ts';

export interface LocalChange {
  /** Byte string, with a leading slash. */
  readonly path: string;
  readonly what: 'changed' | 'deleted' | 'in the way' | 'attributes';
}

export interface LocalLook {
  readonly descent: Descent;
  readonly old: DiffSide;
  readonly now: DiffSide;
  /** Of the old tree. */
  readonly index: StatIndex;
  /** Number of each name of the old tree. */
  readonly orders: ReadonlyMap<string, number>;
  /** Regular files are hard links into the store. */
  readonly link: boolean;
  /** An update was at it before: what is new already is as good as what is old. */
  readonly resumed: boolean;
  readonly signal: AbortSignal | undefined;
}

/** Everything that carrying out `changes` would destroy. */
export async function findLocalChanges(look: LocalLook, changes: readonly Change[]): Promise<LocalChange[]> {
  const finder = new Finder(look);
  const found: LocalChange[] = [];
  /** What changes itself is looked at in its turn, and nothing is told twice. */
  const told = new Set(changes.map(({ place }) => place));
  for (const change of changes) {
    const what = await finder.look(change);
    if (what !== null) found.push({ path: `/${change.place.path()}`, what });
    else if (change.kind === 'type' && isDirectory(change.old!)) found.push(...finder.untracked(change));
    const other = change.new === null ? null : finder.insteadOfDirectory(change.place);
    if (other === null || told.has(other)) continue;
    told.add(other);
    found.push({ path: `/${other.path()}`, what: 'changed' });
  }
  return found;
}

class Finder {
  readonly #look: LocalLook;
  readonly #contents: Contents;
  readonly #root = process.geteuid?.() === 0;

  constructor(look: LocalLook) {
    this.#look = look;
    this.#contents = new Contents(look.signal);
  }

  async look(change: Change): Promise<LocalChange['what'] | null> {
    const { place, old, new: now } = change;
    const { resumed } = this.#look;
    if (place.parent === null) return null;
    const folder = this.#parent(place);
    const facts = folder === null ? null : statAt(folder.fd, place.name);
    if (old === null) {
      // Below a directory that is new itself nothing can be.
      if (facts === null) return null;
      if (isDirectory(now!)) return isType(facts, S_IFDIR) ? null : 'in the way';
      return resumed && (await this.#equals(this.#look.now, now!, folder!, place.name, facts))
        ? null
        : 'in the way';
    }
    const order = this.#look.orders.get(place.path())!;
    if (facts === null) {
      if (now === null || resumed || (!isDirectory(old) && !this.#look.index.isKnown(order))) return null;
      return 'deleted';
    }
    if (isDirectory(old)) {
      if (!isType(facts, S_IFDIR)) return resumed && now !== null && !isDirectory(now) ? null : 'changed';
      if (now === null || !isDirectory(now) || resumed || this.#hasAttributes(facts, old)) return null;
      return 'attributes';
    }
    if (this.#isUntouched(order, old, facts)) return null;
    if (await this.#equals(this.#look.old, old, folder!, place.name, facts)) {
      return resumed || this.#hasAttributes(facts, old) ? null : 'attributes';
    }
    if (!resumed || now === null) return 'changed';
    if (isDirectory(now)) return isType(facts, S_IFDIR) ? null : 'changed';
    return (await this.#equals(this.#look.now, now, folder!, place.name, facts)) ? null : 'changed';
  }

  /** What is in a directory that something else takes the place of, and did not come with the image. */
  untracked({ place, old }: Change): LocalChange[] {
    const folder = this.#parent(place);
    if (folder === null) return [];
    const found: LocalChange[] = [];
    addUntracked(folder, place.name, old!, `/${place.path()}`, found);
    return found;
  }

  /** What stands where a directory on the way to `place` was; an update would put the directory in its stead. */
  insteadOfDirectory(place: Place): Place | null {
    if (place.parent === null || this.#parent(place) !== null) return null;
    const above = this.insteadOfDirectory(place.parent);
    if (above !== null) return above;
    const folder = this.#parent(place.parent);
    const facts = folder === null ? null : statAt(folder.fd, place.parent.name);
    return facts === null || isType(facts, S_IFDIR) ? null : place.parent;
  }

  /** Null when there is no such directory. */
  #parent(place: Place): Folder | null {
    try {
      return this.#look.descent.parentOf(place);
    } catch (error) {
      if (['ENOENT', 'ENOTDIR', 'ELOOP'].includes((error as NodeJS.ErrnoException).code ?? '')) return null;
      throw error;
    }
  }

  #isUntouched(order: number, node: TreeNode, facts: FileFacts): boolean {
    const { index, link } = this.#look;
    if (index.isUntouched(order, facts)) return true;
    // Others make links to the same file and take them away, which changes its change time.
    if (!link || !index.isSameInode(order, facts) || !isType(facts, S_IFREG)) return false;
    return (
      facts.mtime === node.mtime &&
      facts.mtimeNsec === node.mtimeNsec &&
      facts.size === node.size &&
      (facts.mode & 0o222) === 0
    );
  }

  /** Type, content, target, device number; nothing else. */
  async #equals(
    side: DiffSide,
    node: TreeNode,
    folder: Folder,
    name: string,
    facts: FileFacts,
  ): Promise<boolean> {
    const type = node.mode & S_IFMT;
    if (!isType(facts, type)) return false;
    if (type === S_IFLNK)
      return readlinkSync(folder.at(name), { encoding: 'buffer' }).toString('latin1') === node.target;
    if (type === S_IFCHR || type === S_IFBLK)
      return facts.rdevMajor === node.devMajor && facts.rdevMinor === node.devMinor;
    if (type !== S_IFREG) return true;
    if (facts.size !== node.size) return false;
    let fd: number;
    try {
      fd = openSync(folder.at(name), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch {
      // What cannot be read cannot be told to be ours.
      return false;
    }
    try {
      if (!fstatSync(fd).isFile()) return false;
      const here = new TreeNode(node.mode);
      here.size = node.size;
      here.source = 0;
      const data = fileSource(fd, name);
      return await this.#contents.same({ root: here, sources: [''], data: () => data }, here, side, node);
    } finally {
      closeSync(fd);
    }
  }

  /** Mode and owner are what a checkout gave. */
  #hasAttributes(facts: FileFacts, node: TreeNode): boolean {
    const mask = this.#look.link && isType(facts, S_IFREG) ? READ_ONLY : 0o7777;
    if (this.#root) return facts.uid === node.uid && facts.gid === node.gid && sameMode(facts, node, mask);
    // Setuid and setgid go where the owner is another; see Attributes.
    return isType(facts, S_IFLNK) || sameMode(facts, node, mask & 0o1777);
  }
}

function addUntracked(folder: Folder, name: string, old: TreeNode, path: string, found: LocalChange[]): void {
  if (!isType(statAt(folder.fd, name), S_IFDIR)) return;
  const inside = folder.enter(name);
  try {
    for (const child of inside.names()) {
      const node = old.children!.get(child);
      if (node === undefined) found.push({ path: `${path}/${child}`, what: 'in the way' });
      else if (isDirectory(node)) addUntracked(inside, child, node, `${path}/${child}`, found);
    }
  } finally {
    inside.close();
  }
}

function sameMode(facts: FileFacts, node: TreeNode, mask: number): boolean {
  return isType(facts, S_IFLNK) || (facts.mode & mask) === (node.mode & mask);
}

const isDirectory = (node: TreeNode): boolean => (node.mode & S_IFMT) === S_IFDIR;
const isType = (facts: FileFacts | null, type: number): boolean =>
  facts !== null && (facts.mode & S_IFMT) === type;
