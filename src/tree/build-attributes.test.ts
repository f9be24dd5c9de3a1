import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { buildLayer, dir, file, link, makeEntry, symlink } from '../../test/support/tree-cases.ts';
import { codes, find, refuses } from '../../test/support/tree-outline.ts';
import type { TarEntry } from '../tar/entry.ts';
import { TreeBuilder } from './index.ts';

describe('attributes', () => {
  test('an entry gives its node all it says', () => {
    const note = new Map([['user.note', '\0\xff']]);
    const entries = [
      file('f', {
        mode: 0o4755,
        uid: 70000,
        gid: 5,
        mtime: -3,
        mtimeNsec: 7,
        size: 10,
        payloadOffset: 512,
        xattrs: note,
      }),
      dir('d', { mode: 0o1777, size: 99 }),
      symlink('s', '/x/../y'),
      makeEntry('char', 'c', { devMajor: 5, devMinor: 1 }),
      makeEntry('block', 'b', { devMajor: 8, devMinor: 300 }),
      makeEntry('fifo', 'p', { devMajor: 8 }),
    ];
    const tree = buildLayer(entries);
    const { mode, uid, gid, mtime, mtimeNsec, size, source, at, xattrs } = find(tree, 'f');
    assert.deepEqual(
      { mode, uid, gid, mtime, mtimeNsec, size, source, at, xattrs },
      {
        mode: 0o104755,
        uid: 70000,
        gid: 5,
        mtime: -3,
        mtimeNsec: 7,
        size: 10,
        source: 0,
        at: 512,
        xattrs: note,
      },
    );
    assert.deepEqual([find(tree, 'd').mode, find(tree, 'd').size], [0o041777, 0]);
    const { mode: linkMode, size: linkSize, target } = find(tree, 's');
    assert.deepEqual([linkMode, linkSize, target], [0o120777, 7, '/x/../y']);
    for (const [name, type, major, minor] of [
      ['c', 0o020644, 5, 1],
      ['b', 0o060644, 8, 300],
      ['p', 0o010644, 0, 0],
    ] as const) {
      const node = find(tree, name);
      assert.deepEqual([node.mode, node.devMajor, node.devMinor, node.size], [type, major, minor, 0]);
    }
    assert.deepEqual(codes(tree), []);
  });

  test('data: none when empty, extents when sparse', () => {
    const tree = buildLayer([
      file('empty', { size: 0 }),
      file('hole', { size: 5000, sparse: [] }),
      file('sparse', { size: 9000, sparse: [{ offset: 4096, length: 10, source: 777 }] }),
    ]);
    assert.deepEqual([find(tree, 'empty').source, find(tree, 'empty').extents], [-1, null]);
    assert.deepEqual(
      [find(tree, 'hole').source, find(tree, 'hole').extents, find(tree, 'hole').size],
      [-1, null, 5000],
    );
    assert.deepEqual(find(tree, 'sparse').extents, [{ offset: 4096, length: 10, source: 0, at: 777 }]);
  });

  test('add returns the node of a regular file only', () => {
    const builder = new TreeBuilder();
    const added = builder.add(file('a/f'));
    assert.equal(builder.add(dir('d')), null);
    assert.equal(builder.add(link('l', 'a/f')), null);
    assert.equal(builder.add(symlink('s', 'x')), null);
    assert.equal(builder.add(file('.wh.x')), null);
    assert.equal(builder.add(file('.wh.x/y')), null);
    const tree = builder.finish();
    assert.equal(find(tree, 'a/f'), added);
    assert.equal(find(tree, 'l'), added);
  });

  test('the root is implied until an entry names it', () => {
    for (const path of ['./', '/', '.', '', 'a/..', './/.']) {
      const tree = buildLayer([file('x'), dir(path, { mode: 0o700, uid: 9, mtime: 5 })]);
      const { implied, mode, uid, mtime } = tree.root;
      assert.deepEqual({ implied, mode, uid, mtime }, { implied: false, mode: 0o040700, uid: 9, mtime: 5 });
    }
    const { implied, mode, uid, gid, mtime } = buildLayer([file('x')]).root;
    assert.deepEqual(
      { implied, mode, uid, gid, mtime },
      { implied: true, mode: 0o040755, uid: 0, gid: 0, mtime: 0 },
    );
    refuses([symlink('/', '/etc')], /^Cannot add '\/': the root is a directory and cannot become a symlink/);
    refuses([file('./')], /cannot become a file/);
  });

  test('symlink targets are 1 to 4095 bytes without NUL', () => {
    assert.equal(find(buildLayer([symlink('s', 'x'.repeat(4095))]), 's').size, 4095);
    refuses([symlink('s', '')], /no target/);
    refuses([symlink('s', 'x'.repeat(4096))], /4096 bytes/);
    refuses([symlink('s', 'a\0b')], /NUL/);
  });

  test('a character device 0:0 is kept and told of', () => {
    const tree = buildLayer([makeEntry('char', 'a/null')]);
    assert.equal(find(tree, 'a/null').mode, 0o020644);
    assert.deepEqual(codes(tree), ['tree/device-whiteout a/null']);
  });
});

describe('extended attributes', () => {
  const names = (entry: TarEntry): [string[], number] => {
    const tree = buildLayer([entry]);
    return [[...(find(tree, entry.path).xattrs?.keys() ?? [])], tree.findings.length];
  };

  test('are kept in name order, values as they are', () => {
    const xattrs = new Map([
      ['user.z', 'a\0\xff'],
      ['security.capability', '\x01'],
      ['trusted.x', ''],
      ['system.posix_acl_default', '\x02'],
      ['user.\xff', ''],
      ['system.posix_acl_access', '\x02'],
    ]);
    const node = find(buildLayer([dir('d', { xattrs })]), 'd');
    assert.deepEqual(
      [...node.xattrs!],
      [...xattrs].sort(([a], [b]) => (a < b ? -1 : 1)),
    );
  });

  test('that mean something to overlayfs or to us are left out', () => {
    const xattrs = new Map(
      ['trusted.overlay.opaque', 'trusted.overlay.redirect', 'trusted.veneer.implied'].map((name) => [
        name,
        'y',
      ]),
    );
    assert.deepEqual(names(dir('d', { xattrs })), [[], 3]);
    xattrs.set('trusted.overlays', '').set('user.overlay.opaque', 'y');
    assert.deepEqual(names(dir('d', { xattrs })), [['trusted.overlays', 'user.overlay.opaque'], 3]);
  });

  test('that no kernel takes are left out', () => {
    const bad = [
      '',
      'user',
      'user.',
      'note',
      'os2.x',
      'system.nfs4_acl',
      'user.\0',
      `user.${'x'.repeat(251)}`,
    ];
    assert.deepEqual(names(file('f', { xattrs: new Map(bad.map((name) => [name, ''])) })), [[], bad.length]);
    const sizes = new Map([
      [`user.${'x'.repeat(250)}`, 'v'.repeat(65536)],
      ['user.big', 'v'.repeat(65537)],
    ]);
    assert.deepEqual(names(file('f', { xattrs: sizes })), [[`user.${'x'.repeat(250)}`], 1]);
  });

  test('of symlinks and devices are none of user and no ACL', () => {
    const xattrs = new Map(
      ['user.a', 'trusted.a', 'security.selinux', 'system.posix_acl_access'].map((name) => [name, '']),
    );
    assert.deepEqual(names(makeEntry('symlink', 's', { linkPath: 'x', xattrs })), [
      ['security.selinux', 'trusted.a'],
      2,
    ]);
    assert.deepEqual(names(makeEntry('fifo', 'p', { xattrs })), [
      ['security.selinux', 'system.posix_acl_access', 'trusted.a'],
      1,
    ]);
  });

  test('a default ACL is for directories only', () => {
    const xattrs = new Map([['system.posix_acl_default', '\x02']]);
    assert.deepEqual(names(dir('d', { xattrs })), [['system.posix_acl_default'], 0]);
    assert.deepEqual(names(file('f', { xattrs })), [[], 1]);
  });

  test('the finding names path, attribute and reason', () => {
    const tree = buildLayer([
      file('./a/f', { xattrs: new Map([['trusted.overlay.origin', '']]), headerOffset: 4096 }),
    ]);
    assert.deepEqual(tree.findings, [
      {
        code: 'tree/xattr-dropped',
        message: 'the attribute trusted.overlay.origin is left out: the name is reserved',
        path: 'a/f',
        offset: 4096,
      },
    ]);
  });
});
