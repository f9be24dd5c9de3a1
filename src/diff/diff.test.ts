/** What is said of small trees, and what is read for it. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type ByteSource, bufferSource } from '../bytes/io.ts';
import { type FileTree, S_IFDIR, S_IFLNK, S_IFREG, TreeNode } from '../tree/node.ts';
import type { Change } from './change.ts';
import { diffTrees } from './diff.ts';

const bytes = Buffer.concat([Buffer.alloc(1 << 20, 'a'), Buffer.alloc(1 << 20, 'b'), Buffer.alloc(1 << 20)]);
const A = 0;
const B = 1 << 20;
const ZEROS = 2 << 20;

function file(size: number, at: number, rest: Partial<TreeNode> = {}): TreeNode {
  return Object.assign(new TreeNode(S_IFREG | 0o644), { size, source: size === 0 ? -1 : 0, at, ...rest });
}

function sparse(size: number, ...runs: [offset: number, length: number, at: number][]): TreeNode {
  const extents = runs.map(([offset, length, at]) => ({ offset, length, source: 0, at }));
  return Object.assign(new TreeNode(S_IFREG | 0o644), { size, extents });
}

function symlink(target: string): TreeNode {
  return Object.assign(new TreeNode(S_IFLNK | 0o777), { target, size: target.length });
}

type Shape = { readonly [name: string]: TreeNode | Shape };

function dir(shape: Shape, rest: Partial<TreeNode> = {}): TreeNode {
  const node = Object.assign(new TreeNode(S_IFDIR | 0o755), rest);
  for (const [name, child] of Object.entries(shape)) {
    node.children!.set(name, child instanceof TreeNode ? child : dir(child));
  }
  return node;
}

interface Look {
  readonly changes: Change[];
  readonly lines: string[];
  /** Bytes asked for on both sides. */
  readonly read: number;
}

/** `known`: both trees point into one source that is known to be the same. */
async function look(
  old: Shape,
  now: Shape,
  { known = false, times = true, signal }: { known?: boolean; times?: boolean; signal?: AbortSignal } = {},
): Promise<Look> {
  let read = 0;
  const source = bufferSource(bytes);
  const counting: ByteSource = {
    size: source.size,
    read(at, length) {
      read += length;
      return source.read(at, length);
    },
  };
  const tree = (shape: Shape): FileTree => ({
    root: dir(shape),
    sources: [{ kind: 'tar', digest: '', size: bytes.length, alignment: 512 }],
    findings: [],
  });
  const [before, after] = [tree(old), tree(now)];
  const side = ({ root }: FileTree) => ({ root, sources: [known ? 'same' : ''], data: () => counting });
  const changes = await diffTrees(side(before), side(after), {
    times,
    ...(signal === undefined ? {} : { signal }),
  });
  const lines = changes.map(({ kind, from, place, differs, names, link }) =>
    [
      kind,
      ...(from === null ? [] : [from.path(), '->']),
      place.path(),
      ...differs,
      ...(names > 1 ? [`(${names})`] : []),
      ...(link === null ? [] : [`= ${link.path()}`]),
    ].join(' '),
  );
  return { changes, lines, read };
}

describe('what changed', () => {
  it('added, removed, changed, of another type, attributes; in the order of the paths', async () => {
    const { lines } = await look(
      {
        'a-b': file(1, A),
        a: { x: file(5, A), y: file(5, A) },
        c: file(3, A),
        d: { e: file(0, 0) },
        l: symlink('x'),
      },
      {
        a: dir({ x: file(5, B), z: file(6, A) }, { uid: 7, mtime: 3 }),
        'a-b': file(1, A, { mode: S_IFREG | 0o600, xattrs: new Map([['user.a', 'b']]) }),
        c: file(3, A),
        d: symlink('c'),
        l: symlink('y'),
      },
    );
    assert.deepEqual(lines, [
      'attributes a owner mtime',
      'changed a/x content',
      'removed a/y',
      'added a/z',
      'attributes a-b mode xattrs',
      'type d type mode',
      'removed d/e',
      'changed l target',
    ]);
  });

  it('times are left out when nobody asks for them', async () => {
    const { lines } = await look(
      { a: file(5, A, { mtime: 1 }), b: { c: file(9, A, { mtime: 1 }) } },
      { a: file(5, A, { mtime: 2 }), d: { c: file(9, A, { mtime: 2 }) } },
      { times: false },
    );
    assert.deepEqual(lines, ['renamed b -> d (2)']);
  });

  it('hard links: new, gone, with others than before', async () => {
    const [old, now] = [file(5, A), file(5, A)];
    const [pair, apart] = [file(6, A), file(6, A)];
    const { lines } = await look(
      { a: old, b: old, c: pair, d: pair, e: file(6, A) },
      { a: now, b: now, b2: now, c: pair, d: apart, e: pair },
    );
    assert.deepEqual(lines, ['added b2 = a', 'attributes d links', 'attributes e links = c']);
  });
});

describe('renames', () => {
  it('the same name is taken first, then the first in order', async () => {
    const { lines } = await look(
      { a: { x: file(9, A), y: file(9, A) }, k: file(1, A) },
      { b: { y: file(9, A), z: file(9, A) }, k: file(1, A) },
    );
    assert.deepEqual(lines, ['removed a', 'added b', 'renamed a/y -> b/y', 'renamed a/x -> b/z']);
  });

  it('a whole directory is one; with something else in it, its files are', async () => {
    const inside = { one: file(9, A), two: { three: file(8, A), empty: file(0, 0), link: symlink('t') } };
    assert.deepEqual((await look({ a: inside, z: {} }, { z: { b: inside } })).lines, [
      'renamed a -> z/b (6)',
    ]);
    const more = { ...inside, more: file(4, A) };
    assert.deepEqual((await look({ a: inside }, { b: more })).lines, [
      'removed a',
      'added b',
      'added b/more',
      'renamed a/one -> b/one',
      'renamed a/two -> b/two (4)',
    ]);
  });

  it('what holds no bytes is never taken for another', async () => {
    const { lines } = await look(
      { a: { e: file(0, 0) }, l: symlink('x') },
      { b: { e: file(0, 0) }, m: symlink('x') },
    );
    assert.deepEqual(lines, ['removed a', 'removed a/e', 'added b', 'added b/e', 'removed l', 'added m']);
  });
});

describe('what is read', () => {
  it('nothing of files that stand in the same place', async () => {
    const { lines, read } = await look(
      { a: file(9000, A), c: file(700, B), s: sparse(9000, [512, 600, B]) },
      { a: file(9000, A), d: file(600, B), s: sparse(9000, [512, 600, B]) },
      { known: true },
    );
    assert.deepEqual(lines, ['removed c', 'added d']);
    assert.equal(read, 0);
  });

  it('nothing of files of other sizes, and of others up to the first difference', async () => {
    assert.equal((await look({ a: file(9000, A) }, { a: file(9001, A) })).read, 0);
    const different = await look({ a: file(1 << 20, A) }, { a: file(1 << 20, B) });
    assert.deepEqual(different.lines, ['changed a content']);
    assert.ok(different.read < 1 << 20, `${different.read} bytes`);
    const last = await look({ a: file(1 << 20, A) }, { a: sparse(1 << 20, [0, (1 << 20) - 1, A]) });
    assert.deepEqual(last.lines, ['changed a content']);
  });

  it('inodes with many names once', async () => {
    const [old, now] = [file(5000, A), file(5000, A)];
    const { lines, read } = await look({ a: old, b: old, c: old }, { a: now, b: now, c: now });
    assert.deepEqual(lines, []);
    assert.equal(read, 10_000);
  });

  it('holes are zeros, and of no cost however large', async () => {
    const large = 2 ** 52;
    const { lines, read } = await look(
      { a: sparse(large, [4096, 512, A]), b: sparse(1 << 20), old: sparse(large, [large - 5000, 700, A]) },
      {
        a: sparse(large, [4096, 512, A]),
        b: file(1 << 20, ZEROS),
        new: sparse(large, [large - 9000, 3000, ZEROS], [large - 5000, 300, A], [large - 4700, 400, A]),
      },
    );
    assert.deepEqual(lines, ['renamed old -> new']);
    assert.ok(read < 4 << 20, `${read} bytes`);
  });

  it('nothing any more after the signal', async () => {
    const many = (at: number): Shape =>
      Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`f${i}`, file(1 << 20, at)]));
    await assert.rejects(
      look(many(A), many(A), { signal: AbortSignal.abort(new Error('enough')) }),
      /enough/,
    );
  });
});
