import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildLayer, dir, file, link, symlink } from '../../test/support/tree-cases.ts';
import { countLinks, lookupPath, walkTree } from './index.ts';

const tree = buildLayer([
  dir('d'),
  file('d/f'),
  dir('d/e'),
  symlink('s', 'd'),
  symlink('abs', '/d/e'),
  symlink('up', '../../../d/f'),
  symlink('to-root', '/'),
  symlink('loop', 'loop'),
  symlink('chain', 's/../up'),
  symlink('dangling', 'nowhere/x'),
  link('d/e/g', 'd/f'),
]);
const pathOf = new Map<unknown, string>();
walkTree(tree, (path, node) => pathOf.has(node) || pathOf.set(node, `/${path}`));

for (const [path, follow, expected] of [
  ['', false, '/'],
  ['/', false, '/'],
  ['../..', false, '/'],
  ['d', false, '/d'],
  ['/d//./f', false, '/d/f'.replace('d/f', 'd/e/g')],
  ['s', false, '/s'],
  ['s', true, '/d'],
  ['s/e', false, '/d/e'],
  ['abs/../e', false, '/d/e'],
  ['s/..', false, '/'],
  ['abs/..', false, '/d'],
  ['up', true, '/d/e/g'],
  ['chain', true, '/d/e/g'],
  ['to-root/d/e', false, '/d/e'],
  ['to-root', true, '/'],
  ['dangling', false, '/dangling'],
  ['dangling', true, null],
  ['d/f/x', false, null],
  ['d/f/..', false, null],
  ['nothing', true, null],
  ['nothing/..', false, null],
  ['loop', false, '/loop'],
] as const) {
  test(`${path}${follow ? ', followed,' : ''} is ${expected}`, () => {
    const node = lookupPath(tree, path, follow);
    assert.equal(node === null ? null : pathOf.get(node), expected);
  });
}

test('a loop of symlinks is refused', () => {
  assert.throws(() => lookupPath(tree, 'loop', true), /more than 40 symbolic links/);
  assert.throws(() => lookupPath(tree, 'loop/x'), /more than 40 symbolic links/);
});

test('the walk visits every name in byte order, parents first', () => {
  const odd = buildLayer([file('b'), file('a/z'), file('a.b'), file('\xff'), file('a/\x01'), file('B')]);
  const seen: [string, boolean][] = [];
  walkTree(odd, (path, _node, parent) =>
    seen.push([path, parent !== null && parent === lookupPath(odd, `${path}/..`)]),
  );
  assert.deepEqual(
    seen.map(([path]) => path),
    ['', 'B', 'a', 'a/\x01', 'a/z', 'a.b', 'b', '\xff'],
  );
  const parents: string[] = [];
  walkTree(
    odd,
    (path, node, parent) =>
      parent?.children?.get(path.slice(path.lastIndexOf('/') + 1)) === node && parents.push(path),
  );
  assert.equal(parents.length, 7);
});

test('links are counted: names of files, subdirectories of directories', () => {
  const links = countLinks(tree);
  const of = (path: string): number | undefined => links.get(lookupPath(tree, path)!);
  assert.deepEqual([of('/'), of('d'), of('d/e'), of('d/f'), of('s')], [3, 3, 2, 2, 1]);
  assert.equal(links.size, 11);
});
