import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { contentOf, SOURCE_BYTES, treeArbitrary } from '../../test/support/random-tree.ts';
import { S_IFREG, TreeNode } from '../tree/node.ts';
import { COPIED, type FileMap, HOLE, MAPPED, mapFile } from './file-map.ts';
import { MAX_EXTENT } from './format.ts';

const read = (_: number, at: number, length: number): Buffer => SOURCE_BYTES.subarray(at, at + length);

function fileOf(size: number, extents: TreeNode['extents']): TreeNode {
  const node = new TreeNode(S_IFREG);
  node.size = size;
  node.extents = extents;
  return node;
}

/** The file's bytes as its map says them: mapped ones from the source, copies from the file itself. */
function reassemble(node: TreeNode, map: FileMap, base: number): Buffer {
  const content = contentOf(node, read);
  const pieces: Buffer[] = [];
  let offset = 0;
  let copied = 0;
  for (const [i, { kind, length, block }] of map.runs.entries()) {
    if (i < map.runs.length - 1) assert.equal(length % 512, 0, 'only the last run ends inside a block');
    if (kind === MAPPED) {
      const at = block * 512 - base;
      pieces.push(SOURCE_BYTES.subarray(at, at + length));
    } else if (kind === COPIED) {
      assert.equal(block, copied);
      copied += Math.ceil(length / 512);
      pieces.push(content.subarray(offset, offset + length));
    } else pieces.push(Buffer.alloc(length));
    offset += length;
  }
  assert.equal(copied, map.copied);
  return Buffer.concat(pieces);
}

test('maps of any files give their bytes', () => {
  fc.assert(
    fc.property(treeArbitrary(true), fc.constantFrom(0, 512 * 7), (tree, base) => {
      const pending = [tree.root];
      for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
        if (node.children !== null) pending.push(...node.children.values());
        else if ((node.mode & 0o170000) === S_IFREG && node.size < 1 << 20) {
          const map = mapFile(node, [base]);
          assert.ok(reassemble(node, map, base).equals(contentOf(node, read)));
        }
      }
    }),
    { numRuns: 300 },
  );
});

test('a file in one aligned run is mapped, one that begins inside a block is copied', () => {
  const aligned = mapFile(fileOf(1000, [{ offset: 0, length: 1000, source: 0, at: 1024 }]), [512]);
  assert.deepEqual(aligned.runs, [{ kind: MAPPED, length: 1000, block: 3 }]);
  assert.equal(aligned.recorded, 2);
  const odd = mapFile(fileOf(1000, [{ offset: 0, length: 1000, source: 0, at: 1025 }]), [512]);
  assert.deepEqual(odd.runs, [{ kind: COPIED, length: 1000, block: 0 }]);
  assert.equal(odd.copied, 2);
  const elsewhere = mapFile(fileOf(1000, [{ offset: 0, length: 1000, source: 0, at: 1024 }]), [-1]);
  assert.equal(elsewhere.copied, 2);
});

test('the edges of runs are copied, what lies between stays', () => {
  const runs = mapFile(fileOf(8192, [{ offset: 100, length: 3000, source: 0, at: 100 }]), [0]).runs;
  assert.deepEqual(runs, [
    { kind: COPIED, length: 512, block: 0 },
    { kind: MAPPED, length: 2560, block: 1 },
    { kind: COPIED, length: 512, block: 1 },
    { kind: HOLE, length: 4608, block: 0 },
  ]);
});

test('more than an extent can hold is several', () => {
  const size = 3 * 2 ** 30 + 5;
  const map = mapFile(fileOf(size, [{ offset: 0, length: size, source: 0, at: 0 }]), [0]);
  assert.equal(map.runs.length, 1);
  assert.equal(map.descriptors, Math.ceil(size / MAX_EXTENT));
  assert.equal(MAX_EXTENT, 0x3ffffe00);
});
