/** What tests of layer trees look at. */
import assert from 'node:assert/strict';
import { VeneerError } from '../../src/errors.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { type FileTree, lookupPath, type TreeNode, walkTree } from '../../src/tree/index.ts';
import { buildLayer } from './tree-cases.ts';

/** Every path but the root's, with a mark for its facts: `?` implied, `!` opaque, `-x` whiteout, `>t` lower link. */
export function outline(tree: FileTree): string {
  const seen: string[] = [];
  walkTree(tree, (path, node) => {
    const facts = `${node.implied ? '?' : ''}${node.opaque ? '!' : ''}${node.lowerLink === null ? '' : `>${node.lowerLink}`}`;
    const without = [...(node.whiteouts ?? [])].sort().map((name) => `-${name}`);
    if (path !== '' || facts !== '?' || without.length > 0)
      seen.push([`/${path}${facts}`, ...without].join(' '));
  });
  return seen.join(' ');
}

export function codes(tree: FileTree): string[] {
  return tree.findings.map(({ code, path }) => `${code} ${path}`);
}

export function find(tree: FileTree, path: string): TreeNode {
  const node = lookupPath(tree, path);
  assert.ok(node, `${path} is missing`);
  return node;
}

export function refuses(entries: TarEntry[], message: RegExp, code = 'tree/invalid'): void {
  assert.throws(
    () => buildLayer(entries),
    (error) => error instanceof VeneerError && error.code === code && message.test(error.message),
  );
}
