import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { contentOf, describeTree, SOURCE_BYTES, treeArbitrary } from '../../test/support/random-tree.ts';
import { bufferSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import { type FileTree, S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG, TreeNode } from '../tree/node.ts';
import { dumpImage, ErofsReader, planImage, writeImage } from './index.ts';

const readSource = (_: number, at: number, length: number): Buffer => SOURCE_BYTES.subarray(at, at + length);

function makeImage(tree: FileTree, blockSize: number, byDevice = false): Buffer {
  const chunks: Buffer[] = [];
  let end = 0;
  writeImage(
    planImage(tree, { blockSize, byDevice }),
    {
      write(chunk, at) {
        assert.equal(at, end, 'pieces come in order and leave no gap');
        chunks.push(Buffer.from(chunk));
        end += chunk.length;
      },
    },
    readSource,
  );
  return Buffer.concat(chunks);
}

/** Reads from what an image names as its sources: itself, then its devices. */
function imageData(image: Buffer): (source: number, at: number, length: number) => Buffer {
  return (source, at, length) => (source === 0 ? image : SOURCE_BYTES).subarray(at, at + length);
}

function smallTree(): FileTree {
  const root = new TreeNode(S_IFDIR | 0o755);
  root.mtime = 1_700_000_000;
  const add = (name: string, mode: number, set: Partial<TreeNode>): TreeNode => {
    const node = Object.assign(new TreeNode(mode), { mtime: 1_700_000_000 }, set);
    root.children!.set(name, node);
    return node;
  };
  const file = add('file', S_IFREG | 0o4755, { size: 1000, source: 0, at: 1024 });
  root.children!.set('same', file);
  add('link', S_IFLNK | 0o777, { target: 'file', size: 4 });
  add('null', S_IFCHR | 0o666, { devMajor: 1, devMinor: 3, mtime: 5, mtimeNsec: 7 });
  add('caps', S_IFREG | 0o755, {
    size: 5,
    source: 0,
    at: 512,
    xattrs: new Map([['security.capability', '\x01\0']]),
  });
  add('sparse', S_IFREG | 0o600, {
    size: 1 << 20,
    extents: [{ offset: 4096, length: 4096, source: 0, at: 4096 }],
  });
  const dir = add('dir', S_IFDIR | 0o1777, { opaque: true });
  dir.whiteouts = new Set(['gone', 'lost']);
  return {
    root,
    sources: [
      { kind: 'tar', digest: `sha256:${'12'.repeat(32)}`, size: SOURCE_BYTES.length, alignment: 512 },
    ],
    findings: [],
  };
}

test('any tree comes back from its image, at any block size', () => {
  fc.assert(
    fc.property(treeArbitrary(true), fc.constantFrom(512, 1024, 2048, 4096), (tree, blockSize) => {
      const before = describeTree(tree, readSource);
      const image = makeImage(tree, blockSize);
      assert.equal(image.length % blockSize, 0);
      const back = new ErofsReader(bufferSource(image)).readTree();
      assert.deepEqual(describeTree(back, imageData(image)), before);
      const named = makeImage(tree, blockSize, true);
      const again = new ErofsReader(bufferSource(named)).readTree();
      assert.deepEqual(describeTree(again, imageData(named)), before);
    }),
    { numRuns: 300 },
  );
});

test('the same tree makes the same bytes, whatever order its names were added in', () => {
  fc.assert(
    fc.property(treeArbitrary(false), (tree) => {
      const first = makeImage(tree, 512);
      const shuffle = (node: TreeNode): void => {
        if (node.children === null) return;
        node.children = new Map([...node.children].reverse());
        for (const child of node.children.values()) shuffle(child);
      };
      shuffle(tree.root);
      assert.ok(makeImage(tree, 512).equals(first));
    }),
    { numRuns: 50 },
  );
});

test('a large directory spans blocks, keeps byte order and is found again', () => {
  const root = new TreeNode(S_IFDIR | 0o755);
  for (let i = 0; i < 5000; i++)
    root.children!.set(
      `${i % 2 === 0 ? '\xff' : '-'}${i}`.padEnd(1 + (i % 250), 'z'),
      new TreeNode(S_IFREG | 0o644),
    );
  const tree = { root, sources: [], findings: [] };
  for (const blockSize of [512, 4096]) {
    const reader = new ErofsReader(bufferSource(makeImage(tree, blockSize)));
    assert.deepEqual([...reader.readTree().root.children!.keys()], [...root.children!.keys()].sort());
  }
});

test('a pinned digest: the bytes of an image change only on purpose', () => {
  const digest = (blockSize: number): string =>
    createHash('sha256').update(makeImage(smallTree(), blockSize)).digest('hex');
  assert.deepEqual([digest(512), digest(4096)], PINNED);
});

test('the dump names everything once', () => {
  const reader = new ErofsReader(bufferSource(makeImage(smallTree(), 512)));
  const lines = [...dumpImage(reader)];
  assert.match(lines[0]!, /^erofs blocksize=512 .* inodes=8 /);
  assert.match(lines[1]!, /^device 1 blocks=128 uniaddr=\d+ tag=(12){32}$/);
  assert.deepEqual(
    lines.slice(2).map((line) => line.split(' ').slice(0, 2).join(' ')),
    [
      '/ dir',
      '/caps file',
      '/dir dir',
      '/dir/gone whiteout',
      '/dir/lost whiteout',
      '/file file',
      '/link symlink',
      '/null char',
      '/same file',
      '/sparse file',
    ],
  );
  assert.match(
    lines.find((line) => line.startsWith('/file'))!,
    / 4755 0:0 nlink=2 size=1000 .*compact\/plain data=0\+1000@1:1024$/,
  );
  assert.match(lines.find((line) => line.startsWith('/sparse'))!, /chunked data=4096\+4096@1:4096$/);
  assert.match(lines.find((line) => line.startsWith('/null'))!, /mtime=5\.000000007 .*extended.* rdev=1:3$/);
});

test('a huge hole costs little, and absurd ones are refused by path', () => {
  const tree = smallTree();
  const sparse = tree.root.children!.get('sparse')!;
  sparse.size = 2 ** 42;
  sparse.extents = [
    { offset: 512, length: 1024, source: 0, at: 1024 },
    { offset: 2 ** 41, length: 512, source: 0, at: 0 },
  ];
  const image = makeImage(tree, 512);
  assert.ok(image.length < 20 << 20, `${image.length} bytes`);
  const back = new ErofsReader(bufferSource(image)).readTree().root.children!.get('sparse')!;
  const first = back.extents![0]!;
  assert.deepEqual(
    imageData(image)(first.source, first.at + 512 - first.offset, 1024),
    SOURCE_BYTES.subarray(1024, 2048),
  );
  sparse.size = 2 ** 53 - 1;
  sparse.extents = [
    { offset: 512, length: 1024, source: 0, at: 1024 },
    { offset: 2 ** 52 + 512, length: 512, source: 0, at: 0 },
  ];
  assert.throws(
    () => makeImage(tree, 512),
    (error) =>
      error instanceof VeneerError && error.code === 'erofs/limit' && error.message.includes('/sparse'),
  );
});

test('many files of little data and absurd size cost no more than a bounded sum', () => {
  const tree = smallTree();
  const add = (count: number, size: number): void => {
    for (let i = 0; i < count; i++) {
      const extents = [{ offset: 512, length: 512, source: 0, at: 512 }];
      tree.root.children!.set(`big${i}`, Object.assign(new TreeNode(S_IFREG | 0o644), { size, extents }));
    }
  };
  // Each alone would take a map of 2.7 MB and as many bytes of copies.
  add(15, 2 ** 40);
  let plan = planImage(tree, { blockSize: 512 });
  assert.ok(plan.size < 200 << 20, `${plan.size} bytes`);
  add(400, 2 ** 40);
  assert.throws(
    () => (plan = planImage(tree, { blockSize: 512 })),
    (error) => error instanceof VeneerError && error.code === 'erofs/limit' && error.message.includes('/big'),
  );
});

test('what the format cannot hold is refused by path', () => {
  const cases: [Partial<TreeNode>, RegExp][] = [
    [{ devMajor: 4096 }, /device 4096:3 \/null/],
    [{ xattrs: new Map([['user.big', 'x'.repeat(65536)]]) }, /xattr user\.big of \/null/],
    [{ xattrs: new Map([['system.nfs4_acl', 'x']]) }, /xattr system\.nfs4_acl of \/null/],
  ];
  for (const [change, message] of cases) {
    const tree = smallTree();
    Object.assign(tree.root.children!.get('null')!, change);
    assert.throws(() => makeImage(tree, 512), message);
  }
  assert.throws(() => planImage(smallTree(), { blockSize: 8192 }), /blocks of 8192/);
});

test('truncated and mutated images are refused or read, never anything else', () => {
  const image = makeImage(smallTree(), 512);
  const attempt = (bytes: Buffer): void => {
    try {
      const reader = new ErofsReader(bufferSource(bytes));
      reader.readTree();
      for (const _ of dumpImage(reader));
    } catch (error) {
      assert.ok(error instanceof VeneerError, String((error as Error).stack));
    }
  };
  for (let length = 0; length < image.length; length += 64) attempt(image.subarray(0, length));
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(image.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 }),
      (changes) => {
        const bytes = Buffer.from(image);
        for (const [at, value] of changes) bytes[at] = value;
        // without the checksum flag the damage gets past the superblock
        bytes[1024 + 8]! &= ~1;
        attempt(bytes);
      },
    ),
    { numRuns: 3000 },
  );
});

test('a directory that contains itself is an error, not a loop', () => {
  const root = new TreeNode(S_IFDIR | 0o755);
  const inner = new TreeNode(S_IFDIR | 0o755);
  root.children!.set('a', inner);
  const image = makeImage({ root, sources: [], findings: [] }, 512);
  const { rootNid } = new ErofsReader(bufferSource(image)).superblock;
  // the root's inline directory: entries '.', '..', 'a'; point 'a' at the root
  const dirents = rootNid * 32 + 512 + 32;
  const base = image.indexOf(Buffer.from('...a'), dirents) - 36;
  image.writeUInt32LE(rootNid, base + 24);
  assert.throws(() => new ErofsReader(bufferSource(image)).readTree(), /a directory has two names/);
});

test('the copied content of unaligned runs is what the sources say', () => {
  const tree = smallTree();
  const file = tree.root.children!.get('file')!;
  file.at = 77;
  const image = makeImage(tree, 4096);
  const back = new ErofsReader(bufferSource(image)).readTree();
  assert.deepEqual(
    contentOf(back.root.children!.get('same')!, imageData(image)),
    SOURCE_BYTES.subarray(77, 1077),
  );
});

const PINNED = [
  'ed4e86d52a22a25715374e8feee4b8355b002644deae3f4629132241619b58af',
  'd775fc0f0c3b1105977a6fedf53b78f5da876b6f7d8a49bea9a625998206ab1d',
];
