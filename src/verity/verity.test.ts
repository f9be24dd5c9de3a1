/** The tree writer against veritysetup and fsverity, and the checker against every kind of damage. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { noise } from '../../test/support/image-builder.ts';
import { requireTool } from '../../test/support/require-tool.ts';
import { bufferSource } from '../bytes/io.ts';
import {
  FsVerityHasher,
  HASH_BLOCK_SIZE,
  readSuperblock,
  TreeBuilder,
  TreeChecker,
  treeShape,
  type VerityParameters,
  writeSuperblock,
} from './index.ts';

const SALT = Buffer.from('00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff', 'hex');
const UUID = Buffer.from('0123456789ab8def8123456789abcdef', 'hex');

function feed(sink: { space: Buffer; take(bytes: number): void }, data: Buffer): void {
  for (let at = 0; at < data.length; ) {
    const bytes = data.copy(sink.space, 0, at);
    sink.take(bytes);
    at += bytes;
  }
}

function build(data: Buffer, parameters: VerityParameters): { root: Buffer; tree: Buffer } {
  const blocks = Math.ceil(data.length / parameters.dataBlockSize);
  const tree = Buffer.alloc(treeShape(blocks, parameters).size);
  const builder = new TreeBuilder(blocks, parameters, (chunk, at) => void chunk.copy(tree, at));
  feed(builder, data);
  return { root: builder.finish(), tree };
}

function check(data: Buffer, parameters: VerityParameters, root: Buffer, tree: Buffer): TreeChecker {
  const blocks = Math.ceil(data.length / parameters.dataBlockSize);
  const checker = new TreeChecker(blocks, parameters, root, bufferSource(tree));
  feed(checker, data);
  return checker;
}

/** One data block, one and more hash blocks, two and three levels, sizes around the reader's portions. */
const CASES: readonly [blockSize: number, blocks: number][] = [
  [512, 1],
  [512, 2],
  [512, 128],
  [512, 129],
  [512, 128 * 128 + 1],
  [1024, 77],
  [4096, 1],
  [4096, 2],
  [4096, 129],
  [4096, 4099],
];

function scratch(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'veneer-verity-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

describe('dm-verity tree', () => {
  for (const [dataBlockSize, blocks] of CASES) {
    for (const salt of [SALT, Buffer.alloc(0), Buffer.alloc(256, 9)]) {
      it(`is veritysetup's: ${blocks} blocks of ${dataBlockSize}, ${salt.length} bytes of salt`, (t) => {
        const veritysetup = requireTool(t, 'veritysetup');
        if (veritysetup === null) return;
        const dir = scratch(t);
        const data = noise(dataBlockSize * blocks, blocks);
        const parameters = { dataBlockSize, salt };
        const { root, tree } = build(data, parameters);
        const ours = Buffer.concat([
          writeSuperblock({ ...parameters, dataBlocks: blocks, uuid: UUID }),
          tree,
        ]);
        writeFileSync(join(dir, 'data'), data);
        writeFileSync(join(dir, 'ours'), ours);
        execFileSync(veritysetup, ['verify', join(dir, 'data'), join(dir, 'ours'), root.toString('hex')]);
        const said = execFileSync(
          veritysetup,
          [
            'format',
            join(dir, 'data'),
            join(dir, 'theirs'),
            `--data-block-size=${dataBlockSize}`,
            '--hash-block-size=4096',
            `--salt=${salt.length === 0 ? '-' : salt.toString('hex')}`,
            '--uuid=01234567-89ab-8def-8123-456789abcdef',
          ],
          { encoding: 'utf8' },
        );
        assert.equal(/Root hash:\s*([0-9a-f]+)/.exec(said)?.[1], root.toString('hex'));
        const theirs = readFileSync(join(dir, 'theirs'));
        assert.ok(theirs.equals(ours.subarray(0, theirs.length)) && theirs.length >= 512 + tree.length);
        const read = readSuperblock(bufferSource(theirs), 0);
        assert.equal(read.dataBlocks, blocks);
        const theirTree = theirs.subarray(HASH_BLOCK_SIZE);
        assert.deepEqual(check(data, read, root, theirTree).damage, []);
      });
    }
  }

  it('is refused by veritysetup after a flipped bit', (t) => {
    const veritysetup = requireTool(t, 'veritysetup');
    if (veritysetup === null) return;
    const dir = scratch(t);
    const data = noise(512 * 300, 3);
    const parameters = { dataBlockSize: 512, salt: SALT };
    const { root, tree } = build(data, parameters);
    data[1000]! ^= 1;
    writeFileSync(join(dir, 'data'), data);
    const superblock = writeSuperblock({ ...parameters, dataBlocks: 300, uuid: UUID });
    writeFileSync(join(dir, 'tree'), Buffer.concat([superblock, tree]));
    const args = ['verify', join(dir, 'data'), join(dir, 'tree'), root.toString('hex')];
    assert.notEqual(spawnSync(veritysetup, args).status, 0);
  });

  it('pads the last block with zeros', () => {
    const parameters = { dataBlockSize: 512, salt: SALT };
    const data = noise(512 * 5 - 100);
    const padded = Buffer.alloc(512 * 5);
    data.copy(padded);
    assert.deepEqual(build(data, parameters), build(padded, parameters));
  });

  it('counts its blocks', () => {
    const parameters = { dataBlockSize: 512, salt: SALT };
    const builder = new TreeBuilder(3, parameters, () => {});
    builder.take(1024);
    assert.throws(() => builder.finish(), { code: 'verity/corrupt' });
    assert.throws(() => builder.take(1024), { code: 'verity/corrupt' });
    assert.throws(() => treeShape(0, parameters), { code: 'verity/unsupported' });
    assert.throws(() => treeShape(1, { ...parameters, dataBlockSize: 8192 }), { code: 'verity/unsupported' });
    assert.throws(() => treeShape(1, { dataBlockSize: 512, salt: Buffer.alloc(257) }), {
      code: 'verity/unsupported',
    });
  });
});

describe('checking', () => {
  const parameters = { dataBlockSize: 512, salt: SALT };
  const data = noise(512 * 40_000, 5);
  const { root, tree } = build(data, parameters);

  it('finds nothing in sound data', () => {
    assert.deepEqual(check(data, parameters, root, tree).damage, []);
  });

  it('names the data blocks that are wrong', () => {
    const bad = Buffer.from(data);
    for (const at of [0, 512, 700_000, bad.length - 1]) bad[at]! ^= 0x80;
    assert.deepEqual(check(bad, parameters, root, tree).damage, [
      { what: 'data', at: 0, length: 1024 },
      { what: 'data', at: 700_000 - (700_000 % 512), length: 512 },
      { what: 'data', at: bad.length - 512, length: 512 },
    ]);
  });

  it('names the hash block that is wrong, on every level', () => {
    const { levels } = treeShape(40_000, parameters);
    assert.equal(levels.length, 3);
    for (const level of levels) {
      const at = level.at + (level.blocks - 1) * HASH_BLOCK_SIZE;
      const bad = Buffer.from(tree);
      bad[at + HASH_BLOCK_SIZE - 1]! ^= 1; // padding, except in full blocks
      const { damage } = check(data, parameters, root, bad);
      assert.deepEqual(damage[0], { what: 'tree', at, length: HASH_BLOCK_SIZE });
    }
  });

  it('names the top of the tree for a wrong root hash', () => {
    const wrong = Buffer.from(root);
    wrong[0]! ^= 1;
    assert.deepEqual(check(data, parameters, wrong, tree).damage, [
      { what: 'tree', at: 0, length: HASH_BLOCK_SIZE },
    ]);
    const single = build(data.subarray(0, 512), parameters);
    assert.deepEqual(check(data.subarray(0, 512), parameters, single.root, single.tree).damage, []);
    assert.deepEqual(check(data.subarray(0, 512), parameters, wrong, single.tree).damage, [
      { what: 'data', at: 0, length: 512 },
    ]);
  });

  it('refuses a tree that is cut', () => {
    assert.throws(() => check(data, parameters, root, tree.subarray(0, -1)), { code: 'verity/corrupt' });
  });
});

describe('superblock', () => {
  const good = { dataBlockSize: 512, salt: SALT, dataBlocks: 4711, uuid: UUID };

  it('comes back', () => {
    const { shape, ...read } = readSuperblock(bufferSource(writeSuperblock(good)), 0);
    assert.deepEqual({ ...read }, good);
    assert.equal(shape.levels.length, 2);
  });

  it('is checked field by field', () => {
    const patched = (at: number, bytes: number[]): (() => unknown) => {
      const block = writeSuperblock(good);
      block.set(bytes, at);
      return () => readSuperblock(bufferSource(block), 0);
    };
    assert.throws(patched(0, [0]), { code: 'verity/corrupt' });
    assert.throws(patched(8, [2]), { code: 'verity/unsupported' });
    assert.throws(patched(12, [0]), { code: 'verity/unsupported' });
    assert.throws(patched(32, [0x78]), { code: 'verity/unsupported' });
    assert.throws(patched(64, [1]), { code: 'verity/unsupported' });
    assert.throws(patched(68, [1]), { code: 'verity/unsupported' });
    assert.throws(patched(79, [255]), { code: 'verity/corrupt' });
    assert.throws(patched(72, [0, 0, 0, 0]), { code: 'verity/unsupported' });
    assert.throws(patched(80, [1, 1]), { code: 'verity/corrupt' });
    assert.throws(() => readSuperblock(bufferSource(Buffer.alloc(100)), 0), { code: 'verity/corrupt' });
  });
});

describe('fs-verity digest', () => {
  for (const size of [0, 1, 4095, 4096, 4097, 4096 * 128, 4096 * 128 + 1, 3_000_001]) {
    it(`is that of fsverity for ${size} bytes`, (t) => {
      const fsverity = requireTool(t, 'fsverity');
      if (fsverity === null) return;
      const data = noise(size, 3);
      const hasher = new FsVerityHasher(size);
      feed(hasher, data);
      const path = join(scratch(t), 'file');
      writeFileSync(path, data);
      const said = execFileSync(fsverity, ['digest', '--compact', path], { encoding: 'utf8' }).trim();
      assert.equal(hasher.finish(), `sha256:${said}`);
    });
  }
});
