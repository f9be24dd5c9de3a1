import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  buildLayer,
  dir,
  file,
  link,
  makeEntry,
  mergeEntries,
  symlink,
} from '../../test/support/tree-cases.ts';
import { VeneerError } from '../errors.ts';
import type { TarEntry } from '../tar/entry.ts';
import { type FileTree, lookupPath, mergeLayers, type TreeNode, walkTree } from './index.ts';

function paths(tree: FileTree): string {
  const seen: string[] = [];
  walkTree(tree, (path, node) => {
    assert.equal(
      node.implied || node.opaque || node.whiteouts !== null || node.lowerLink !== null,
      false,
      path,
    );
    if (path !== '') seen.push(path);
  });
  return seen.join(' ');
}

function find(tree: FileTree, path: string): TreeNode {
  const node = lookupPath(tree, path);
  assert.ok(node, `${path} is missing`);
  return node;
}

const merged = (...layers: TarEntry[][]): FileTree => mergeEntries(layers);

describe('merge', () => {
  for (const [what, layers, expected] of [
    ['nothing', [], ''],
    [
      'the example of the spec',
      [
        [file('file1'), file('a/file2'), dir('b'), file('c/file3')],
        [file('.wh.file1'), file('a/.wh.file2'), file('.wh.b'), file('file4')],
      ],
      'a c c/file3 file4',
    ],
    [
      'opaque, the example of the spec',
      [[file('a/b/c/bar')], [dir('a'), dir('a/b'), dir('a/b/c'), file('a/b/c/foo'), file('a/.wh..wh..opq')]],
      'a a/b a/b/c a/b/c/foo',
    ],
    ['file over directory', [[file('d/x')], [file('d')]], 'd'],
    ['file over directory and back', [[file('d/x')], [file('d')], [file('d/y')]], 'd d/y'],
    ['whiteout and directory of the same name', [[file('d/x')], [file('d/y'), file('.wh.d')]], 'd d/y'],
    ['whiteout and file of the same name', [[file('d/x')], [file('.wh.d'), file('d')]], 'd'],
    ['whiteout of what is not there', [[file('a')], [file('.wh.b'), file('c/.wh.d')]], 'a c'],
    ['whiteout, then again', [[file('a')], [file('.wh.a')], [file('a')]], 'a'],
    [
      'opaque over opaque',
      [[file('d/x')], [file('d/.wh..wh..opq'), file('d/y')], [file('d/.wh..wh..opq'), file('d/z')]],
      'd d/z',
    ],
    [
      'opaque root',
      [
        [file('a'), file('b/c')],
        [file('.wh..wh..opq'), file('b/d')],
      ],
      'b b/d',
    ],
    ['directory over symlink', [[file('usr/x'), symlink('s', 'usr')], [dir('s')]], 's usr usr/x'],
    [
      'three layers deep',
      [[file('a/b/c/1')], [file('a/b/c/2'), file('a/b/.wh.x')], [file('a/b/c/.wh.1'), file('a/b/c/3')]],
      'a a/b a/b/c a/b/c/2 a/b/c/3',
    ],
  ] as const) {
    test(what, () => assert.equal(paths(merged(...layers.map((layer) => [...layer]))), expected));
  }

  test('root attributes come from the topmost layer that names the root', () => {
    const tree = merged(
      [dir('./', { mode: 0o700 })],
      [dir('/', { mode: 0o711, uid: 4, mtime: 9 })],
      [file('x')],
    );
    const { mode, uid, mtime } = tree.root;
    assert.deepEqual({ mode, uid, mtime }, { mode: 0o040711, uid: 4, mtime: 9 });
    assert.deepEqual([merged([file('x')]).root.mode, merged([]).root.mode], [0o040755, 0o040755]);
  });

  test('an implied directory inherits, a named one replaces, extended attributes included', () => {
    const tree = merged(
      [
        dir('d', { mode: 0o700, uid: 3, mtime: 7, xattrs: new Map([['user.a', '1']]) }),
        dir('e', { xattrs: new Map([['user.a', '1']]) }),
      ],
      [file('d/x'), dir('e', { mode: 0o750 })],
    );
    const { mode, uid, mtime, xattrs } = find(tree, 'd');
    assert.deepEqual(
      { mode, uid, mtime, xattrs },
      { mode: 0o040700, uid: 3, mtime: 7, xattrs: new Map([['user.a', '1']]) },
    );
    assert.deepEqual([find(tree, 'e').mode, find(tree, 'e').xattrs], [0o040750, null]);
  });

  test('an opaque implied directory inherits, a whited-out one starts anew', () => {
    const base = [dir('d', { mode: 0o700 }), dir('e', { mode: 0o700 })];
    const tree = merged(base, [file('d/.wh..wh..opq'), file('e/x'), file('.wh.e')]);
    assert.deepEqual(
      [find(tree, 'd').mode, find(tree, 'e').mode, find(tree, 'e').mtime],
      [0o040700, 0o040755, 0],
    );
  });

  test('an implied directory replaces a lower file or symlink, with a finding', () => {
    const tree = merged([file('a'), symlink('s', 'usr'), dir('usr')], [file('a/x'), file('s/y')]);
    assert.equal(paths(tree), 'a a/x s s/y usr');
    assert.deepEqual(
      tree.findings.map(({ code, path }) => [code, path]),
      [
        ['tree/parent-replaced', 'a'],
        ['tree/parent-replaced', 's'],
      ],
    );
    assert.equal(find(tree, 's').mode, 0o040755);
  });

  test('findings of the layers are kept, bottom-up', () => {
    const tree = merged([file('../a')], [file('.wh.')]);
    assert.deepEqual(
      tree.findings.map(({ code }) => code),
      ['tree/dot-dot', 'tree/whiteout-invalid'],
    );
  });
});

describe('hard links to lower layers', () => {
  test('join the group', () => {
    const tree = merged([file('a'), link('b', 'a')], [link('d/c', '/a'), link('e', 'd/c')]);
    for (const path of ['b', 'd/c', 'e']) assert.equal(find(tree, path), find(tree, 'a'));
  });

  test('mean what was there before their own layer', () => {
    const first = file('a');
    for (const second of [
      [link('b', 'a'), file('.wh.a')],
      [file('.wh.a'), link('b', 'a')],
      [link('b', 'a'), file('a')],
      [link('d/b', 'a'), file('.wh..wh..opq')],
    ]) {
      const tree = merged([first], second);
      assert.equal(
        find(tree, second.some(({ path }) => path === 'd/b') ? 'd/b' : 'b').at,
        first.payloadOffset,
      );
    }
  });

  test('find their target through symlinks of the lower layers', () => {
    const tree = merged([file('usr/lib/x'), symlink('lib', 'usr/lib')], [link('y', 'lib/x')]);
    assert.equal(find(tree, 'y'), find(tree, 'usr/lib/x'));
  });

  test('to nothing, or to a directory, are refused with both names', () => {
    const refused = (layers: TarEntry[][], message: RegExp): void =>
      assert.throws(
        () => merged(...layers),
        (error) =>
          error instanceof VeneerError && error.code === 'tree/invalid' && message.test(error.message),
      );
    refused([[link('d/l', 'x/y')]], /^Cannot link '\/d\/l' to '\/x\/y': neither its layer nor a lower one/);
    refused([[file('x')], [file('.wh.x')], [link('l', 'x')]], /'\/l' to '\/x'/);
    refused([[dir('x')], [link('l', 'x')]], /a directory/);
    refused([[link('l', 'x'), file('x')]], /before it/);
  });

  test('that are replaced in their own layer need no target', () => {
    assert.equal(paths(merged([link('l', 'nothing'), file('l')])), 'l');
  });
});

describe('sources', () => {
  const bytesOf = (tree: FileTree, path: string): string => {
    const node = find(tree, path);
    const runs = node.extents ?? [{ source: node.source, at: node.at }];
    return runs.map(({ source, at }) => `${tree.sources[source]!.digest}@${at}`).join(' ');
  };

  test('are concatenated, and data follows, hard links once', () => {
    const at = (payloadOffset: number): Partial<TarEntry> => ({ payloadOffset });
    const sparse = [
      { offset: 0, length: 1, source: 77 },
      { offset: 9, length: 1, source: 88 },
    ];
    const tree = merged(
      [file('a', at(512))],
      [
        file('b', at(1024)),
        link('b2', 'b'),
        link('b3', 'b'),
        makeEntry('file', 's', { size: 10, sparse }),
        link('s2', 's'),
      ],
      [file('c', at(2048)), link('a2', 'a')],
    );
    assert.deepEqual(
      tree.sources.map(({ digest }) => digest),
      ['sha256:0', 'sha256:1', 'sha256:2'],
    );
    assert.equal(bytesOf(tree, 'a2'), 'sha256:0@512');
    assert.equal(bytesOf(tree, 'b3'), 'sha256:1@1024');
    assert.equal(bytesOf(tree, 's2'), 'sha256:1@77 sha256:1@88');
    assert.equal(bytesOf(tree, 'c'), 'sha256:2@2048');
  });

  test('with the same digest are one; unknown digests stay apart', () => {
    const layers = [
      buildLayer([file('a')], 0),
      buildLayer([file('b')], 1),
      buildLayer([file('c'), link('d', 'c')], 0),
    ];
    const tree = mergeLayers(layers);
    assert.equal(tree.sources.length, 2);
    assert.match(bytesOf(tree, 'd'), /^sha256:0@/);
    const unknown = [buildLayer([file('a')]), buildLayer([file('b')])];
    for (const { sources } of unknown) sources[0]!.digest = '';
    assert.equal(mergeLayers(unknown).sources.length, 2);
  });

  test('of layers with several sources are told apart, whatever the order', () => {
    // The upper layer's sources swap places with those known already.
    const upper = buildLayer(
      [file('x', { payloadOffset: 512 }), link('y', 'x'), file('z', { payloadOffset: 1024 })],
      1,
    );
    upper.sources.push({ kind: 'tar', digest: 'sha256:0', size: 0, alignment: 512 });
    find(upper, 'z').source = 1;
    const tree = mergeLayers([buildLayer([file('a')], 0), upper]);
    assert.equal(bytesOf(tree, 'y'), 'sha256:1@512');
    assert.equal(bytesOf(tree, 'z'), 'sha256:0@1024');
  });
});
