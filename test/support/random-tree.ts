/** Random trees with data for the image formats' property tests. */
import fc from 'fast-check';
import {
  type Extent,
  type FileTree,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFREG,
  S_IFSOCK,
  TreeNode,
} from '../../src/tree/node.ts';

/** What the data source of a random tree holds: byte `i` is a function of `i`, so copies can be told apart. */
export const SOURCE_BYTES: Buffer = Buffer.from(
  Array.from({ length: 64 * 1024 }, (_, i) => (i * 31 + (i >> 9)) & 0xff),
);

const byteString = (min: number, max: number): fc.Arbitrary<string> =>
  fc.uint8Array({ minLength: min, maxLength: max }).map((bytes) => Buffer.from(bytes).toString('latin1'));

const nameArbitrary = fc
  .oneof(byteString(1, 12), byteString(200, 255), fc.constantFrom('-', '!', '0', 'a', 'ü', ' ', '...'))
  .map((name) => name.replace(/[/\0]/g, '_'))
  .filter((name) => name !== '.' && name !== '..');

const xattrsArbitrary = fc.option(
  fc
    .array(
      fc.tuple(fc.constantFrom('user.', 'trusted.', 'security.'), byteString(1, 20), byteString(0, 700)),
      { maxLength: 4 },
    )
    .map((list) => {
      const map = new Map(
        list.map(([prefix, name, value]) => [prefix + name.replace(/\0/g, '0'), value] as const),
      );
      map.set('security.capability', '\x01\0\0\x02');
      return new Map([...map].sort(([a], [b]) => (a < b ? -1 : 1)));
    }),
  { freq: 3, nil: null },
);

/** Sorted runs that do not overlap, at any alignment. */
const extentsArbitrary = fc
  .array(fc.tuple(fc.nat(9000), fc.integer({ min: 1, max: 3000 }), fc.nat(60_000), fc.boolean()), {
    maxLength: 5,
  })
  .map((runs) => {
    const extents: Extent[] = [];
    let end = 0;
    for (const [gap, length, at, aligned] of runs) {
      const offset = aligned ? Math.ceil((end + gap) / 512) * 512 : end + gap;
      extents.push({ offset, length, source: 0, at: aligned ? at - (at % 512) : at });
      end = offset + length;
    }
    return { extents, end };
  });

const attributes = fc.record({
  mode: fc.nat(0o7777),
  uid: fc.oneof(fc.constant(0), fc.nat(0xffffffff)),
  gid: fc.oneof(fc.constant(0), fc.nat(0xffffffff)),
  mtime: fc.oneof(fc.constant(1_700_000_000), fc.integer({ min: -5_000_000_000, max: 5_000_000_000 })),
  mtimeNsec: fc.oneof(fc.constant(0), fc.nat(999_999_999)),
  xattrs: xattrsArbitrary,
});

const leafArbitrary = fc
  .tuple(
    attributes,
    fc.oneof(
      fc.nat(20_000).map((size) => (node: TreeNode) => {
        node.mode |= S_IFREG;
        node.size = size;
        if (size > 0) {
          node.source = 0;
          node.at = (size % 40) * 512;
        }
      }),
      fc.tuple(extentsArbitrary, fc.nat(300_000)).map(([{ extents, end }, hole]) => (node: TreeNode) => {
        node.mode |= S_IFREG;
        node.extents = extents;
        node.size = end + hole;
      }),
      byteString(1, 1500).map((target) => (node: TreeNode) => {
        node.mode = S_IFLNK | 0o777;
        node.target = target.replace(/\0/g, 'x');
        node.size = node.target.length;
      }),
      fc
        .tuple(fc.boolean(), fc.nat(0xfff), fc.integer({ min: 1, max: 0xfffff }))
        .map(([block, major, minor]) => (node: TreeNode) => {
          node.mode |= block ? S_IFBLK : S_IFCHR;
          node.devMajor = major;
          node.devMinor = minor;
        }),
      fc.constantFrom(S_IFIFO, S_IFSOCK).map((type) => (node: TreeNode) => {
        node.mode |= type;
      }),
    ),
  )
  .map(([rest, shape]) => {
    const node = Object.assign(new TreeNode(0), rest);
    shape(node);
    return node;
  });

const directoryArbitrary = fc.record({
  attributes,
  facts: fc.nat(20),
  whiteouts: fc.array(nameArbitrary, { maxLength: 3 }),
});

/** A tree over one source of {@link SOURCE_BYTES}; `facts`: with whiteouts, opaque and implied directories and lower links. */
export function treeArbitrary(facts: boolean): fc.Arbitrary<FileTree> {
  const item = fc.tuple(nameArbitrary, fc.nat(6), fc.oneof(leafArbitrary, directoryArbitrary), fc.boolean());
  return fc.tuple(directoryArbitrary, fc.array(item, { maxLength: 40 })).map(([rootShape, items]) => {
    const root = makeDirectory(rootShape, facts);
    const directories = [root];
    const leaves: TreeNode[] = [];
    for (const [name, where, what, again] of items) {
      const parent = directories[where % directories.length]!;
      if (parent.children!.has(name)) continue;
      if (!(what instanceof TreeNode)) {
        const directory = makeDirectory(what, facts);
        parent.children!.set(name, directory);
        directories.push(directory);
      } else {
        // sometimes one more name for an inode that is there
        const node = again && leaves.length > 0 ? leaves[where % leaves.length]! : what;
        parent.children!.set(name, node);
        leaves.push(node);
      }
    }
    for (const directory of directories) {
      for (const name of directory.whiteouts ?? [])
        if (directory.children!.has(name)) directory.whiteouts!.delete(name);
      if (directory.whiteouts?.size === 0) directory.whiteouts = null;
    }
    return {
      root,
      sources: [
        { kind: 'tar', digest: `sha256:${'ab'.repeat(32)}`, size: SOURCE_BYTES.length, alignment: 512 },
      ],
      findings: [],
    };
  });
}

function makeDirectory(
  shape: { attributes: Partial<TreeNode> & { mode: number }; facts: number; whiteouts: string[] },
  facts: boolean,
): TreeNode {
  const node = Object.assign(new TreeNode(S_IFDIR), shape.attributes);
  node.mode = S_IFDIR | (shape.attributes.mode & 0o7777);
  if (facts) {
    node.opaque = shape.facts % 5 === 1;
    node.implied = shape.facts % 7 === 2;
    node.whiteouts = shape.whiteouts.length === 0 ? null : new Set(shape.whiteouts);
  }
  return node;
}

/** A file's bytes as the tree says them; `read` fetches from a source. */
export function contentOf(
  node: TreeNode,
  read: (source: number, at: number, length: number) => Buffer,
): Buffer {
  if (node.extents === null)
    return node.size === 0 || node.source < 0
      ? Buffer.alloc(node.size)
      : read(node.source, node.at, node.size);
  const content = Buffer.alloc(node.size);
  for (const { offset, length, source, at } of node.extents) read(source, at, length).copy(content, offset);
  return content;
}

/** Everything about a tree as comparable lines; hard links show as the same number. */
export function describeTree(
  tree: FileTree,
  read: (source: number, at: number, length: number) => Buffer,
): string[] {
  const lines: string[] = [];
  const numbers = new Map<TreeNode, number>();
  const walk = (path: string, node: TreeNode): void => {
    if (!numbers.has(node)) numbers.set(node, numbers.size);
    const { mode, uid, gid, mtime, mtimeNsec, size, devMajor, devMinor, target, opaque, implied, lowerLink } =
      node;
    const content =
      node.children === null && size > 0 && target === '' ? contentOf(node, read).toString('base64') : '';
    const whiteouts = node.whiteouts === null ? null : [...node.whiteouts].sort();
    lines.push(
      JSON.stringify([
        path,
        numbers.get(node),
        mode,
        uid,
        gid,
        mtime,
        mtimeNsec,
        size,
        devMajor,
        devMinor,
        target,
        opaque,
        implied,
        lowerLink,
        whiteouts,
        [...(node.xattrs ?? [])],
        content,
      ]),
    );
    for (const name of [...(node.children?.keys() ?? [])].sort())
      walk(`${path}/${name}`, node.children!.get(name)!);
  };
  walk('', tree.root);
  return lines;
}
