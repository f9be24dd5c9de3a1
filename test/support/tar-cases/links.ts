/** Hard links and symlinks. */
import {
  archive,
  device,
  dir,
  fifo,
  file,
  hardLink,
  member,
  opaque,
  symlink,
  whiteout,
} from '../tar-builder.ts';
import { patterned, type TarCase } from './tar-case.ts';

export const linkCases: readonly TarCase[] = [
  {
    name: 'link/hard',
    layers: [archive(file('a', 'data'), hardLink('b', 'a'), dir('d'), hardLink('d/c', 'a'))],
    notes: 'three names of one inode',
    gnuTar: 'same',
  },
  {
    name: 'link/chain',
    layers: [archive(file('a', 'data'), hardLink('b', 'a'), hardLink('c', 'b'), hardLink('d', 'c'))],
    notes: 'links to links',
    gnuTar: 'same',
  },
  {
    name: 'link/spelled-oddly',
    layers: [archive(dir('d'), file('d/a', 'data'), hardLink('b', './d//a'), hardLink('c', '/d/./a'))],
    notes: 'targets with ./, // and a leading slash',
    gnuTar: 'same',
  },
  {
    name: 'link/to-special',
    layers: [
      archive(
        fifo('p'),
        hardLink('p2', 'p'),
        symlink('s', 'nowhere'),
        hardLink('s2', 's'),
        device('c', 'char', 1, 3),
        hardLink('c2', 'c'),
      ),
    ],
    notes: 'hard links to a FIFO, a symlink (not what it points to) and a device',
    gnuTar: 'same',
  },
  {
    name: 'link/attributes-of-link-entry',
    layers: [
      archive(file('a', 'data', { uid: 1, mode: 0o600 }), hardLink('b', 'a', { uid: 1, mode: 0o600 })),
    ],
    notes: 'the link entry repeats the attributes of its target',
    gnuTar: 'same',
  },
  {
    name: 'link/with-data',
    layers: [archive(file('a', 'data'), hardLink('b', 'a', {}, 'data'), file('after', 'x'))],
    notes: 'a ustar link that carries the file once more (POSIX.1-2001): the data is passed over',
    gnuTar: 'same',
  },
  {
    name: 'link/with-data-pax',
    layers: [
      archive(
        file('a', patterned(1500)),
        hardLink('b', 'a', { pax: [['size', '1500']] }, patterned(1500)),
        file('after', 'x'),
      ),
    ],
    notes: 'the same with a PAX size',
    gnuTar: 'same',
  },
  {
    name: 'link/with-size-without-data',
    layers: [archive(file('a', 'data'), hardLink('b', 'a', { size: 4 }), file('after', 'x'))],
    notes: 'a link that repeats the size of its target and has no data (POSIX.1-1988)',
    gnuTar: 'same',
  },
  {
    name: 'link/with-size-at-the-end',
    layers: [archive(file('a', 'data'), hardLink('b', 'a', { size: 4000 }))],
    notes: 'the same as the last entry: zeros follow',
    gnuTar: 'same',
  },
  {
    name: 'link/directory-and-symlink-with-size',
    layers: [
      archive(
        dir('d', { size: 4096 }),
        symlink('s', 'd', { size: 1 }),
        fifo('p', { size: 7 }),
        file('f', 'x'),
      ),
    ],
    notes: 'sizes of types that have no data are ignored',
    gnuTar: 'same',
  },
  {
    name: 'link/target-replaced-later',
    layers: [archive(file('a', 'old'), hardLink('b', 'a'), file('a', 'new'))],
    notes: 'the link keeps the old file, the name gets a new one',
    gnuTar: 'same',
  },
  {
    name: 'link/target-comes-later',
    layers: [archive(hardLink('b', 'a'), file('a', 'data'))],
    notes: 'no layer has the target when the link is made',
    gnuTar: 'differs: it leaves the link out and complains',
    refused: 'tree/invalid',
  },
  {
    name: 'link/target-missing',
    layers: [archive(file('a', 'x')), archive(hardLink('b', 'nothing'))],
    notes: 'no layer has the target',
    gnuTar: 'differs: it leaves the link out and complains',
    refused: 'tree/invalid',
  },
  {
    name: 'link/to-directory',
    layers: [archive(dir('d'), hardLink('b', 'd'))],
    notes: 'directories have one name',
    gnuTar: 'differs: it leaves the link out and complains',
    refused: 'tree/invalid',
  },
  {
    name: 'link/to-itself',
    layers: [archive(file('a', 'data'), hardLink('a', 'a'))],
    notes: 'means nothing: the file stays',
    gnuTar: 'same',
  },
  {
    name: 'link/to-lower-layer',
    layers: [
      archive(dir('d'), file('d/a', 'data', { xattrs: { 'user.k': 'v' } })),
      archive(hardLink('b', 'd/a')),
    ],
    notes: 'a second name for a file of the layer below',
    gnuTar: 'same',
  },
  {
    name: 'link/to-lower-layer-twice',
    layers: [
      archive(file('a', 'data')),
      archive(hardLink('b', 'a')),
      archive(hardLink('c', 'b'), hardLink('d', 'a')),
    ],
    notes: 'four names over three layers are one inode',
    gnuTar: 'same',
  },
  {
    name: 'link/to-lower-layer-through-symlink',
    layers: [
      archive(dir('real'), file('real/a', 'data'), symlink('alias', 'real')),
      archive(hardLink('b', 'alias/a')),
    ],
    notes: 'a symlink of the lower layer on the way to the target',
    gnuTar: 'same',
  },
  {
    name: 'link/lower-target-whited-out',
    layers: [archive(file('a', 'data')), archive(hardLink('b', 'a'), whiteout('a'))],
    notes: 'a rename as a differ writes it: the link first, the old name deleted by the same layer',
    gnuTar: 'differs: here the whiteout comes before the link and leaves it without a target',
  },
  {
    name: 'link/lower-target-replaced',
    layers: [archive(file('a', 'old')), archive(hardLink('b', 'a'), file('a', 'new'))],
    notes: 'the link comes before the replacement: it is the old file',
    gnuTar: 'differs: here the replacement clears the old file away before the link is made',
  },
  {
    name: 'link/lower-group-broken-by-upper-file',
    layers: [archive(file('a', 'data'), hardLink('b', 'a'), hardLink('c', 'a')), archive(file('b', 'own'))],
    notes: 'a layer replaces one of three names',
    gnuTar: 'same',
  },
  {
    name: 'link/lower-under-opaque',
    layers: [
      archive(dir('d'), file('d/a', 'data'), file('keep', 'k')),
      archive(dir('d'), opaque('d'), hardLink('d/b', 'keep')),
    ],
    notes: 'a link to a lower file from inside a directory made opaque',
    gnuTar: 'same',
  },
  {
    name: 'symlink/kinds',
    layers: [
      archive(
        symlink('relative', 'a/b'),
        symlink('absolute', '/etc/passwd'),
        symlink('parent', '../../../..'),
        symlink('self', 'self'),
        symlink('dangling', 'no such\nfile \xff'),
        symlink('slash', 'dir/'),
        symlink('owned', 'x', { uid: 1000, gid: 100, mode: 0o700 }),
      ),
    ],
    notes: 'targets are bytes and never followed; modes of symlinks are 0777 to Linux',
    gnuTar: 'same',
  },
  {
    name: 'symlink/target-4095',
    layers: [
      archive(symlink('max', `${'t/'.repeat(2047)}t`), symlink('gnu', 'u'.repeat(4095), { dialect: 'gnu' })),
    ],
    notes: "the longest target that Linux has, by PAX and by GNU's K",
    gnuTar: 'same',
  },
  {
    name: 'symlink/lengths',
    layers: [
      archive(
        ...[1, 31, 32, 59, 60, 99, 100, 101, 255, 256, 511, 512, 513, 4000].map((n) =>
          symlink(`l${n}`, 't'.repeat(n)),
        ),
      ),
    ],
    notes: 'targets around the sizes that inline data and header fields end at',
    gnuTar: 'same',
  },
  {
    name: 'symlink/parent-of-later-entries',
    layers: [archive(dir('real'), symlink('alias', 'real'), file('alias/f', 'x'))],
    notes: 'an entry below a symlink of the same layer goes where the symlink leads',
    gnuTar: 'differs: it forgets the time of the directory that the symlink leads to',
  },
  {
    name: 'symlink/parent-absolute',
    layers: [archive(dir('real'), symlink('alias', '/real'), file('alias/f', 'x'))],
    notes: 'an absolute target stays inside the root',
    gnuTar: 'differs: it makes such symlinks last, and complains',
  },
  {
    name: 'symlink/parent-out-of-root',
    layers: [archive(dir('d'), symlink('d/up', '../../../..'), file('d/up/f', 'x'))],
    notes: 'a way out of the root ends at the root',
    gnuTar: 'differs: it makes such symlinks last, and complains',
  },
  {
    name: 'symlink/replaced-by-directory',
    layers: [archive(dir('real'), file('real/f', 'x'), symlink('d', 'real'), dir('d'), file('d/g', 'y'))],
    notes: 'a directory entry replaces a symlink, it does not follow it',
    gnuTar: 'same',
  },
  {
    name: 'symlink/lower-as-directory',
    layers: [archive(dir('real'), file('real/f', 'x'), symlink('d', 'real')), archive(file('d/g', 'y'))],
    notes:
      'a layer writes below a symlink of the lower layer without naming it: the implied parent replaces it',
    gnuTar: 'same',
  },
  {
    name: 'symlink/with-data',
    layers: [archive(member('2', 's', 'some data', { pax: [['linkpath', 'target']] }), file('after', 'x'))],
    notes: 'a symlink followed by data that it cannot have: passed over',
    gnuTar: 'same',
  },
];
