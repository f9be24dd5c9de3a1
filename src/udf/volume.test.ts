import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { describeTree, SOURCE_BYTES, treeArbitrary } from '../../test/support/random-tree.ts';
import { heldTree } from '../../test/support/udf-view.ts';
import { bufferSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import { mergeLayers } from '../tree/merge.ts';
import { type FileTree, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, TreeNode } from '../tree/node.ts';
import {
  attributeSidecar,
  dumpUdf,
  findTrailer,
  HEADER_BLOCKS,
  planUdf,
  type UdfPlanOptions,
  UdfReader,
  whiteoutSidecar,
  writeUdf,
} from './index.ts';

const readSource = (_: number, at: number, length: number): Buffer => SOURCE_BYTES.subarray(at, at + length);
/** The plainest volume over {@link SOURCE_BYTES}. */
const PLAIN: UdfPlanOptions = {
  names: 'bytes',
  whiteouts: 'sidecar',
  bases: [0],
  firstBlock: SOURCE_BYTES.length / 512,
  header: false,
};
const DIGEST = `sha256:${'12'.repeat(32)}`;

/** A whole volume over {@link SOURCE_BYTES}. */
function makeVolume(
  tree: FileTree,
  options: Partial<Pick<UdfPlanOptions, 'names' | 'whiteouts' | 'header'>> = {},
): Buffer {
  const header = options.header ?? false;
  const plan = planUdf(tree, {
    names: 'bytes',
    whiteouts: 'sidecar',
    ...options,
    header,
    bases: [0],
    firstBlock: SOURCE_BYTES.length / 512,
  });
  const chunks: Buffer[] = [SOURCE_BYTES];
  let end = SOURCE_BYTES.length;
  let committed = -1;
  const written = writeUdf(
    plan,
    { tarLength: SOURCE_BYTES.length, digest: DIGEST },
    {
      write(chunk, at) {
        assert.equal(at, end, 'pieces come in order and leave no gap');
        if (committed >= 0) assert.equal(chunk.length, 512, 'only the anchor comes after the commit');
        chunks.push(Buffer.from(chunk));
        end += chunk.length;
      },
    },
    readSource,
    () => {
      committed = end;
    },
  );
  assert.equal(committed, plan.anchorBlock * 512);
  assert.equal(end, plan.blocks * 512);
  assert.equal(written.header?.length ?? 0, header ? HEADER_BLOCKS * 512 : 0);
  return Buffer.concat(written.header === null ? chunks : [written.header, ...chunks]);
}

const volumeData =
  (volume: Buffer) =>
  (_: number, at: number, length: number): Buffer =>
    volume.subarray(at, at + length);

test('what UDF has a place for comes back from a volume', () => {
  fc.assert(
    fc.property(
      treeArbitrary(true),
      fc.constantFrom('bytes' as const, 'unicode' as const),
      fc.constantFrom('sidecar' as const, 'literal' as const),
      fc.boolean(),
      (tree, names, whiteouts, header) => {
        const expected = describeTree(heldTree(tree, { names, whiteouts }), readSource);
        const volume = makeVolume(tree, { names, whiteouts, header });
        const back = new UdfReader(bufferSource(volume)).readTree();
        assert.deepEqual(describeTree(back, volumeData(volume)), expected);
      },
    ),
    { numRuns: 300 },
  );
});

test('volume and sidecars together lose nothing', () => {
  fc.assert(
    fc.property(treeArbitrary(false), (tree) => {
      const expected = describeTree(tree, readSource);
      const plan = planUdf(tree, PLAIN);
      const sidecar = attributeSidecar(tree, plan.unheld);
      const volume = makeVolume(tree);
      const shown = overlay(new UdfReader(bufferSource(volume)).readTree(), sidecar);
      assert.deepEqual(describeTree(shown, volumeData(volume)), expected);
      if (sidecar === null) assert.equal(plan.unheld.findings.length, 0);
    }),
    { numRuns: 200 },
  );
});

/** What overlayfs shows of a sidecar above a volume. */
function overlay(volume: FileTree, sidecar: FileTree | null): FileTree {
  if (sidecar === null) return volume;
  const fill = (node: TreeNode, lower: TreeNode | undefined): void => {
    if (node.xattrs?.delete('trusted.overlay.metacopy')) {
      assert.ok(lower !== undefined && lower.size === node.size, 'the data is below, under the same name');
      node.source = lower.source;
      node.at = lower.at;
      node.extents = lower.extents;
      if (node.xattrs.size === 0) node.xattrs = null;
    }
    for (const [name, child] of node.children ?? []) fill(child, lower?.children?.get(name));
  };
  fill(sidecar.root, volume.root);
  // data of the volume stands at the same offsets as in the source it was made of, or was copied
  return mergeLayers([volume, { ...sidecar, sources: [{ ...volume.sources[0]! }] }]);
}

test('the whiteout sidecar has the whiteouts and nothing else', () => {
  const { root } = smallTree();
  const sidecar = whiteoutSidecar({ root, sources: [], findings: [] })!;
  assert.deepEqual([...sidecar.root.children!.keys()], ['dir']);
  const dir = sidecar.root.children!.get('dir')!;
  assert.deepEqual([...dir.whiteouts!], ['gone', 'lost']);
  assert.equal(dir.opaque, true);
  assert.equal(dir.children!.size, 0);
  const device = root.children!.get('null')!;
  device.devMajor = 0;
  device.devMinor = 0;
  assert.deepEqual([...whiteoutSidecar({ root, sources: [], findings: [] })!.root.whiteouts!], ['null']);
  device.devMinor = 3;
  root.children!.delete('dir');
  assert.equal(whiteoutSidecar({ root, sources: [], findings: [] }), null);
});

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
  add('link', S_IFLNK | 0o777, { target: '../file', size: 7 });
  add('null', S_IFCHR | 0o666, { devMajor: 1, devMinor: 3, mtime: 5, mtimeNsec: 7000 });
  add('fifo', S_IFIFO | 0o600, { uid: 4_000_000_000, gid: 70_000 });
  add('sparse', S_IFREG | 0o600, {
    size: 1 << 20,
    extents: [{ offset: 4096, length: 4096, source: 0, at: 4096 }],
  });
  const dir = add('dir', S_IFDIR | 0o1777, { opaque: true });
  dir.whiteouts = new Set(['gone', 'lost']);
  return {
    root,
    sources: [{ kind: 'tar', digest: DIGEST, size: SOURCE_BYTES.length, alignment: 512 }],
    findings: [],
  };
}

test('the same tree makes the same bytes, whatever order its names were added in', () => {
  fc.assert(
    fc.property(treeArbitrary(false), (tree) => {
      const first = makeVolume(tree);
      const shuffle = (node: TreeNode): void => {
        if (node.children === null) return;
        node.children = new Map([...node.children].reverse());
        for (const child of node.children.values()) shuffle(child);
      };
      shuffle(tree.root);
      assert.ok(makeVolume(tree).equals(first));
    }),
    { numRuns: 50 },
  );
});

test('pinned digests: the bytes of a volume change only on purpose', () => {
  const digest = (options: Parameters<typeof makeVolume>[1]): string =>
    createHash('sha256').update(makeVolume(smallTree(), options)).digest('hex');
  assert.deepEqual(
    [digest({}), digest({ names: 'unicode', header: true }), digest({ whiteouts: 'literal' })],
    PINNED,
  );
});

const PINNED = [
  '208486989dc2c7513f8c2422fcac43abc0c7da8f65af0e18cd7e9d1ae28bedf3',
  'c472ef458d2306ab2f9ce176a15b7a126e91f12b1597e23abd1d2d315b1b5d9d',
  '029c49989166c28f26012ad576bcaa93699f5b59b508ed7d5c0f11953fcb5f82',
];

test('the dump names everything once', () => {
  const reader = new UdfReader(bufferSource(makeVolume(smallTree(), { whiteouts: 'literal' })));
  const lines = [...dumpUdf(reader)];
  assert.match(
    lines[0]!,
    /^udf names=bytes whiteouts=literal flat=false header=false tar=65536@sha256:(12){32} metadata=128\+\d+@sha256:[0-9a-f]{64} anchor=\d+$/,
  );
  assert.deepEqual(
    lines.slice(1).map((line) => line.split(' ').slice(0, 2).join(' ')),
    [
      '/ dir',
      '/dir dir',
      '/dir/.wh..wh..opq file',
      '/dir/.wh.gone file',
      '/dir/.wh.lost file',
      '/fifo fifo',
      '/file file',
      '/link symlink',
      '/null char',
      '/same file',
      '/sparse file',
    ],
  );
  const line = (name: string): string => lines.find((one) => one.startsWith(`/${name} `))!;
  assert.match(line('file'), / 4755 0:0 nlink=2 size=1000 .* data=0\+1000@2$/);
  assert.match(line('sparse'), / data=0\+4096@hole data=4096\+4096@8 data=8192\+1040384@hole$/);
  assert.match(line('null'), /mtime=5\.000007000 .* rdev=1:3$/);
  assert.match(line('dir/.wh.gone'), / nlink=3 size=0 /);
  assert.match(line('link'), / inline target=\.\.\/file$/);
});

test('what has no place is told by path', () => {
  const tree = smallTree();
  const { children } = tree.root;
  const file = children!.get('file')!;
  file.xattrs = new Map([['user.a', 'b']]);
  children!.get('null')!.mtimeNsec = 7;
  children!.get('fifo')!.uid = 0xffffffff;
  children!.get('link')!.target = 'a//b';
  children!.set('x'.repeat(255), new TreeNode(S_IFREG));
  const lower = new TreeNode(S_IFREG);
  lower.lowerLink = 'elsewhere';
  children!.set('lower', lower);
  const implied = new TreeNode(S_IFDIR | 0o755);
  implied.implied = true;
  children!.set('implied', implied);
  children!.set('zero', new TreeNode(S_IFCHR));
  const plan = planUdf(tree, PLAIN);
  const seen = plan.unheld.findings.map(({ code, path }) => `${code} ${path!.slice(0, 10)}`).sort();
  assert.deepEqual(seen, [
    'udf/device-zero zero',
    'udf/implied implied',
    'udf/lower-link lower',
    `udf/name ${'x'.repeat(10)}`,
    'udf/owner fifo',
    'udf/target link',
    'udf/time null',
    'udf/xattrs file',
  ]);
  assert.deepEqual(plan.unheld.lost.map(({ code }) => code).sort(), [
    'udf/device-zero',
    'udf/implied',
    'udf/lower-link',
  ]);
});

test('a file of many extents takes blocks of its own for them, and comes back', () => {
  for (const runs of [41, 42, 43, 102, 103, 163, 164, 2000]) {
    const tree = smallTree();
    const sparse = tree.root.children!.get('sparse')!;
    // every second block is a hole: two descriptors a run, the last hole included
    sparse.extents = Array.from({ length: Math.ceil(runs / 2) }, (_, i) => ({
      offset: i * 1024 + 512,
      length: 512,
      source: 0,
      at: (i % 100) * 512,
    }));
    sparse.size = runs % 2 === 0 ? (runs / 2) * 1024 : ((runs - 1) / 2) * 1024 + 100;
    if (runs % 2 === 1) sparse.extents.pop();
    const volume = makeVolume(tree);
    const reader = new UdfReader(bufferSource(volume));
    const entry = reader.readEntry(blockOf(reader, 'sparse'));
    assert.equal(entry.runs.length, runs);
    assert.equal(entry.continuations, runs <= 42 ? 0 : Math.ceil((runs - 42) / 60), `${runs} extents`);
    assert.deepEqual(
      describeTree(reader.readTree(), volumeData(volume)),
      describeTree(heldTree(tree, { names: 'bytes', whiteouts: 'sidecar' }), readSource),
    );
  }
});

function blockOf(reader: UdfReader, name: string): number {
  let found = -1;
  reader.readDirectory(reader.readEntry(reader.rootBlock), (one, block) => {
    if (one === name) found = block;
  });
  return found;
}

test('files over 1 GiB and holes of terabytes are several extents', () => {
  const tree = smallTree();
  const sparse = tree.root.children!.get('sparse')!;
  sparse.size = 2 ** 43 + 17;
  sparse.extents = [{ offset: 2 ** 42, length: 4096, source: 0, at: 4096 }];
  const reader = new UdfReader(bufferSource(makeVolume(tree)));
  const entry = reader.readEntry(blockOf(reader, 'sparse'));
  assert.equal(entry.size, 2 ** 43 + 17);
  assert.equal(entry.recorded, 8);
  assert.ok(entry.runs.every(({ length }) => length <= 0x3ffffe00));
  const data = reader.readTree().root.children!.get('sparse')!;
  assert.deepEqual(data.extents, [{ offset: 2 ** 42, length: 4096, source: 0, at: 4096 }]);
  sparse.size = 2 ** 52;
  const plan = planUdf(tree, PLAIN);
  assert.deepEqual(
    plan.unheld.findings.map(({ code, path }) => [code, path]),
    [['udf/extents', 'sparse']],
  );
});

test('100,000 entries in one directory', () => {
  const tree = smallTree();
  for (let i = 0; i < 100_000; i++)
    tree.root.children!.set(`entry number ${i}`, new TreeNode(S_IFREG | 0o644));
  const volume = makeVolume(tree);
  const back = new UdfReader(bufferSource(volume)).readTree();
  assert.equal(back.root.children!.size, 100_000 + 7);
  assert.ok((volume.length - SOURCE_BYTES.length) / 100_000 < 700);
});

test('directories with more links than can be counted', () => {
  const tree = smallTree();
  for (let i = 0; i < 66_000; i++) tree.root.children!.set(`d${i}`, new TreeNode(S_IFDIR | 0o755));
  const file = tree.root.children!.get('file')!;
  for (let i = 0; i < 66_000; i++) tree.root.children!.set(`f${i}`, file);
  const reader = new UdfReader(bufferSource(makeVolume(tree)));
  assert.equal(reader.readEntry(reader.rootBlock).nlink, 0xffff);
  assert.equal(reader.readEntry(blockOf(reader, 'f5')).nlink, 0xffff);
  const plan = planUdf(tree, PLAIN);
  assert.deepEqual(
    plan.unheld.findings.map(({ code }) => code),
    ['udf/links'],
  );
});

test('a device beyond what the kernel can number is refused by path', () => {
  const tree = smallTree();
  tree.root.children!.get('null')!.devMajor = 4096;
  assert.throws(() => makeVolume(tree), /Cannot store device 4096:3 '\/null' in UDF/);
});

test('absurdly many holes are refused by path', () => {
  const tree = smallTree();
  for (let i = 0; i < 80; i++) {
    const node = new TreeNode(S_IFREG);
    node.size = 2 ** 47;
    tree.root.children!.set(`hole ${String(i).padStart(2, '0')}`, node);
  }
  assert.throws(() => planUdf(tree, PLAIN), /Cannot store '\/hole \d\d' in UDF: .* need \d+ extents/);
});

test('damaged volumes are refused or read, and never hang', () => {
  const volume = makeVolume(smallTree());
  const start = SOURCE_BYTES.length;
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(volume.length - start - 1), fc.nat(255)), { minLength: 1, maxLength: 8 }),
      fc.boolean(),
      (changes, repair) => {
        const bytes = Buffer.from(volume);
        for (const [at, value] of changes) {
          bytes[start + at] = value;
          // an attacker's checksums are right
          if (repair) reseal(bytes, Math.floor((start + at) / 512) * 512);
        }
        try {
          const reader = new UdfReader(bufferSource(bytes));
          describeTree(reader.readTree(), (_, at, length) =>
            bytes.subarray(at, at + Math.min(length, 1 << 16)),
          );
          [...dumpUdf(reader)];
        } catch (error) {
          assert.ok(error instanceof VeneerError, String(error));
          assert.match(error.code, /^udf\//);
        }
      },
    ),
    { numRuns: 3000 },
  );
});

/** Makes the tag of the descriptor at `at` right again. */
function reseal(bytes: Buffer, at: number): void {
  let crc = 0;
  const end = Math.min(at + 16 + bytes.readUInt16LE(at + 10), bytes.length);
  for (let i = at + 16; i < end; i++) {
    crc ^= bytes[i]! << 8;
    for (let bit = 0; bit < 8; bit++)
      crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : (crc << 1) & 0xffff;
  }
  bytes.writeUInt16LE(crc, at + 8);
  let sum = 0;
  for (let i = 0; i < 16; i++) if (i !== 4) sum += bytes[at + i]!;
  bytes[at + 4] = sum;
}

test('only a sound trailer at the very end is one', () => {
  const volume = makeVolume(smallTree());
  const trailer = findTrailer(bufferSource(volume))!;
  assert.equal(trailer.tarLength, SOURCE_BYTES.length);
  assert.equal(trailer.digest, DIGEST);
  assert.equal(trailer.firstBlock, 128);
  assert.equal(findTrailer(bufferSource(Buffer.concat([volume, Buffer.alloc(512)]))), null);
  assert.equal(findTrailer(bufferSource(volume.subarray(0, -512))), null);
  assert.equal(findTrailer(bufferSource(volume.subarray(0, -1))), null);
  assert.equal(findTrailer(bufferSource(SOURCE_BYTES)), null);
  assert.equal(findTrailer(bufferSource(Buffer.alloc(0))), null);
  // moved by one block, every place it names is wrong
  assert.equal(findTrailer(bufferSource(Buffer.concat([Buffer.alloc(512), volume]))), null);
  assert.throws(() => new UdfReader(bufferSource(SOURCE_BYTES)), /does not end in a UDF trailer/);
});
