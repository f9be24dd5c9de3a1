/** Forged images: what our writer never makes, and a reader must neither believe nor choke on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeTree } from '../../test/support/random-tree.ts';
import { type ByteSource, bufferSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import { type FileTree, S_IFDIR, S_IFLNK, S_IFREG, TreeNode } from '../tree/node.ts';
import { DEVICE_SLOT, EROFS_SUPER_OFFSET, INODE_COMPACT, SUPERBLOCK } from './format.ts';
import { dumpImage, ErofsReader, planImage, writeImage } from './index.ts';

const BLOCK = 512;

function makeImage(tree: FileTree): Buffer {
  const pieces: Buffer[] = [];
  writeImage(
    planImage(tree, { blockSize: BLOCK }),
    { write: (piece) => void pieces.push(Buffer.from(piece)) },
    (_source, _at, length) => Buffer.alloc(length, 'd'),
  );
  const image = Buffer.concat(pieces);
  // Without the checksum what is forged below gets past the superblock.
  image[EROFS_SUPER_OFFSET + SUPERBLOCK.at.feature_compat]! &= ~1;
  return image;
}

const folder = (children: Record<string, TreeNode> = {}): TreeNode => {
  const node = new TreeNode(S_IFDIR | 0o755);
  for (const [name, child] of Object.entries(children)) node.children!.set(name, child);
  return node;
};
const file = (set: Partial<TreeNode> = {}): TreeNode => Object.assign(new TreeNode(S_IFREG | 0o644), set);
const treeOf = (root: TreeNode, devices = 1): FileTree => ({
  root,
  sources: Array.from({ length: devices }, (_, i) => ({
    kind: 'tar',
    digest: `sha256:${String(i).padStart(64, '0')}`,
    size: 1 << 20,
    alignment: BLOCK,
  })),
  findings: [],
});

/** Byte offset of each inode that `choose` takes, by the names of the dump. */
function inodesOf(image: Buffer, choose: (line: string) => boolean): number[] {
  const reader = new ErofsReader(bufferSource(image));
  const { metaBlock, blockSize } = reader.superblock;
  return [...dumpImage(reader)]
    .filter((line) => line.startsWith('/') && choose(line))
    .map((line) => metaBlock * blockSize + Number(/ nid=(\d+)/.exec(line)![1]) * 32);
}

function refuses(image: Buffer, message: RegExp, code = 'erofs/corrupt'): void {
  for (const read of [
    () => new ErofsReader(bufferSource(image)).readTree(),
    () => [...dumpImage(new ErofsReader(bufferSource(image)))],
  ]) {
    assert.throws(
      read,
      (error) => error instanceof VeneerError && error.code === code && message.test(error.message),
    );
  }
}

test('folders that all claim the same entries are refused, not unfolded', () => {
  const many = folder();
  for (let i = 0; i < 500; i++) many.children!.set(`a name of some length ${i}`, file());
  const root = folder({ many });
  for (let i = 0; i < 100; i++) root.children!.set(`other${i}`, folder());
  const image = makeImage(treeOf(root));
  const [from] = inodesOf(image, (line) => line.startsWith('/many dir'));
  for (const at of inodesOf(image, (line) => line.startsWith('/other')))
    image.copy(image, at, from, from! + 32);
  refuses(image, /metadata is larger than the image/);
});

test('chunk maps that overlap are refused, not added up', () => {
  const root = folder();
  for (let i = 0; i < 200; i++) {
    const extents = [{ offset: 0, length: 512, source: 0, at: 512 * i }];
    root.children!.set(`f${i}`, file({ size: 1 << 20, extents }));
  }
  const image = makeImage(treeOf(root));
  for (const at of inodesOf(image, (line) => line.includes('chunked'))) {
    // Chunks of one block with block numbers, as many as there is room for behind the inode.
    image.writeUInt16LE(0, at + INODE_COMPACT.at.u);
    image.writeUInt32LE(Math.floor((image.length - at - 64) / 4) * BLOCK, at + INODE_COMPACT.at.size);
  }
  image.fill(0xff, image.length - BLOCK);
  refuses(image, /metadata is larger than the image|of device 0 with/);
});

test('an inode of many names that says it has one is not read for each', () => {
  const target = 'x'.repeat(4000);
  const inodes: Record<string, TreeNode> = {
    symlink: Object.assign(new TreeNode(S_IFLNK | 0o777), { target, size: target.length }),
    attribute: file({ xattrs: new Map([['user.note', target]]) }),
    map: file({
      size: 512 * 600,
      extents: Array.from({ length: 300 }, (_, i) => ({ offset: 1024 * i, length: 512, source: 0, at: 0 })),
    }),
  };
  for (const [kind, node] of Object.entries(inodes)) {
    const root = folder();
    for (let i = 0; i < 300; i++) root.children!.set(`${kind}${i}`, node);
    const image = makeImage(treeOf(root));
    assert.equal(new ErofsReader(bufferSource(image)).readTree().root.children!.size, 300);
    const [at] = inodesOf(image, (line) => line.startsWith(`/${kind}0 `));
    image.writeUInt16LE(1, at! + INODE_COMPACT.at.nlink);
    refuses(image, /metadata is larger than the image/);
  }
});

test('folders deeper than a layer may have are refused', () => {
  let top = folder();
  for (let i = 0; i < 2048; i++) top = folder({ d: top });
  assert.ok(new ErofsReader(bufferSource(makeImage(treeOf(top)))).readTree());
  refuses(makeImage(treeOf(folder({ d: top }))), /more than 2048 directories deep/, 'erofs/limit');
});

test('a name cannot be a whiteout and a file', () => {
  for (const [gone, there] of [
    ['a', 'b'],
    ['b', 'a'],
  ] as const) {
    const root = folder({ [there]: file() });
    root.whiteouts = new Set([gone]);
    const image = makeImage(treeOf(root));
    const at = image.indexOf('...ab');
    image.write('...aa', at);
    refuses(image, /the name a occurs twice/);
  }
});

test('devices that overlap are refused; each address means one byte', () => {
  const extents = [0, 1].map((source) => file({ size: 512, source, at: 512 }));
  const image = makeImage(treeOf(folder({ a: extents[0]!, b: extents[1]! }), 2));
  const { devices } = new ErofsReader(bufferSource(image)).superblock;
  const slot = EROFS_SUPER_OFFSET + SUPERBLOCK.size + DEVICE_SLOT.size;
  image.writeUInt32LE(devices[0]!.uniaddr + 1, slot + DEVICE_SLOT.at.uniaddr);
  refuses(image, /devices 1 and 2 overlap/);
});

test('a plain file at no address is one hole', () => {
  const image = makeImage(treeOf(folder({ f: file({ size: 1000, source: 0, at: 512 }) })));
  const [at] = inodesOf(image, (line) => line.startsWith('/f '));
  image.writeUInt32LE(0xffffffff, at! + INODE_COMPACT.at.u);
  const node = new ErofsReader(bufferSource(image)).readTree().root.children!.get('f')!;
  assert.deepEqual([node.size, node.source, node.extents], [1000, -1, null]);
});

test('compact inodes count their time from the epoch', () => {
  const image = makeImage(treeOf(folder({ f: file({ mtime: 100 }), g: file({ mtime: 100 }) })));
  const [at] = inodesOf(image, (line) => line.startsWith('/f '));
  image.writeUInt32LE(23, at! + INODE_COMPACT.at.mtime);
  assert.equal(new ErofsReader(bufferSource(image)).readTree().root.children!.get('f')!.mtime, 123);
});

test('a large image is read through windows, wherever its parts lie', () => {
  const root = folder();
  for (let i = 0; i < 3000; i++) {
    const xattrs = new Map([['user.note', `${i}`.padStart(i % 700, 'x')]]);
    root.children!.set(`a name that takes its room ${i}`, file({ xattrs, size: i, source: 0, at: 512 * i }));
  }
  root.children!.set('wide', file({ xattrs: new Map([['user.wide', 'w'.repeat(60_000)]]) }));
  const image = makeImage({ ...treeOf(root), sources: [{ ...treeOf(root).sources[0]!, size: 1 << 30 }] });
  const size = 65 << 20;
  let read = 0;
  const large: ByteSource = {
    size,
    read(offset, length) {
      assert.ok(offset >= 0 && length >= 0 && offset + length <= size);
      read += length;
      const bytes = Buffer.alloc(length);
      image.copy(bytes, 0, Math.min(offset, image.length), Math.min(offset + length, image.length));
      return bytes;
    },
  };
  const noData = (_source: number, _at: number, length: number): Buffer => Buffer.alloc(length);
  const small = new ErofsReader(bufferSource(image)).readTree();
  assert.deepEqual(describeTree(new ErofsReader(large).readTree(), noData), describeTree(small, noData));
  assert.ok(read < 3 * image.length, `${read} bytes were read of ${image.length}`);
});
