import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildLayer, dir, file, link, mergeEntries, symlink } from '../../test/support/tree-cases.ts';
import type { TarEntry } from '../tar/entry.ts';
import { type FileTree, lookupPath, needsChain, resolveLayer, type TreeNode, walkTree } from './index.ts';

const resolve = (lower: TarEntry[], upper: TarEntry[]): FileTree =>
  resolveLayer(mergeEntries([lower]), buildLayer(upper, 1));

function names(tree: FileTree, node: TreeNode): string {
  const seen: string[] = [];
  walkTree(tree, (path, at) => at === node && seen.push(path));
  return seen.join(' ');
}

test('a layer needs its chain for implied directories and lower links only', () => {
  assert.equal(needsChain(buildLayer([dir('/'), dir('d'), file('d/x'), file('.wh.y')])), false);
  assert.equal(needsChain(buildLayer([dir('d'), file('d/x')])), false);
  assert.equal(needsChain(buildLayer([dir('/'), file('d/x')])), true);
  assert.equal(needsChain(buildLayer([dir('/'), dir('d'), link('d/x', 'y')])), true);
});

test('implied directories take their attributes from below, whiteouts and opaque stay', () => {
  const base = [
    dir('/', { mode: 0o711 }),
    dir('d', { mode: 0o700, uid: 8 }),
    dir('d/e', { mode: 0o1777 }),
    file('f'),
  ];
  const tree = resolve(base, [
    file('d/e/x'),
    file('d/.wh.y'),
    file('d/e/.wh..wh..opq'),
    file('f/z'),
    file('new/z'),
  ]);
  const of = (path: string): TreeNode => lookupPath(tree, path)!;
  assert.deepEqual(
    [of('/').mode, of('d').mode, of('d').uid, of('d/e').mode],
    [0o040711, 0o040700, 8, 0o041777],
  );
  assert.deepEqual([of('f').mode, of('new').mode, of('new').mtime], [0o040755, 0o040755, 0]);
  assert.deepEqual([of('d').whiteouts, of('d/e').opaque], [new Set(['y']), true]);
  assert.equal(needsChain(tree), false);
});

test('what is below an opaque directory inherits nothing', () => {
  const layer = buildLayer([dir('/'), file('d/e/x'), file('d/.wh..wh..opq')], 1);
  lookupPath(layer, 'd/e')!.implied = true;
  const tree = resolveLayer(mergeEntries([[dir('d', { mode: 0o700 }), dir('d/e', { mode: 0o700 })]]), layer);
  assert.deepEqual([lookupPath(tree, 'd')!.mode, lookupPath(tree, 'd/e')!.mode], [0o040700, 0o040755]);
});

test('a lower link becomes a copy with its data in the lower source', () => {
  const original = file('a', { mode: 0o4755, uid: 6, xattrs: new Map([['user.a', '1']]) });
  const below = mergeEntries([[original]]);
  const tree = resolveLayer(below, buildLayer([dir('/'), link('b', 'a'), file('c')], 1));
  const copy = lookupPath(tree, 'b')!;
  assert.notEqual(copy, lookupPath(below, 'a'));
  assert.deepEqual(
    [copy.mode, copy.uid, copy.at, copy.size],
    [0o104755, 6, original.payloadOffset, original.size],
  );
  assert.deepEqual(
    tree.sources.map(({ digest }) => digest),
    ['sha256:1', 'sha256:0'],
  );
  assert.deepEqual([copy.source, lookupPath(tree, 'c')!.source, lookupPath(below, 'a')!.source], [1, 0, 0]);
  assert.equal(copy.lowerLink, null);
});

test('sparse data and symlinks are copied too', () => {
  const sparse = [{ offset: 0, length: 5, source: 600 }];
  const base = [file('a', { size: 99, sparse }), symlink('s', 'x'), file('e', { size: 0 })];
  const tree = resolve(base, [link('a2', 'a'), link('s2', 's'), link('e2', 'e')]);
  assert.deepEqual(lookupPath(tree, 'a2')!.extents, [{ offset: 0, length: 5, source: 1, at: 600 }]);
  assert.equal(lookupPath(tree, 's2')!.target, 'x');
  assert.deepEqual([lookupPath(tree, 'e2')!.source, tree.sources.length], [-1, 2]);
});

test('every name of the group that still shows is repeated', () => {
  const base = [
    dir('p', { mode: 0o700 }),
    file('p/q/a'),
    ...['b', 'gone/c', 'white', 'new', 'file/d', 'opaque/e', 'opaque/kept/i', 'cut/f', 'kept/g'].map((path) =>
      link(path, 'p/q/a'),
    ),
  ];
  const tree = resolve(base, [
    link('h', 'p/q/a'),
    file('.wh.gone'),
    file('.wh.white'),
    file('new'),
    file('file'),
    file('opaque/.wh..wh..opq'),
    file('opaque/kept/other'),
    file('cut'),
    dir('cut'),
    file('kept/other'),
  ]);
  assert.equal(names(tree, lookupPath(tree, 'h')!), 'b h kept/g p/q/a');
  assert.equal(lookupPath(tree, 'p')!.mode, 0o040700);
  assert.equal(lookupPath(tree, 'gone'), null);
});

test('links into different groups stay apart', () => {
  const tree = resolve([file('a'), file('b')], [link('a2', 'a'), link('b2', 'b'), link('a3', 'a')]);
  assert.equal(names(tree, lookupPath(tree, 'a2')!), 'a a2 a3');
  assert.equal(names(tree, lookupPath(tree, 'b2')!), 'b b2');
});

test('a link to nothing is refused', () => {
  assert.throws(() => resolve([file('a')], [link('l', 'b')]), /Cannot link '\/l' to '\/b'/);
});
