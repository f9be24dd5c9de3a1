/**
 * A second, naive opinion on what layers mean: one flat map from path to inode,
 * entries applied one by one, lower paths deleted by prefix. Slow and plain on
 * purpose; shares no code with src/tree.
 */
import type { TarEntry } from '../../src/tar/entry.ts';

/** Identity of the object is identity of the inode. */
export interface ReferenceInode {
  type: TarEntry['type'];
  mode: number;
  uid: number;
  gid: number;
  mtime: number;
  target: string;
  dev: string;
  /** `layer:offset:size` of the bytes, '' when there are none. */
  data: string;
  xattrs: string;
  /** While its layer is read: a hard link to this path of the lower layers. */
  lower?: string;
  /** While its layer is read: nobody names this directory. */
  implied?: boolean;
}

/** Path without leading slash ('' is the root) to inode. */
export type ReferenceTree = Map<string, ReferenceInode>;

const makeDir = (implied: boolean): ReferenceInode => ({
  type: 'dir',
  mode: 0o755,
  uid: 0,
  gid: 0,
  mtime: 0,
  target: '',
  dev: '',
  data: '',
  xattrs: '',
  implied,
});

/** Throws an Error where the layers have no meaning. */
export function applyLayers(layers: readonly (readonly TarEntry[])[]): ReferenceTree {
  const state: ReferenceTree = new Map([['', makeDir(false)]]);
  for (const [number, entries] of layers.entries()) applyLayer(state, entries, number);
  for (const inode of state.values()) delete inode.implied;
  return state;
}

function applyLayer(state: ReferenceTree, entries: readonly TarEntry[], number: number): void {
  const own: ReferenceTree = new Map([['', makeDir(true)]]);
  /** Paths where lower content ends: `all` with the path itself, `inside` without. */
  const all = new Set<string>();
  const whited = new Set<string>();
  const inside = new Set<string>();

  for (const entry of entries) {
    const parts = lexical(entry.path);
    const name = parts.pop();
    if (name === undefined) {
      if (entry.type !== 'dir') throw new Error('the root must be a directory');
      own.set('', toInode(entry, number));
      continue;
    }
    if (parts.some((part) => part.startsWith('.wh.'))) continue;
    const parent = resolve(own, parts, (path, blocked) => {
      if (path.split('/').at(-1)!.startsWith('.wh.')) return false;
      if (blocked && name.startsWith('.wh.')) return false;
      remove(own, path);
      own.set(path, makeDir(!blocked));
      if (blocked) all.add(path);
      return true;
    });
    if (parent === null) continue;
    const path = under(parent, name);
    if (name === '.wh..wh..opq') inside.add(parent);
    else if (name.startsWith('.wh..wh.') || ['.wh.', '.wh..', '.wh...'].includes(name)) continue;
    else if (name.startsWith('.wh.')) whited.add(under(parent, name.slice(4)));
    else if (entry.type === 'link') {
      const inode = findTarget(own, all, entry.linkPath, path);
      if (inode === null) continue;
      remove(own, path);
      own.set(path, inode);
      all.add(path);
    } else if (entry.type === 'dir') {
      const there = own.get(path);
      if (there !== undefined && there.type !== 'dir') all.add(path);
      own.set(path, toInode(entry, number));
    } else {
      remove(own, path);
      own.set(path, toInode(entry, number));
      all.add(path);
    }
  }

  const found = new Map<ReferenceInode, ReferenceInode>();
  for (const inode of own.values()) {
    if (inode.lower === undefined || found.has(inode)) continue;
    const parts = lexical(inode.lower);
    const last = parts.pop()!;
    const parent = resolve(state, parts, () => false);
    const target = parent === null ? undefined : state.get(under(parent, last));
    if (target === undefined || target.type === 'dir') throw new Error('the link has no target');
    found.set(inode, target);
  }

  for (const path of [...all, ...whited]) remove(state, path);
  for (const path of inside) removeInside(state, path);
  for (const path of [...own.keys()].sort()) {
    const inode = own.get(path)!;
    const merges = inode.type === 'dir' && state.get(path)?.type === 'dir';
    if (merges && inode.implied) continue;
    if (!merges) remove(state, path);
    state.set(path, found.get(inode) ?? inode);
  }
}

/** The inode a hard link means, a stand-in for one in the lower layers, or null for a link to itself. */
function findTarget(
  own: ReferenceTree,
  removed: ReadonlySet<string>,
  link: string,
  path: string,
): ReferenceInode | null {
  const parts = lexical(link);
  const last = parts.pop();
  if (last === undefined) throw new Error('the target is the root');
  let missing = false;
  const parent = resolve(own, parts, (at, blocked) => {
    if (blocked || at === path) throw new Error('the way is no directory');
    missing = true;
    own.set(at, makeDir(true));
    made.push(at);
    return true;
  });
  for (const at of made.splice(0)) own.delete(at);
  const target = under(parent!, last);
  if (target === path) return null;
  if (target.startsWith(`${path}/`)) throw new Error('the target is below the link');
  const there = missing ? undefined : own.get(target);
  if (there !== undefined) {
    if (there.type === 'dir') throw new Error('the target is a directory');
    return there;
  }
  for (const at of removed) {
    if (target.startsWith(`${at}/`)) throw new Error('the target is removed');
  }
  return { ...makeDir(false), type: 'link', lower: target };
}
const made: string[] = [];

/** Follows symlinks of `tree` as in a chroot. `onStop` may put a directory there and go on, or give up: null. */
function resolve(
  tree: ReferenceTree,
  parts: readonly string[],
  onStop: (path: string, blocked: boolean) => boolean,
): string | null {
  let todo = [...parts];
  let at = '';
  for (let links = 0; todo.length > 0; ) {
    const part = todo.shift()!;
    if (part === '' || part === '.') continue;
    if (part === '..') {
      at = at.includes('/') ? at.slice(0, at.lastIndexOf('/')) : '';
      continue;
    }
    const path = under(at, part);
    const inode = tree.get(path);
    if (inode?.type === 'symlink') {
      if (++links > 40) throw new Error('too many symbolic links');
      if (inode.target.startsWith('/')) at = '';
      todo = [...inode.target.split('/'), ...todo];
      continue;
    }
    if (inode?.type !== 'dir' && !onStop(path, inode !== undefined)) return null;
    at = path;
  }
  return at;
}

function lexical(path: string): string[] {
  const out: string[] = [];
  for (const part of path.split('/')) {
    if (part === '..') out.pop();
    else if (part !== '' && part !== '.') out.push(part);
  }
  return out;
}

const under = (dir: string, name: string): string => (dir === '' ? name : `${dir}/${name}`);

function remove(tree: ReferenceTree, path: string): void {
  removeInside(tree, path);
  if (path !== '') tree.delete(path);
}

function removeInside(tree: ReferenceTree, path: string): void {
  for (const key of [...tree.keys()]) {
    if (key !== '' && (path === '' || key.startsWith(`${path}/`))) tree.delete(key);
  }
}

function toInode(entry: TarEntry, layer: number): ReferenceInode {
  const { type } = entry;
  return {
    type,
    mode: type === 'symlink' ? 0o777 : entry.mode,
    uid: entry.uid,
    gid: entry.gid,
    mtime: entry.mtime,
    target: type === 'symlink' ? entry.linkPath : '',
    dev: type === 'char' || type === 'block' ? `${entry.devMajor}:${entry.devMinor}` : '',
    data: type === 'file' && entry.size > 0 ? `${layer}:${entry.payloadOffset}:${entry.size}` : '',
    xattrs: JSON.stringify([...(entry.xattrs ?? [])].sort()),
  };
}
