/**
 * Images that mkfs.erofs makes, in every way it lays out uncompressed data: our reader sees what
 * the kernel's mount shows, the dump names all of it, and such images merge with ours.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { closeSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import {
  bufferSource,
  dumpImage,
  ErofsReader,
  fittingBlockSize,
  planImage,
  writeImage,
} from '../../src/erofs/index.ts';
import { VeneerError } from '../../src/errors.ts';
import { type FileTree, mergeLayers } from '../../src/tree/index.ts';
import { MountLab, whyNoKernel } from '../support/kernel-mount.ts';
import { Oracle } from '../support/oracle.ts';
import { missing, newerTool, requireTool } from '../support/require-tool.ts';
import {
  archive,
  device,
  dir,
  fifo,
  file,
  hardLink,
  opaque,
  sparseFile,
  symlink,
  whiteout,
} from '../support/tar-builder.ts';
import { patterned } from '../support/tar-cases/tar-case.ts';
import { overlayView, type Snapshot, snapshotDirectory, snapshotTree } from '../support/tree-snapshot.ts';
import { assertSameSnapshot } from '../support/tree-snapshot-diff.ts';
import { CaseImages, type ImageFile } from './case-images.ts';
import { fsckErofs, mkfsImages, unpackWithTar } from './oracles.ts';

const run = promisify(execFile);

/** user::rw-, user:1000:r--, group::r--, mask::r--, other::---, as the kernel takes it (linux/posix_acl_xattr.h). */
const ACL = Buffer.from(
  '02000000' +
    '01000600ffffffff' +
    '02000400e8030000' +
    '04000400ffffffff' +
    '10000400ffffffff' +
    '20000000ffffffff',
  'hex',
).toString('latin1');

/** What a folder holds that is hard on a layout: sizes around blocks, holes, many names, attributes of every kind. */
function makeBase(): Buffer {
  const sizes = [0, 1, 60, 511, 512, 513, 1024, 4000, 4095, 4096, 4097, 8192, 12_289, 100_001];
  const members = [
    dir('./', { mode: 0o750, mtime: 1_600_000_000 }),
    dir('sizes'),
    ...sizes.map((size) => file(`sizes/${size}`, patterned(size, size + 1))),
    dir('twins'),
    file('twins/a', patterned(20_000, 7)),
    file('twins/b', patterned(20_000, 7)),
    file('twins/zeros', Buffer.alloc(20_000)),
    file('linked', 'one inode'),
    hardLink('sizes/also', 'linked'),
    symlink('short', 'sizes/1'),
    symlink('long', `${'d/'.repeat(2000)}e`),
    hardLink('symlink-too', 'short'),
    device('null', 'char', 1, 3),
    device('disk', 'block', 259, 70_000),
    fifo('pipe'),
    sparseFile(
      'sparse',
      10_000_000,
      [
        { offset: 8192, data: patterned(4096, 3) },
        { offset: 5_000_192, data: patterned(5000, 4) },
      ],
      '1.0',
    ),
    file('times', 'x', { mtime: 5, mtimeNsec: 123_456_789, uid: 100_000, gid: 4_000_000_000 }),
    dir('xattrs', { xattrs: { 'user.shared': 'on many', 'trusted.own': 'dir' } }),
    ...Array.from({ length: 20 }, (_, i) =>
      file(`xattrs/${i}`, 'x', {
        xattrs: { 'user.shared': 'on many', 'user.own': String(i), 'security.capability': CAPABILITY },
      }),
    ),
    file('xattrs/large', 'x', { xattrs: { 'user.large': 'v'.repeat(9000), 'user.empty': '' } }),
    file('xattrs/acl', 'x', { mode: 0o640, xattrs: { 'system.posix_acl_access': ACL } }),
    dir('xattrs/acl-dir', { mode: 0o750, xattrs: { 'system.posix_acl_default': ACL } }),
    dir('many'),
    ...Array.from({ length: 3000 }, (_, i) => file(`many/a name of some length ${i}`, '')),
    dir('deep'),
    file('deep/caf\xe9', 'not UTF-8'),
  ];
  return archive(...members);
}

const CAPABILITY = Buffer.from('0100000200200000000000000000000000000000', 'hex').toString('latin1');

/** A layer of ours to lie on it; it names every directory that it goes through. */
function makeUpper(): Buffer {
  return archive(
    dir('./', { mode: 0o711 }),
    whiteout('linked'),
    dir('sizes', { mode: 0o700 }),
    file('sizes/4096', 'replaced'),
    whiteout('sizes/1'),
    dir('many', { mode: 0o755 }),
    opaque('many'),
    file('many/one', 'left'),
    file('new', patterned(9000, 1)),
  );
}

interface Variant {
  readonly name: string;
  readonly options: readonly string[];
  /** Made of the tar, not of a folder. */
  readonly tar?: boolean;
  /** File data goes to a device of its own. */
  readonly blobs?: boolean;
}

const VARIANTS: readonly Variant[] = [
  { name: 'default', options: [] },
  { name: 'no inline data', options: ['-Enoinline_data'] },
  { name: 'chunks of a block', options: ['--chunksize=4096'] },
  { name: 'large chunks', options: ['--chunksize=65536'] },
  { name: 'chunks with indexes', options: ['--chunksize=4096', '-Eforce-chunk-indexes'] },
  { name: 'chunks on a device of their own', options: ['--chunksize=4096'], blobs: true },
  { name: 'blocks of 512', options: ['-b512'] },
  { name: 'blocks of 1024', options: ['-b1024'] },
  { name: 'blocks of 2048, no inline data', options: ['-b2048', '-Enoinline_data'] },
  { name: 'extended inodes', options: ['-Eforce-inode-extended'] },
  { name: 'compact inodes', options: ['-Eforce-inode-compact', '--all-root'] },
  { name: 'one time for all', options: ['-T1234567890', '--all-time'] },
  { name: 'time of building', options: ['-T1234567890', '--mkfs-time'] },
  { name: 'no hard links', options: ['--hard-dereference'] },
  { name: 'no xattr filter', options: ['-E^xattr-name-filter'] },
  { name: 'no shared xattrs', options: ['-x-1'] },
  { name: 'all xattrs shared', options: ['-x0'] },
  { name: 'no checksum', options: ['-Enosbcrc'] },
  { name: 'tar with its data', options: ['--tar=f'], tar: true },
  { name: 'tar as index', options: ['--tar=i'], tar: true },
  { name: 'room for attributes of the root', options: ['--root-xattr-isize=256'] },
  { name: 'aligned data', options: ['-Enoinline_data', '--dsunit=8', '--fsalignblks=16'] },
];

const noKernel = process.env.CI ? null : whyNoKernel();

describe('images of mkfs.erofs', { skip: noKernel ?? false }, () => {
  let oracle: Oracle;
  let lab: MountLab;
  let base: string;
  let baseTar: string;
  before(async () => {
    oracle = new Oracle();
    lab = new MountLab(oracle);
    baseTar = join(lab.folder('base'), 'base.tar');
    writeFileSync(baseTar, makeBase());
    base = (await unpackWithTar(lab, [baseTar])).at;
  });
  after(async () => {
    await lab.close();
    await oracle.close();
  });

  const mkfs = (t: TestContext): string | null => {
    const program = newerTool('mkfs.erofs');
    if (program === null) missing(t, 'mkfs.erofs 1.9 is not there: scripts/tools.sh');
    return program;
  };

  async function make(program: string, variant: Variant): Promise<ImageFile> {
    const folder = lab.folder('mkfs');
    const path = join(folder, 'image.erofs');
    const blobs = join(folder, 'blobs');
    const options = variant.blobs ? [...variant.options, `--blobdev=${blobs}`] : variant.options;
    await run(program, ['--quiet', ...options, path, variant.tar ? baseTar : base]);
    if (variant.blobs) return { path, devices: [blobs] };
    return { path, devices: variant.options.includes('--tar=i') ? [baseTar] : [] };
  }

  /** Our reader's picture of an image, and its tree. */
  async function read(image: ImageFile): Promise<{ tree: FileTree; snapshot: Snapshot }> {
    const reader = new ErofsReader(bufferSource(readFileSync(image.path)));
    const tree = reader.readTree();
    const snapshot = await snapshotTree(tree, readerOf(image));
    const lines = [...dumpImage(reader)].length - 1 - reader.superblock.devices.length;
    assert.equal(lines, snapshot.size, 'the dump has a line for every name');
    return { tree, snapshot };
  }

  function readerOf({ path, devices }: ImageFile): (source: number, at: number, length: number) => Buffer {
    return (source, at, length) => {
      const fd = openSync(source === 0 ? path : devices[source - 1]!, 'r');
      const bytes = Buffer.alloc(length);
      try {
        return bytes.subarray(0, readSync(fd, bytes, 0, length, at));
      } finally {
        closeSync(fd);
      }
    };
  }

  /** What is mounted and what is read are the same, and so is the merge with a layer of ours. */
  async function check(image: ImageFile, t: TestContext): Promise<void> {
    const target = await lab.mountErofs(image.path, image.devices);
    const shown = await snapshotDirectory(oracle, target);
    assertSameSnapshot(shown, (await read(image)).snapshot, 'mounted (expected) and read');

    await t.test('merged with ours', async (step) => {
      const folder = lab.folder('merged');
      const images = new CaseImages(folder, [makeUpper()]);
      const upper = images.layers[0]!.metadata;
      // The independent view: overlayfs over the two mounts.
      const lowers = [target, await lab.mountErofs(upper.path, upper.devices)];
      const view = await snapshotDirectory(oracle, await lab.mountOverlay(lowers));
      const files = new Map<string, string>([[images.readBack(upper).sources[1]!.digest, upper.devices[0]!]]);
      const { tree } = await read(image);
      tree.sources.forEach((source, i) => {
        source.digest = `sha256:${i}`;
        files.set(source.digest, [image.path, ...image.devices][i]!);
      });
      const merged = mergeLayers([tree, images.readBack(upper)]);
      const fileOf = (source: number): string => files.get(merged.sources[source]!.digest)!;
      const plan = planImage(merged, { blockSize: fittingBlockSize(merged.sources) });
      const pieces: Buffer[] = [];
      writeImage(plan, { write: (chunk) => void pieces.push(Buffer.from(chunk)) }, (source, at, length) =>
        readerOf({ path: fileOf(source), devices: [] })(0, at, length),
      );
      const path = join(folder, 'merged.erofs');
      writeFileSync(path, Buffer.concat(pieces));
      const devices = plan.devices.map(({ source }) => fileOf(source));
      const mounted = await snapshotDirectory(oracle, await lab.mountErofs(path, devices));
      assertSameSnapshot(overlayView(view), mounted, 'overlayfs (expected) and merged', {
        // overlayfs shows the link count of the lower inode, hidden names included.
        ignore: (_path, field) => field === 'nlink',
      });
      const fsck = newerTool('fsck.erofs');
      if (fsck === null) missing(step, 'fsck.erofs 1.9 is not there: scripts/tools.sh');
      else await fsckErofs(fsck, [{ path, devices }]);
      images.close();
    });
  }

  for (const variant of VARIANTS) {
    test(variant.name, async (t) => {
      const program = mkfs(t);
      if (program !== null) await check(await make(program, variant), t);
    });
  }

  for (const mode of ['i', 'f'] as const) {
    test(`merged by mkfs.erofs from --tar=${mode}`, async (t) => {
      const program = mkfs(t);
      if (program === null) return;
      const folder = lab.folder('layers');
      const other = join(folder, 'other.tar');
      writeFileSync(other, archive(dir('./'), dir('other'), file('other/file', patterned(5000, 9))));
      const { merged } = await mkfsImages(program, folder, [baseTar, other], mode);
      await check(merged, t);
    });
  }

  test("by Debian 12's mkfs.erofs 1.5", async (t) => {
    const program = requireTool(t, 'mkfs.erofs');
    if (program === null) return;
    const path = join(lab.folder('mkfs'), 'image.erofs');
    await run(program, [path, base]);
    await check({ path, devices: [] }, t);
  });

  for (const [name, options] of [
    ['compressed', ['-zlz4', '-C65536']],
    ['48-bit addresses', ['-E48bit']],
    ['long xattr prefixes', ['--xattr-prefix=user.o']],
  ] as const) {
    test(`${name}: refused in words`, async (t) => {
      const program = mkfs(t);
      if (program === null) return;
      const image = await make(program, { name, options });
      await assert.rejects(
        read(image),
        (error) => error instanceof VeneerError && error.code === 'erofs/unsupported',
      );
    });
  }
});
