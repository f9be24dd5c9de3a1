import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { buildLayer, dir, file, link, snapshotTree, symlink } from '../../test/support/tree-cases.ts';
import { codes, find, outline, refuses } from '../../test/support/tree-outline.ts';
import type { TarEntry } from '../tar/entry.ts';
import { DEFAULT_LIMITS, lookupPath, TreeBuilder, walkTree } from './index.ts';

describe('names', () => {
  for (const [path, expected] of [
    ['a', '/a'],
    ['./a', '/a'],
    ['/a', '/a'],
    ['//a//b', '/a? /a/b'],
    ['.//./a/./b', '/a? /a/b'],
    ['a/b///', '/a? /a/b'],
    ['.a/..b/...', '/.a? /.a/..b? /.a/..b/...'],
    ['\xff\xfe/\x80', '/\xff\xfe? /\xff\xfe/\x80'],
    ['a/b/.', '/a? /a/b'],
  ] as const) {
    test(`${JSON.stringify(path)} stands at ${expected}`, () => {
      const tree = buildLayer([file(path)]);
      assert.equal(outline(tree), expected);
      assert.deepEqual(codes(tree), []);
    });
  }

  for (const [path, expected] of [
    ['a/../b', '/b'],
    ['../../b', '/b'],
    ['a/b/..', '/a'],
    ['/../a/../../b/c', '/b? /b/c'],
  ] as const) {
    test(`${path} stays inside the root, with a finding`, () => {
      const tree = buildLayer([dir(path)]);
      assert.equal(outline(tree), expected);
      assert.deepEqual(codes(tree), [`tree/dot-dot ${expected.split(' ').at(-1)!.slice(1)}`]);
    });
  }

  test('a name has at most 255 bytes and no NUL, wherever it stands', () => {
    const long = 'n'.repeat(256);
    assert.equal(outline(buildLayer([file(`${'n'.repeat(255)}/${'m'.repeat(255)}`)])).length, 770);
    for (const path of [long, `a/${long}`, `${long}/a`, 'a\0b', 'a\0/b', `.wh.a\0`]) {
      refuses([file(path)], /^Cannot add .*(bytes|NUL).*offset \d+/s);
    }
    refuses([symlink('s', long), file('s/x')], /256 bytes/);
  });

  test('depth is bounded, and deep trees overflow no stack', () => {
    const deep = (depth: number): string => `${'d/'.repeat(depth)}f`;
    const tree = buildLayer([file(deep(2048))]);
    let names = 0;
    walkTree(tree, () => names++);
    assert.equal(names, 2050);
    assert.equal(lookupPath(tree, deep(2048))?.size, find(tree, deep(2048)).size);
    refuses([file(deep(2049))], /more than 2048 directories deep/, 'tree/limit');
    const builder = new TreeBuilder(undefined, { ...DEFAULT_LIMITS, depth: 3 });
    builder.add(file(deep(3)));
    assert.throws(() => builder.add(file(deep(4))), /more than 3 directories/);
  });

  test('the number of findings is bounded, and their length', () => {
    const builder = new TreeBuilder();
    for (let i = 0; i < 10_007; i++) builder.add(file(`${i}/../f${i}`));
    builder.add(file(`${'d/'.repeat(1900)}${'n'.repeat(255)}/${'n'.repeat(255)}/../x`));
    const { findings } = builder.finish();
    assert.equal(findings.length, 10_001);
    assert.deepEqual(findings.at(-1), {
      code: 'tree/more-findings',
      message: '8 more findings are not listed',
    });
    const deep = buildLayer([file(`../${'d/'.repeat(2040)}${'n'.repeat(255)}/${'n'.repeat(255)}`)]);
    assert.equal(deep.findings[0]!.path!.length, 4096);
  });

  test('what a layer makes us hold is bounded, whatever it is', () => {
    const note = (name: string): Map<string, string> => new Map([[`user.${name}`, '']]);
    const kinds: Record<string, (i: number) => TarEntry> = {
      files: (i) => file(`f${i}`),
      'replaced files': () => file('same'),
      'parents of parents': (i) => file(`${i}/${i}/f`),
      'hard links': (i) => (i === 0 ? file('target') : link(`l${i}`, 'target')),
      'links to lower layers': (i) => link(`l${i}`, `lower/${i}`),
      whiteouts: (i) => file(`.wh.${i}`),
      attributes: (i) => file('f', { xattrs: note(String(i)) }),
    };
    for (const [kind, make] of Object.entries(kinds)) {
      const builder = new TreeBuilder(undefined, { ...DEFAULT_LIMITS, nodes: 100 });
      for (let i = 0; i < 12; i++) builder.add(make(i));
      assert.throws(
        () => {
          for (let i = 12; i < 101; i++) builder.add(make(i));
        },
        /^VeneerError: Cannot add .*more than 100 .*offset \d+/,
        kind,
      );
    }
  });

  test('names, targets and attributes together are bounded', () => {
    const long = (i: number): string => `${i}`.padStart(200, '0');
    const kinds: Record<string, (i: number) => TarEntry> = {
      names: (i) => file(long(i)),
      parents: (i) => file(`${long(i)}/f`),
      'link targets': (i) => symlink(`s${i}`, long(i)),
      'targets in lower layers': (i) => link(`l${i}`, long(i)),
      whiteouts: (i) => file(`.wh.${long(i)}`),
      attributes: (i) => file(`f${i}`, { xattrs: new Map([['user.note', long(i)]]) }),
    };
    for (const [kind, make] of Object.entries(kinds)) {
      const builder = new TreeBuilder(undefined, { ...DEFAULT_LIMITS, text: 10_000 });
      for (let i = 0; i < 20; i++) builder.add(make(i));
      assert.throws(
        () => {
          for (let i = 20; i < 60; i++) builder.add(make(i));
        },
        /^VeneerError: Cannot add .*more than 10000 bytes of .*offset \d+/,
        kind,
      );
    }
  });

  test('names do not keep long paths alive', () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const dots = './'.repeat(3000);
    const builder = new TreeBuilder();
    collect();
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < 1000; i++) {
      for (const name of [
        'a file of some length ',
        '.wh.a whiteout of some length ',
        'a folder of some length ',
      ]) {
        // As the scanner makes it: one flat string.
        const path = Buffer.from(`${dots}${name}${i}${name.startsWith('a folder') ? '/f' : ''}`);
        builder.add(file(path.toString('latin1')));
      }
    }
    collect();
    const kept = process.memoryUsage().heapUsed - before;
    assert.ok(kept < 4_000_000, `${kept} bytes are kept`);
    assert.equal(builder.finish().root.children!.size, 2000);
  });
});

test('a parent through a symbolic link is looked up again: what the last entry did may have changed it', () => {
  const tree = buildLayer([symlink('l', '.'), file('l/l'), file('l/z')]);
  assert.equal(outline(tree), '/l! /l/z');
  assert.deepEqual(codes(tree), [
    'tree/symlink-parent l/l',
    'tree/duplicate l/l',
    'tree/parent-replaced l/z',
  ]);
  const up = buildLayer([dir('a'), symlink('a/l', '..'), file('a/l/a'), file('a/l/z')]);
  assert.equal(outline(up), '/a! /a/l /a/l/z');
});

describe('duplicates and parents', () => {
  test('the last file of a name wins, with a finding', () => {
    const last = file('a', { size: 5 });
    const tree = buildLayer([file('a'), file('a'), last]);
    assert.equal(find(tree, 'a').at, last.payloadOffset);
    assert.deepEqual(codes(tree), ['tree/duplicate a', 'tree/duplicate a']);
  });

  test('a directory over a directory replaces attributes and keeps children', () => {
    const tree = buildLayer([
      dir('d', { xattrs: new Map([['user.a', '']]) }),
      file('d/f'),
      dir('d/', { mode: 0o700, uid: 3 }),
    ]);
    const { mode, uid, xattrs, opaque } = find(tree, 'd');
    assert.deepEqual({ mode, uid, xattrs, opaque }, { mode: 0o040700, uid: 3, xattrs: null, opaque: false });
    assert.equal(outline(tree), '/d /d/f');
    assert.deepEqual(codes(tree), []);
  });

  test('a file over a directory removes what is in it', () => {
    assert.equal(outline(buildLayer([file('d/e/f'), file('d'), file('x')])), '/d /x');
  });

  test('a directory over a file hides what lower layers have there: the file removed it', () => {
    assert.equal(outline(buildLayer([file('d'), dir('d'), file('d/x')])), '/d! /d/x');
    assert.equal(outline(buildLayer([dir('d'), file('d'), dir('d')])), '/d!');
  });

  test('neighbours whose parent is replaced between them find the new one', () => {
    assert.equal(outline(buildLayer([file('d/a'), file('d'), dir('d'), file('d/b')])), '/d! /d/b');
    assert.equal(
      outline(buildLayer([symlink('d', 'e'), file('d/a'), dir('d'), file('d/b')])),
      '/d! /d/b /e? /e/a',
    );
  });

  test('neither do odd names leave a stale parent behind', () => {
    assert.equal(outline(buildLayer([file('d/a'), file('d/x/..'), dir('d'), file('d/b')])), '/d! /d/b');
    assert.equal(outline(buildLayer([file('d/a'), file('d/x/..'), file('d/b')])), '/d! /d/b');
    assert.equal(outline(buildLayer([file('d/e/a'), file('d/e/..'), file('d/e/b')])), '/d! /d/e /d/e/b');
  });

  test('neighbours share no more of the way than they spell alike', () => {
    const names = [
      'a/b/c/1',
      'a/b/2',
      'a/bb/3',
      'a/b/c/d/4',
      './a/b/5',
      '/a/b//c/6',
      'b/c/7',
      'a/8',
      'ab/9',
      'a//b/10',
      '/.//a/11',
    ];
    const [, ...expected] = outline(buildLayer(names.map((name) => file(name)))).split(' ');
    assert.deepEqual(
      expected.filter((path) => /\d$/.test(path)),
      [
        '/a/11',
        '/a/8',
        '/a/b/10',
        '/a/b/2',
        '/a/b/5',
        '/a/b/c/1',
        '/a/b/c/6',
        '/a/b/c/d/4',
        '/a/bb/3',
        '/ab/9',
        '/b/c/7',
      ],
    );
    assert.equal(
      outline(buildLayer([symlink('s', 'd'), file('s/a'), file('d/s/b')])),
      '/d? /d/a /d/s? /d/s/b /s',
    );
  });

  test('a directory entry makes an implied parent explicit', () => {
    assert.equal(outline(buildLayer([file('a/b/c'), dir('a/b')])), '/a? /a/b /a/b/c');
  });

  test('a parent that is a symlink is followed inside the root, with a finding', () => {
    const tree = buildLayer([symlink('lib', '../../usr/lib'), file('lib/x'), file('lib/y'), file('/lib/z')]);
    assert.equal(outline(tree), '/lib /usr? /usr/lib? /usr/lib/x /usr/lib/y /usr/lib/z');
    assert.deepEqual(codes(tree), ['tree/symlink-parent lib/x', 'tree/symlink-parent lib/z']);
    assert.equal(
      outline(
        buildLayer([dir('a/b'), symlink('a/b/s', '/a/../c'), symlink('c', './d//e/'), file('a/b/s/f')]),
      ),
      '/a? /a/b /a/b/s /c /d? /d/e? /d/e/f',
    );
    assert.equal(outline(buildLayer([symlink('s', '/'), file('s/f')])), '/f /s');
  });

  test('a symlink as the entry itself is replaced, not followed', () => {
    assert.equal(outline(buildLayer([symlink('s', 'd'), dir('s')])), '/s!');
    assert.equal(outline(buildLayer([symlink('s', 'd'), file('s')])), '/s');
  });

  test('40 symlinks are followed, 41 and loops are refused', () => {
    const chain = (length: number): TarEntry[] =>
      Array.from({ length }, (_, i) => symlink(`s${i}`, i === length - 1 ? 'd' : `s${i + 1}`));
    assert.match(outline(buildLayer([...chain(40), file('s0/f')])), /^\/d\? \/d\/f /);
    refuses([...chain(41), file('s0/f')], /more than 40 symbolic links/);
    refuses([symlink('a', 'b'), symlink('b', 'a'), file('a/f')], /more than 40 symbolic links/);
  });

  test('a parent that is a file becomes a directory, with a finding', () => {
    const tree = buildLayer([file('a'), file('a/b')]);
    assert.equal(outline(tree), '/a! /a/b');
    assert.deepEqual(codes(tree), ['tree/parent-replaced a/b']);
    assert.deepEqual([find(tree, 'a').mode, find(tree, 'a').mtime], [0o040755, 0]);
  });

  test('paths through symlinks that cost too much are refused', () => {
    const builder = new TreeBuilder();
    for (let i = 0; i < 39; i++) builder.add(symlink(`s${i}`, `${'x/../'.repeat(800)}s${i + 1}`));
    builder.add(symlink('s39', 'd'));
    builder.add(dir('x'));
    assert.throws(() => {
      for (let i = 0; i < 2000; i++) {
        builder.add(file(`s0/f${i}`));
        builder.add(file(`g${i}`));
      }
    }, /too many paths through symbolic links/);
  });
});

describe('hard links', () => {
  test('are one node under two names, and give no attributes', () => {
    const tree = buildLayer([
      file('a', { uid: 1 }),
      { ...link('d/b', './/a'), uid: 7 },
      link('c', '/d/../d/b'),
    ]);
    assert.equal(find(tree, 'd/b'), find(tree, 'a'));
    assert.equal(find(tree, 'c'), find(tree, 'a'));
    assert.equal(find(tree, 'a').uid, 1);
  });

  test('a name replaced later leaves the inode to the others', () => {
    const first = file('a');
    const tree = buildLayer([first, link('b', 'a'), file('a')]);
    assert.notEqual(find(tree, 'b'), find(tree, 'a'));
    assert.equal(find(tree, 'b').at, first.payloadOffset);
  });

  test('to a symlink is to the symlink, to parents through symlinks is followed', () => {
    const tree = buildLayer([dir('d'), symlink('d/s', 'nowhere'), symlink('t', 'd'), link('l', 't/s')]);
    assert.equal(find(tree, 'l'), find(tree, 'd/s'));
    assert.equal(find(tree, 'l').target, 'nowhere');
  });

  test('to a missing name is a fact for the merge', () => {
    const tree = buildLayer([
      symlink('s', 'real'),
      link('l', 's/x/../y'),
      link('m', '../q'),
      link('n', '/s/x/z/w'),
    ]);
    assert.equal(find(tree, 'l').lowerLink, 'real/y');
    assert.equal(find(tree, 'n').lowerLink, 'real/x/z/w');
    assert.equal(find(tree, 'm').lowerLink, 'q');
    assert.equal(outline(tree).includes('real'), true);
    assert.equal(lookupPath(tree, 'real'), null);
  });

  test('to a later name means the lower layer, with a finding', () => {
    const tree = buildLayer([link('l', 'd/f'), file('d/f')]);
    assert.equal(find(tree, 'l').lowerLink, 'd/f');
    assert.deepEqual(codes(tree), ['tree/link-forward l']);
    const replaced = buildLayer([link('l', 'd/f'), file('d'), file('l')]);
    assert.deepEqual(codes(replaced), ['tree/duplicate l']);
  });

  test('to itself says nothing, to the same inode neither', () => {
    const tree = buildLayer([file('a'), link('a', './a'), link('b', 'a'), link('b', 'a'), link('x', 'x')]);
    assert.deepEqual(codes(tree), ['tree/link-self a', 'tree/link-self x']);
    assert.equal(outline(tree), '/a /b');
  });

  test('that no file system has are refused', () => {
    refuses([dir('d'), link('l', 'd')], /^Cannot link '\/l' to '\/d': its target is a directory/);
    refuses([link('l', '/')], /root directory/);
    refuses([link('l', '')], /root directory/);
    refuses([file('f'), link('l', 'f/x')], /a parent of its target is no directory/);
    refuses([file('d/f'), link('d', 'd/f')], /below the link itself/);
    refuses([link('d', 'd/f')], /below the link itself/);
    refuses([file('d/f'), file('d'), dir('d'), link('l', 'd/f')], /this layer has removed its target/);
  });
});

describe('whiteouts', () => {
  for (const [what, entries, expected] of [
    ['add their name to the parent', [dir('d'), file('d/.wh.x'), file('.wh.y')], '/? -y /d -x'],
    ['imply their parents', [file('a/b/.wh.c')], '/a? /a/b? -c'],
    ['leave a file of the layer alone, before', [file('.wh.a'), file('a')], '/a'],
    ['leave a file of the layer alone, after', [file('a'), file('.wh.a')], '/a'],
    ['make a directory of the layer opaque, before', [file('.wh.d'), dir('d'), file('d/x')], '/d! /d/x'],
    ['make a directory of the layer opaque, after', [dir('d'), file('d/x'), file('.wh.d')], '/d! /d/x'],
    ['take an implied directory what it would inherit', [file('d/x'), file('.wh.d')], '/d! /d/x'],
    ['opaque, after the children', [file('d/x'), file('d/.wh..wh..opq')], '/d?! /d/x'],
    ['opaque root', [file('.wh..wh..opq'), file('.wh.x')], '/?!'],
    [
      'below an opaque directory are dropped',
      [file('d/.wh.x'), file('d/e/.wh.y'), dir('d'), file('d/.wh..wh..opq')],
      '/d! /d/e',
    ],
    ['opaque below opaque is dropped', [file('d/e/.wh..wh..opq'), file('d/.wh..wh..opq')], '/d?! /d/e'],
    ['of any type', [dir('.wh.a'), symlink('.wh.b', 'x'), link('.wh.c', 'x')], '/? -a -b -c'],
    ['through symlinks', [symlink('s', 'd'), file('s/.wh.x')], '/d? -x /s'],
    ['replaced with their directory', [file('d/.wh.x'), file('d')], '/d'],
  ] as const) {
    test(what, () => assert.equal(outline(buildLayer(entries)), expected));
  }

  test('that name nothing, or aufs keeps for itself, have no effect but a finding', () => {
    const bad = [
      '.wh.',
      '.wh..',
      '.wh...',
      '.wh..wh.',
      '.wh..wh.plnk',
      '.wh..wh.aufs',
      '.wh..wh.orph',
      '.wh..wh..opq/x',
    ];
    const below = ['.wh.foo/bar', 'x/.wh.foo/bar/baz', '.wh.foo/.wh.bar', '.wh..wh.plnk/0.1'];
    const tree = buildLayer([...bad, ...below].map((path) => file(path)));
    assert.equal(outline(tree), '');
    assert.deepEqual(
      codes(tree),
      [...bad, ...below].map((path, i) => `tree/whiteout-${i < 3 ? 'invalid' : 'ignored'} ${path}`),
    );
  });

  test('below a file of the layer, or through a symlink below a whiteout, have no effect', () => {
    const tree = buildLayer([file('f'), file('f/.wh.x'), symlink('s', '.wh.y'), file('s/z')]);
    assert.equal(outline(tree), '/f /s');
    assert.deepEqual(codes(tree), ['tree/whiteout-ignored f/.wh.x', 'tree/whiteout-ignored s/z']);
  });

  test('order of entries does not matter', () => {
    const entries = [
      dir('d'),
      file('d/x'),
      file('d/.wh.x'),
      file('d/.wh.y'),
      dir('d/e'),
      file('d/.wh.e'),
      file('d/e/.wh..wh..opq'),
    ];
    assert.deepEqual(snapshotTree(buildLayer([...entries].reverse())), snapshotTree(buildLayer(entries)));
  });
});
