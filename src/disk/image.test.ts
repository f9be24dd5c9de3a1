/** Disks of made-up files against a naive concatenation. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it, type TestContext } from 'node:test';
import fc from 'fast-check';
import { noise } from '../../test/support/image-builder.ts';
import { missing, requireTool } from '../../test/support/require-tool.ts';
import { linearScript } from './dm-table.ts';
import { diskExtents, placeExtra, writeExtra } from './extra.ts';
import { readGpt } from './gpt.ts';
import { type DiskImage, planFlat } from './image.ts';
import { planPartitioned } from './partitioned.ts';
import { writeRaw } from './raw.ts';
import type { DiskPlan, ReadTail } from './segments.ts';
import { DiskSource, planRuns } from './source.ts';

const directory = mkdtempSync(join(tmpdir(), 'veneer-disk-'));
after(() => rmSync(directory, { recursive: true, force: true }));

const readTail: ReadTail = (path, at, length) => readFileSync(path).subarray(at, at + length);

/** An image of files with these sizes; each has `slack` blocks more or less than its file needs. */
function makeImage(sizes: readonly number[], blockSize: number, slack: readonly number[]): DiskImage {
  const files = sizes.map((size, i) => {
    const path = join(directory, `file-${i}`);
    const bytes = noise(size, i + 1);
    if (i === 0) bytes.fill(0, 0, 1024);
    writeFileSync(path, bytes);
    const blocks = Math.max(1, Math.ceil(size / blockSize) + (slack[i] ?? 0));
    return { path, size, blocks, name: `layer ${i}` };
  });
  let uniaddr = 0;
  const placed = files.map((file) => {
    const at = uniaddr;
    uniaddr += file.blocks;
    uniaddr += (4096 / blockSize - (uniaddr % (4096 / blockSize))) % (4096 / blockSize);
    return { ...file, uniaddr: at };
  });
  return { blockSize, primary: placed[0]!, devices: placed.slice(1) };
}

/** What must stand on the flat disk. */
function naive({ blockSize, primary, devices }: DiskImage): Buffer {
  const end = Math.max(primary.blocks, ...devices.map(({ uniaddr, blocks }) => uniaddr + blocks));
  const disk = Buffer.alloc(end * blockSize);
  for (const { path, blocks, uniaddr } of [{ ...primary, uniaddr: 0 }, ...devices])
    readFileSync(path).copy(disk, uniaddr * blockSize, 0, blocks * blockSize);
  return disk;
}

function bytesOf(plan: DiskPlan): Buffer {
  const source = new DiskSource(planRuns(plan));
  try {
    return source.read(0, source.size);
  } finally {
    source.close();
  }
}

/** The same through extents and an extra file, as a VMDK or a device-mapper table has it. */
function bytesByExtents(plan: DiskPlan, primary: string): Buffer {
  const extra = placeExtra(plan);
  const path = join(directory, 'extra');
  const bytes = Buffer.alloc(extra.size);
  writeExtra(extra, { write: (chunk, at) => void chunk.copy(bytes, at) });
  writeFileSync(path, bytes);
  const extents = diskExtents(plan, extra, primary, (name) => name ?? path);
  return Buffer.concat(
    extents.map(({ file, offset, sectors }) => {
      const piece = readFileSync(file).subarray(offset * 512, (offset + sectors) * 512);
      assert.equal(piece.length, sectors * 512, 'an extent ends inside its file');
      return piece;
    }),
  );
}

const sizes = fc.array(fc.integer({ min: 1, max: 20_000 }), { minLength: 1, maxLength: 6 });

describe('a flat disk', () => {
  it('is the files at their addresses, whatever their lengths', () => {
    fc.assert(
      fc.property(
        sizes,
        fc.constantFrom(512, 1024, 4096),
        fc.array(fc.integer({ min: -2, max: 3 }), { maxLength: 6 }),
        (rest, blockSize, slack) => {
          const image = makeImage([4096 * 2, ...rest], blockSize, slack);
          const plan = planFlat(image, null, readTail);
          const expected = naive(image);
          assert.ok(bytesOf(plan).equals(expected));
          assert.ok(bytesByExtents(plan, image.primary.path).equals(expected));
        },
      ),
      { numRuns: 60 },
    );
  });

  it('has its hash tree on a block boundary behind it', () => {
    const image = makeImage([4096, 700], 512, []);
    const tree = { path: join(directory, 'tree'), size: 8192 };
    writeFileSync(tree.path, noise(8192, 9));
    const bytes = bytesOf(planFlat(image, tree, readTail));
    assert.equal(bytes.length, 8192 + 8192);
    assert.ok(bytes.subarray(8192).equals(readFileSync(tree.path)));
  });

  it('cannot be made when devices have no addresses, or overlap', () => {
    const image = makeImage([4096, 700, 700], 512, []);
    const [first, second] = image.devices;
    const without = { ...image, devices: [first!, { ...second!, uniaddr: 0 }] };
    assert.throws(() => planFlat(without, null, readTail), { code: 'disk/unsupported' });
    const over = { ...image, devices: [first!, { ...second!, uniaddr: first!.uniaddr + 1 }] };
    assert.throws(() => planFlat(over, null, readTail), { code: 'disk/corrupt' });
  });
});

describe('a partitioned disk', () => {
  it('has every file at the start of its partition', () => {
    const image = makeImage([4096, 700, 70_001], 512, []);
    const { plan, partitions } = planPartitioned(
      image,
      { identity: Buffer.alloc(32), trees: null },
      readTail,
    );
    const disk = bytesOf(plan);
    const table = readGpt({ size: disk.length, read: (at, length) => disk.subarray(at, at + length) })!;
    assert.deepEqual(table.problems, []);
    assert.deepEqual(
      table.partitions,
      partitions.map(({ name, start, sectors }) => ({ name, start, sectors })),
    );
    for (const [i, { start, sectors }] of partitions.entries()) {
      const file = readFileSync(join(directory, `file-${i}`));
      const part = disk.subarray(start * 512, (start + sectors) * 512);
      assert.equal(start % 2048, 0);
      assert.ok(part.subarray(0, file.length).equals(file));
      assert.ok(part.subarray(file.length).every((byte) => byte === 0));
    }
    assert.ok(bytesByExtents(plan, image.primary.path).equals(disk));
  });
});

describe('a raw disk', () => {
  async function write(plan: DiskPlan, path: string): Promise<{ cloned: number; copied: number }> {
    const fd = openSync(path, 'wx+');
    try {
      return await writeRaw(fd, plan);
    } finally {
      closeSync(fd);
    }
  }

  it('holds the same bytes, and holes where there are zeros', async () => {
    const image = makeImage([8192, 2_000_000, 300], 512, []);
    const zeros = join(directory, 'zeros');
    writeFileSync(zeros, '');
    truncateSync(zeros, 8 << 20);
    const last = image.devices.at(-1)!;
    const uniaddr = Math.ceil((last.uniaddr + last.blocks) / 8) * 8;
    const sparse = { path: zeros, size: 8 << 20, blocks: 16384, uniaddr, name: 'zeros' };
    const more = { ...image, devices: [...image.devices, sparse] };
    const plan = planFlat(more, null, readTail);
    const path = join(directory, 'disk.raw');
    await write(plan, path);
    assert.ok(readFileSync(path).equals(naive(more)));
    assert.ok(statSync(path).blocks * 512 < 3_000_000, `${statSync(path).blocks * 512} bytes on disk`);
    rmSync(path);
  });

  for (const [type, make, size] of [
    ['btrfs', ['mkfs.btrfs', '-q'], 160],
    ['xfs', ['mkfs.xfs', '-q', '-m', 'reflink=1'], 320],
  ] as const) {
    it(`shares blocks on ${type}`, async (t: TestContext) => {
      if (process.getuid?.() !== 0) return missing(t, 'mounting needs root');
      if (!readFileSync('/proc/filesystems', 'utf8').includes(type))
        return missing(t, `no ${type} in the kernel`);
      if (requireTool(t, make[0]) === null) return;
      const disk = join(directory, `${type}.img`);
      const mnt = join(directory, type);
      writeFileSync(disk, '');
      truncateSync(disk, size << 20);
      execFileSync(make[0], [...make.slice(1), disk]);
      mkdirSync(mnt, { recursive: true });
      execFileSync('mount', ['-o', 'loop', disk, mnt]);
      try {
        const image = makeImage([8192, 3_000_000, 5000, 1_000_003], 512, []);
        const moved = (path: string): string => {
          const to = join(mnt, path.slice(directory.length + 1));
          writeFileSync(to, readFileSync(path));
          return to;
        };
        const devices = image.devices.map((device) => ({ ...device, path: moved(device.path) }));
        const there = { ...image, primary: { ...image.primary, path: moved(image.primary.path) }, devices };
        execFileSync('sync');
        const report = await write(planFlat(there, null, readTail), join(mnt, 'disk.raw'));
        assert.ok(readFileSync(join(mnt, 'disk.raw')).equals(naive(there)));
        assert.ok(report.cloned > 3_900_000, JSON.stringify(report));
        assert.ok(report.copied < 16_384, JSON.stringify(report));
      } finally {
        execFileSync('umount', [mnt]);
        rmSync(disk);
      }
    });
  }
});

describe('a device-mapper script', () => {
  it('quotes names for the shell', () => {
    const script = linearScript([
      { sectors: 8, file: "/a 'b' $(c)/x", offset: 0 },
      { sectors: 2, file: '/y', offset: 6 },
      { sectors: 1, file: "/a 'b' $(c)/x", offset: 3 },
    ]);
    assert.match(script, /^attach '\/a '\\''b'\\'' \$\(c\)\/x'; d0=\$d$/m);
    assert.match(script, /^0 8 linear \$d0 0\n8 2 linear \$d1 6\n10 1 linear \$d0 3\nTABLE$/m);
    execFileSync('sh', ['-n'], { input: script });
    assert.throws(() => linearScript([{ sectors: 1, file: '/a\nb', offset: 0 }]), {
      code: 'disk/unsupported',
    });
  });
});

describe('reading', () => {
  it('stays inside the disk', () => {
    const source = new DiskSource([{ sectors: 2, path: null, at: 0 }]);
    assert.throws(() => source.read(1000, 100), { code: 'disk/corrupt' });
    assert.throws(() => source.read(-1, 1), { code: 'disk/corrupt' });
    assert.equal(source.read(0, 1024).length, 1024);
  });
});
