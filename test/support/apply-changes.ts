/**
 * Carries the changes between two trees out on a flat map from path to record, by nothing but what they say: a field
 * that is not said to differ stays as it was. Slow and plain on purpose; shares no code with src/diff.
 */
import assert from 'node:assert/strict';
import type { Change, Difference } from '../../src/diff/change.ts';
import { type FileTree, S_IFMT, S_IFREG, type TreeNode } from '../../src/tree/node.ts';
import { contentOf } from './random-tree.ts';

/** What one name shows; equal for every name of an inode. */
export interface FlatEntry {
  readonly fields: Record<Difference, string>;
  /** Equal for names of one inode; says nothing else. */
  group: object;
}

/** Path without leading slash ('' is the root) to entry. */
export type FlatTree = Map<string, FlatEntry>;

type Read = (source: number, at: number, length: number) => Buffer;

function fieldsOf(node: TreeNode, read: Read): Record<Difference, string> {
  const type = node.mode & S_IFMT;
  return {
    type: type.toString(8),
    content: type === S_IFREG ? contentOf(node, read).toString('base64') : '',
    target: node.target,
    device: `${node.devMajor}:${node.devMinor}`,
    mode: (node.mode & 0o7777).toString(8),
    owner: `${node.uid}:${node.gid}`,
    mtime: `${node.mtime}.${node.mtimeNsec}`,
    xattrs: JSON.stringify([...(node.xattrs ?? [])].sort()),
    links: '',
  };
}

export function flatten(tree: FileTree, read: Read): FlatTree {
  const flat: FlatTree = new Map();
  const add = (path: string, node: TreeNode): void => {
    flat.set(path, { fields: fieldsOf(node, read), group: node });
    for (const [name, child] of node.children ?? []) add(path === '' ? name : `${path}/${name}`, child);
  };
  add('', tree.root);
  return flat;
}

/** The old tree after all changes. Fails where a change says what is not so. */
export function applyChanges(old: FlatTree, changes: readonly Change[], read: Read): FlatTree {
  const flat: FlatTree = new Map([...old].map(([path, { fields, group }]) => [path, { fields, group }]));
  for (const { kind, place } of changes) {
    if (kind === 'removed') assert.ok(flat.delete(place.path()), `${place.path()} was not there`);
  }
  const moved: FlatTree = new Map();
  for (const { from, place, names } of changes) {
    if (from === null) continue;
    const [before, after] = [from.path(), place.path()];
    const paths = [...flat.keys()].filter((path) => path === before || path.startsWith(`${before}/`));
    assert.equal(paths.length, names);
    for (const path of paths) {
      moved.set(after + path.slice(before.length), flat.get(path)!);
      flat.delete(path);
    }
  }
  for (const [path, entry] of moved) {
    assert.ok(!flat.has(path), `${path} is there already`);
    flat.set(path, entry);
  }
  for (const { kind, place, new: now, differs } of changes) {
    if (kind === 'removed') continue;
    const path = place.path();
    const said = fieldsOf(now!, read);
    if (kind === 'added') {
      assert.ok(!flat.has(path), `${path} is there already`);
      flat.set(path, { fields: said, group: {} });
      continue;
    }
    const entry = flat.get(path)!;
    // Another type: nothing of the old inode stays.
    const fields = kind === 'type' ? said : { ...entry.fields };
    for (const what of differs) {
      if (what !== 'links') assert.notEqual(entry.fields[what], said[what], `${path}: ${what} is the same`);
      fields[what] = said[what];
    }
    const regrouped = kind === 'type' || differs.includes('links');
    flat.set(path, { fields, group: regrouped ? {} : entry.group });
  }
  for (const { place, link } of changes) {
    if (link !== null) flat.get(place.path())!.group = flat.get(link.path())!.group;
  }
  return flat;
}

/** Comparable: every name of a group says the group's first name. */
export function flatLines(flat: FlatTree): string[] {
  const first = new Map<object, string>();
  return [...flat.keys()].sort().map((path) => {
    const { fields, group } = flat.get(path)!;
    if (!first.has(group)) first.set(group, path);
    return JSON.stringify([path, fields, first.get(group)]);
  });
}
