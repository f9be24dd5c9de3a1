import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { noise } from '../../test/support/image-builder.ts';
import { requireTool } from '../../test/support/require-tool.ts';
import { VeneerError } from '../errors.ts';
import { openDisk } from './open-disk.ts';
import { checkExtentName, isVmdk, MAX_EXTENT_SECTORS, readVmdk, writeVmdk } from './vmdk.ts';

function scratch(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'veneer-vmdk-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

const facts = {
  extents: [
    { sectors: 8, file: '/store/fsmeta.erofs', offset: 0 },
    { sectors: 20, file: '/store/it é has 空 spaces/layer.tar', offset: 3 },
  ],
  cid: 0x1234,
  notes: { fsmeta: `sha256:${'a'.repeat(64)}` },
};

describe('a descriptor', () => {
  it('says what it should', () => {
    const text = writeVmdk(facts);
    assert.match(text, /^# Disk DescriptorFile\nversion=1\n/);
    assert.match(text, /^CID=00001234\nparentCID=ffffffff$/m);
    assert.match(text, /^createType="twoGbMaxExtentFlat"$/m);
    assert.match(
      text,
      /^RW 8 FLAT "\/store\/fsmeta\.erofs" 0\nRW 20 FLAT "\/store\/it é has 空 spaces\/layer\.tar" 3$/m,
    );
    assert.match(text, /^ddb\.geometry\.cylinders = "1"$/m);
  });

  it('comes back', () => {
    const read = readVmdk(Buffer.from(writeVmdk(facts)));
    assert.equal(read.intact, true);
    assert.equal(read.createType, 'twoGbMaxExtentFlat');
    assert.equal(read.database['veneer.fsmeta'], facts.notes.fsmeta);
    assert.deepEqual(
      read.extents,
      facts.extents.map((extent) => ({ access: 'RW', type: 'FLAT', ...extent })),
    );
  });

  it('is known to be changed by a flip of any of its bits', () => {
    const text = Buffer.from(writeVmdk(facts));
    for (let at = 0; at < text.length; at++) {
      for (const bit of [1, 0x20, 0x80]) {
        const bad = Buffer.from(text);
        bad[at]! ^= bit;
        if (!isVmdk(bad)) continue; // no disk at all, then
        try {
          assert.equal(
            readVmdk(bad).intact,
            false,
            `byte ${at}: ${bad.toString('latin1', at - 10, at + 10)}`,
          );
        } catch (error) {
          assert.ok(error instanceof VeneerError && error.code === 'disk/corrupt', String(error));
        }
      }
    }
  });

  it('splits what is longer than 2 GiB less a mebibyte', () => {
    const sectors = 3 * MAX_EXTENT_SECTORS + 5;
    const { extents } = readVmdk(
      Buffer.from(writeVmdk({ ...facts, extents: [{ sectors, file: '/big', offset: 7 }] })),
    );
    assert.deepEqual(
      extents.map((extent) => [extent.sectors, extent.offset]),
      [0, 1, 2, 3].map((i) => [i < 3 ? MAX_EXTENT_SECTORS : 5, 7 + i * MAX_EXTENT_SECTORS]),
    );
  });

  it('refuses names that it cannot hold', () => {
    for (const name of [
      '/a"b',
      '/a\nb',
      '/a\u007f',
      '/\ufffd',
      `/${'x'.repeat(511)}`,
      `/${'é'.repeat(256)}`,
    ]) {
      assert.throws(() => checkExtentName(name), { code: 'disk/unsupported' }, JSON.stringify(name));
    }
    checkExtentName(`/${'x'.repeat(510)}`);
  });

  it('refuses more text than QEMU reads', () => {
    const extents = Array.from({ length: 3000 }, (_, i) => ({
      sectors: 1,
      file: `/${'x'.repeat(400)}${i}`,
      offset: 0,
    }));
    assert.throws(() => writeVmdk({ ...facts, extents }), { code: 'disk/limit' });
  });

  it('of others is read too', () => {
    const foreign = readVmdk(
      Buffer.from(
        '\n# Disk DescriptorFile\r\nversion=3\r\nCID=fffffffe\r\ncreateType="custom"\r\nRW 10 FLAT "a b.img" 0\r\nRDONLY 5 ZERO\r\nRW 6 SPARSE "s.vmdk"\r\nchangeTrackPath="x"\r\nddb.uuid = "1 2"\r\n',
      ),
    );
    assert.equal(foreign.intact, null);
    assert.deepEqual(
      foreign.extents.map(({ access, type, file }) => [access, type, file]),
      [
        ['RW', 'FLAT', 'a b.img'],
        ['RDONLY', 'ZERO', null],
        ['RW', 'SPARSE', 's.vmdk'],
      ],
    );
    assert.equal(foreign.database.uuid, '1 2');
  });

  it('that is none is refused', () => {
    assert.equal(isVmdk(Buffer.from('KDMV')), false);
    assert.equal(isVmdk(Buffer.alloc(512)), false);
    assert.throws(() => readVmdk(Buffer.from('hello\n')), { code: 'disk/corrupt' });
    assert.throws(() => readVmdk(Buffer.from('version=1\nRW x FLAT "a" 0\n')), { code: 'disk/corrupt' });
    assert.throws(() => readVmdk(Buffer.from(`version=1\n${'RW 999999999999999 FLAT "a" 0\n'.repeat(99)}`)), {
      code: 'disk/corrupt',
    });
    assert.throws(() => readVmdk(Buffer.alloc(1 << 20, 0x20)), { code: 'disk/corrupt' });
  });
});

describe('QEMU', () => {
  it('reads our disks as we do', (t) => {
    const qemu = requireTool(t, 'qemu-img');
    if (qemu === null) return;
    const dir = scratch(t);
    const a = join(dir, 'first é 空.img');
    const b = join(dir, 'b.img');
    writeFileSync(a, noise(512 * 40, 1));
    writeFileSync(b, noise(512 * 9 + 100, 2));
    const extents = [
      { sectors: 30, file: a, offset: 10 },
      { sectors: 9, file: b, offset: 0 },
      { sectors: 2, file: './b.img', offset: 1 },
    ];
    const disk = join(dir, 'disk.vmdk');
    writeFileSync(disk, writeVmdk({ ...facts, extents }));
    const info = JSON.parse(execFileSync(qemu, ['info', '--output=json', disk], { encoding: 'utf8' }));
    assert.equal(info.format, 'vmdk');
    assert.equal(info['virtual-size'], 41 * 512);
    execFileSync(qemu, ['convert', '-O', 'raw', disk, join(dir, 'raw')]);
    const opened = openDisk(disk);
    try {
      assert.deepEqual(opened.problems, []);
      assert.ok(opened.source.read(0, 41 * 512).equals(readFileSync(join(dir, 'raw'))));
    } finally {
      opened.source.close();
    }
    execFileSync(qemu, ['compare', '-f', 'vmdk', '-F', 'raw', disk, join(dir, 'raw')]);
  });

  it('reads extents of more than 2 GiB', (t) => {
    const qemu = requireTool(t, 'qemu-img');
    if (qemu === null) return;
    const dir = scratch(t);
    const big = join(dir, 'big.img');
    writeFileSync(big, '');
    const size = 5 * 2 ** 30;
    truncateSync(big, size);
    const disk = join(dir, 'disk.vmdk');
    writeFileSync(disk, writeVmdk({ ...facts, extents: [{ sectors: size / 512, file: big, offset: 0 }] }));
    const info = JSON.parse(execFileSync(qemu, ['info', '--output=json', disk], { encoding: 'utf8' }));
    assert.equal(info['virtual-size'], size);
    execFileSync(qemu, ['compare', '-f', 'vmdk', '-F', 'raw', disk, big]);
  });
});

describe('opening', () => {
  it('names files that are missing or short, and types that cannot be read', (t) => {
    const dir = scratch(t);
    writeFileSync(join(dir, 'short'), Buffer.alloc(1000));
    const disk = join(dir, 'disk.vmdk');
    const lines = [
      'RW 2 FLAT "short" 0',
      'RW 1 FLAT "gone" 0',
      'RW 1 VMFS "short"',
      'RDONLY 1 FLAT "short" 0',
    ];
    writeFileSync(disk, `version=1\n${lines.join('\n')}\n`);
    const { problems, source } = openDisk(disk);
    assert.equal(problems.length, 4);
    assert.match(problems[0]!, /short has 1000 bytes, the disk reads up to 1024/);
    assert.match(problems[1]!, /gone is missing/);
    assert.match(problems[2]!, /type VMFS/);
    assert.match(problems[3]!, /QEMU skips/);
    assert.throws(() => source.read(0, 1024), { code: 'disk/corrupt' });
    source.close();
  });

  for (const [magic, name] of [
    ['QFI\xfb', 'QCOW'],
    ['COWD', 'ESX'],
    ['conectix', 'VHD'],
  ] as const) {
    it(`refuses others by name: ${name}`, (t) => {
      const path = join(scratch(t), 'other.vmdk');
      writeFileSync(path, Buffer.concat([Buffer.from(magic, 'latin1'), Buffer.alloc(5000)]));
      assert.throws(() => openDisk(path), { code: 'disk/unsupported', message: new RegExp(name) });
    });
  }

  it('takes regular files only', (t) => {
    const dir = scratch(t);
    assert.throws(() => openDisk(dir), { code: 'disk/unsupported' });
    execFileSync('mkfifo', [join(dir, 'fifo')]);
    assert.throws(() => openDisk(join(dir, 'fifo')), { code: 'disk/unsupported' });
  });
});

describe("QEMU's VMDKs", () => {
  /** Data, a hole over several grain tables, data, an end inside a grain. */
  function makeRaw(dir: string): { path: string; bytes: Buffer } {
    const bytes = Buffer.alloc(80 * 2 ** 20 + 512 * 3);
    noise(200_000, 1).copy(bytes, 70_000);
    noise(70_000, 2).copy(bytes, 40 * 2 ** 20 - 3000);
    noise(900, 3).copy(bytes, bytes.length - 900);
    const path = join(dir, 'disk.raw');
    writeFileSync(path, bytes);
    return { path, bytes };
  }

  for (const format of [
    'monolithicFlat',
    'twoGbMaxExtentFlat',
    'monolithicSparse',
    'twoGbMaxExtentSparse',
    'streamOptimized',
  ]) {
    it(`are read: ${format}`, (t) => {
      const qemu = requireTool(t, 'qemu-img');
      if (qemu === null) return;
      const dir = scratch(t);
      const { path, bytes } = makeRaw(dir);
      const disk = join(dir, 'foreign.vmdk');
      execFileSync(qemu, ['convert', '-O', 'vmdk', '-o', `subformat=${format}`, path, disk]);
      const { source, problems, vmdk } = openDisk(disk);
      try {
        assert.deepEqual(problems, []);
        assert.equal(vmdk!.createType, format);
        assert.equal(vmdk!.intact, null);
        // QEMU fills the last grain of a compressed disk
        assert.ok(source.size >= bytes.length && source.size - bytes.length < 65536);
        assert.ok(source.read(0, bytes.length).equals(bytes));
        assert.ok(
          source.read(40 * 2 ** 20 - 5, 100).equals(bytes.subarray(40 * 2 ** 20 - 5, 40 * 2 ** 20 + 95)),
        );
      } finally {
        source.close();
      }
    });
  }

  it('say when they are only a difference', (t) => {
    const qemu = requireTool(t, 'qemu-img');
    if (qemu === null) return;
    const dir = scratch(t);
    execFileSync(qemu, ['create', '-q', '-f', 'vmdk', join(dir, 'base.vmdk'), '1M']);
    const backed = ['-b', join(dir, 'base.vmdk'), '-F', 'vmdk'];
    execFileSync(qemu, ['create', '-q', '-f', 'vmdk', ...backed, join(dir, 'top.vmdk')]);
    const { source, problems } = openDisk(join(dir, 'top.vmdk'));
    source.close();
    assert.match(problems[0]!, /only differences to another disk/);
  });

  it('may be damaged anywhere: errors, never a hang', (t) => {
    const qemu = requireTool(t, 'qemu-img');
    if (qemu === null) return;
    const dir = scratch(t);
    const raw = join(dir, 'disk.raw');
    writeFileSync(raw, noise(512 * 280, 4));
    for (const format of ['monolithicSparse', 'streamOptimized']) {
      const disk = join(dir, `${format}.vmdk`);
      execFileSync(qemu, ['convert', '-O', 'vmdk', '-o', `subformat=${format}`, raw, disk]);
      const good = readFileSync(disk);
      const places = [...Array.from({ length: 90 }, (_, i) => i), good.length - 1024 + 60];
      for (let at = 512; at < good.length; at += 1999) places.push(at);
      for (const at of places) {
        for (const value of [0xff, good[at]! ^ 1]) {
          const bad = Buffer.from(good);
          bad[at] = value;
          writeFileSync(disk, bad);
          try {
            const { source } = openDisk(disk);
            try {
              source.read(0, Math.min(source.size, 400_000));
            } finally {
              source.close();
            }
          } catch (error) {
            const code = error instanceof VeneerError ? error.code : String(error);
            assert.match(code, /^disk\/(?:corrupt|unsupported)$/, `byte ${at}`);
          }
        }
      }
      for (const length of [100, 600, 70_000, good.length - 70_000]) {
        writeFileSync(disk, good.subarray(0, length));
        assert.throws(() => {
          const { source } = openDisk(disk);
          try {
            source.read(0, source.size);
          } finally {
            source.close();
          }
        }, VeneerError);
      }
    }
  });
});
