/** Entries, layers and snapshots for the tests of trees. */
import fc from 'fast-check';
import type { EntryType, TarEntry } from '../../src/tar/entry.ts';
import { type FileTree, mergeLayers, TreeBuilder, type TreeNode, walkTree } from '../../src/tree/index.ts';
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG } from '../../src/tree/node.ts';
import type { ReferenceTree } from './reference-apply.ts';

let serial = 1;

/** An entry with a size, an mtime and a payload of its own, so that no two are alike. */
export function makeEntry(type: EntryType, path: string, rest: Partial<TarEntry> = {}): TarEntry {
  const offset = 1024 * serial++;
  return {
    path,
    type,
    mode: type === 'dir' ? 0o755 : 0o644,
    uid: 0,
    gid: 0,
    size: type === 'file' ? serial : 0,
    mtime: 1_600_000_000 + serial,
    mtimeNsec: 0,
    linkPath: '',
    devMajor: 0,
    devMinor: 0,
    headerOffset: offset,
    payloadOffset: offset + 512,
    payloadSize: type === 'file' ? serial : 0,
    xattrs: null,
    sparse: null,
    ...rest,
  };
}

export const dir = (path: string, rest?: Partial<TarEntry>): TarEntry => makeEntry('dir', path, rest);
export const file = (path: string, rest?: Partial<TarEntry>): TarEntry => makeEntry('file', path, rest);
export const link = (path: string, target: string): TarEntry => makeEntry('link', path, { linkPath: target });
export const symlink = (path: string, target: string): TarEntry =>
  makeEntry('symlink', path, { linkPath: target });

/** Layer `number` of an image; its source is named after the number. */
export function buildLayer(entries: readonly TarEntry[], number = 0): FileTree {
  const builder = new TreeBuilder({ kind: 'tar', digest: `sha256:${number}`, size: 0, alignment: 512 });
  for (const entry of entries) builder.add(entry);
  return builder.finish();
}

export function mergeEntries(layers: readonly (readonly TarEntry[])[]): FileTree {
  return mergeLayers(layers.map((entries, number) => buildLayer(entries, number)));
}

const TYPES = new Map([
  [S_IFREG, 'file'],
  [S_IFDIR, 'dir'],
  [S_IFLNK, 'symlink'],
  [S_IFCHR, 'char'],
  [S_IFBLK, 'block'],
  [S_IFIFO, 'fifo'],
]);

/** All that can be seen of a node except its name; facts about lower layers at the end. */
export function describeNode(node: TreeNode, sources: FileTree['sources']): string {
  const type = TYPES.get(node.mode & S_IFMT) ?? '?';
  const data =
    node.source >= 0 ? `${sources[node.source]!.digest.slice('sha256:'.length)}:${node.at}:${node.size}` : '';
  const dev = type === 'char' || type === 'block' ? `${node.devMajor}:${node.devMinor}` : '';
  const facts = [
    node.implied ? ' implied' : '',
    node.opaque ? ' opaque' : '',
    node.whiteouts === null ? '' : ` without ${[...node.whiteouts].sort().join(',')}`,
    node.lowerLink === null ? '' : ` is ${node.lowerLink}`,
  ].join('');
  const mode = (node.mode & 0o7777).toString(8);
  const xattrs = JSON.stringify([...(node.xattrs ?? [])]);
  return `${type} ${mode} ${node.uid}:${node.gid} ${node.mtime} ${node.target} ${dev} ${data} ${xattrs}${facts}`;
}

/** Path to description; every name of a hard-linked inode says its first name. */
export type Snapshot = Record<string, string>;

export function groupNames<T>(
  named: Iterable<readonly [string, T]>,
  describe: (value: T) => string,
): Snapshot {
  const first = new Map<T, string>();
  const out: Snapshot = {};
  for (const [path, value] of [...named].sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (!first.has(value)) first.set(value, path);
    const name = first.get(value)!;
    out[`/${path}`] = describe(value) + (name === path ? '' : ` = /${name}`);
  }
  return out;
}

export function snapshotTree(tree: FileTree): Snapshot {
  const named: [string, TreeNode][] = [];
  walkTree(tree, (path, node) => named.push([path, node]));
  return groupNames(named, (node) => describeNode(node, tree.sources));
}

export function snapshotReference(tree: ReferenceTree): Snapshot {
  return groupNames(tree, (inode) => {
    const { type, mode, uid, gid, mtime, target, dev, data, xattrs } = inode;
    return `${type} ${mode.toString(8)} ${uid}:${gid} ${mtime} ${target} ${dev} ${data} ${xattrs || '[]'}`;
  });
}

const plainName = fc.constantFrom('a', 'b', 'c', 'd');
const oddName = fc.constantFrom('.', '..', '', '.wh.a', 'é\x80', '.hidden', '...');
const pathName = fc.oneof({ weight: 14, arbitrary: plainName }, { weight: 1, arbitrary: oddName });
const lastName = fc.oneof(
  { weight: 12, arbitrary: plainName },
  { weight: 4, arbitrary: fc.constantFrom('.wh.a', '.wh.b', '.wh.c', '.wh.d') },
  { weight: 1, arbitrary: fc.constantFrom('.wh..wh..opq') },
  { weight: 1, arbitrary: fc.constantFrom('.wh.', '.wh..', '.wh...', '.wh..wh.plnk', '..', '.', '') },
);
const joinParts = ([prefix, parents, last]: [string, string[], string]): string =>
  prefix + [...parents, last].join('/');
const anyPath = fc
  .tuple(fc.constantFrom('', '', './', '/'), fc.array(pathName, { maxLength: 3 }), lastName)
  .map(joinParts);
const anyTarget = fc
  .tuple(fc.constantFrom('', '', './', '/', '../'), fc.array(pathName, { maxLength: 2 }), plainName)
  .map(joinParts);

/** Any entry at all, on few names, so that they get in each other's way. */
export const anyEntry: fc.Arbitrary<TarEntry> = fc
  .record({
    type: fc.constantFrom<EntryType>(
      'file',
      'file',
      'file',
      'dir',
      'dir',
      'dir',
      'link',
      'link',
      'symlink',
      'fifo',
      'char',
    ),
    path: anyPath,
    linkPath: anyTarget,
    mode: fc.constantFrom(0o644, 0o755, 0o4711, 0o1777),
    uid: fc.constantFrom(0, 1000),
    xattrs: fc.constantFrom(
      null,
      null,
      null,
      new Map([
        ['user.b', '\xff'],
        ['user.a', ''],
      ]),
    ),
  })
  .map(({ type, path, linkPath, mode, uid, xattrs }) =>
    makeEntry(type, path, {
      mode,
      uid,
      linkPath: type === 'link' || type === 'symlink' ? linkPath : '',
      xattrs: type === 'file' || type === 'dir' ? xattrs : null,
      devMajor: type === 'char' ? 5 : 0,
    }),
  );

/** Layers, bottom-up. */
export const anyLayers: fc.Arbitrary<TarEntry[][]> = fc.array(fc.array(anyEntry, { maxLength: 10 }), {
  minLength: 1,
  maxLength: 4,
});
