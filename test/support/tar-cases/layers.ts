/** Whiteouts, opaque directories and merging of layers. */
import { archive, device, dir, file, hardLink, opaque, symlink, whiteout } from '../tar-builder.ts';
import type { TarCase } from './tar-case.ts';

const BASE = archive(
  dir('d', { mode: 0o750, uid: 1, mtime: 1000 }),
  file('d/a', 'A'),
  file('d/b', 'B'),
  dir('d/sub', { mode: 0o700 }),
  file('d/sub/c', 'C'),
  file('top', 'T'),
);

export const layerCases: readonly TarCase[] = [
  {
    name: 'whiteout/file',
    layers: [BASE, archive(whiteout('d/a'))],
    notes: 'one file goes, its directory stays as it was',
    gnuTar: 'same',
  },
  {
    name: 'whiteout/directory',
    layers: [BASE, archive(whiteout('d/sub'), whiteout('top'))],
    notes: 'a directory goes with all it holds',
    gnuTar: 'same',
  },
  {
    name: 'whiteout/with-parent-entry',
    layers: [BASE, archive(dir('d', { mode: 0o711, mtime: 2000 }), whiteout('d/a'))],
    notes: 'the layer names the directory too, as differs write it',
    gnuTar: 'same',
  },
  {
    name: 'whiteout/of-nothing',
    layers: [BASE, archive(whiteout('d/none'), whiteout('no/such/dir'))],
    notes: 'deletes nothing; the parents of the second come into being',
    gnuTar: 'differs: its excluded whiteouts make no parents',
  },
  {
    name: 'whiteout/in-lowest-layer',
    layers: [archive(dir('d'), file('d/a', 'A'), whiteout('d/b'), opaque('d'))],
    notes: 'nothing is below: it deletes nothing and is no file',
    gnuTar: 'same',
  },
  {
    name: 'whiteout/then-entry',
    layers: [BASE, archive(whiteout('d/a'), file('d/a', 'new'))],
    notes: 'whiteout and entry of one name: the entry stays (whiteouts act on lower layers only)',
    gnuTar: 'same',
  },
  {
    name: 'whiteout/entry-then-whiteout',
    layers: [BASE, archive(file('d/a', 'new'), whiteout('d/a'))],
    notes: 'the same in the other order',
    gnuTar: 'same',
  },
  {
    name: 'whiteout/directory-recreated',
    layers: [BASE, archive(whiteout('d'), dir('d', { mode: 0o711 }), file('d/new', 'N'))],
    notes: 'the new directory has nothing of the old one',
    gnuTar: 'same',
  },
  {
    name: 'whiteout/directory-recreated-first',
    layers: [BASE, archive(dir('d', { mode: 0o711 }), file('d/new', 'N'), whiteout('d'))],
    notes: 'the same in the other order',
    gnuTar: 'same',
  },
  {
    name: 'whiteout/directory-recreated-implied',
    layers: [BASE, archive(whiteout('d'), file('d/new', 'N'))],
    notes: "the new directory is nobody's entry: default attributes, not those of the old one",
    gnuTar: 'differs: the script gives it the time of the old one',
  },
  {
    name: 'whiteout/directory-recreated-two-layers-up',
    layers: [BASE, archive(whiteout('d')), archive(dir('d', { mode: 0o711 }), file('d/new', 'N'))],
    notes: 'deleted by one layer, made anew by the next',
    gnuTar: 'same',
  },
  {
    name: 'whiteout/whole-then-part',
    layers: [BASE, archive(whiteout('d/a'), whiteout('d'))],
    notes: 'a whiteout inside a directory that is whited out as well',
    gnuTar: 'differs: its excluded whiteouts make no parents',
  },
  {
    name: 'whiteout/in-unnamed-directory',
    layers: [BASE, archive(whiteout('d/sub/c'))],
    notes: 'the layer names neither d nor d/sub: both keep their attributes',
    gnuTar: 'same',
  },
  {
    name: 'whiteout/with-data',
    layers: [BASE, archive(file('d/.wh.a', 'whiteouts are empty, this one is not'), file('after', 'x'))],
    notes: 'its data is passed over',
    gnuTar: 'same',
  },
  {
    name: 'whiteout/other-types',
    layers: [BASE, archive(dir('d/.wh.a'), symlink('d/.wh.b', 'x'), hardLink('.wh.top', 'd/.wh.b'))],
    notes: 'the name makes the whiteout, not the type',
    gnuTar: 'same',
  },
  {
    name: 'whiteout/empty-name',
    layers: [BASE, archive(file('d/.wh.', ''), file('.wh..', ''), file('d/.wh...', ''))],
    notes: 'whiteouts of nothing, of . and of .. mean nothing, and are reported',
    gnuTar: 'same',
  },
  {
    name: 'whiteout/aufs-metadata',
    layers: [
      BASE,
      archive(dir('.wh..wh.plnk'), file('.wh..wh.plnk/1.2', 'x'), file('.wh..wh.aufs', ''), file('f', 'F')),
    ],
    notes: "aufs' own files are no part of the tree",
    gnuTar: 'same',
  },
  {
    name: 'whiteout/below-a-whiteout',
    layers: [BASE, archive(dir('d/.wh.sub'), file('d/.wh.sub/x', 'x'))],
    notes: 'what stands below a whiteout means nothing',
    gnuTar: 'same',
  },
  {
    name: 'whiteout/name-with-prefix-inside',
    layers: [BASE, archive(file('d/x.wh.a', 'kept'), file('wh.a', 'kept'), file('d/.whatever', 'kept'))],
    notes: 'only names that begin with .wh. are whiteouts',
    gnuTar: 'same',
  },
  {
    name: 'whiteout/hard-link-name',
    layers: [archive(file('a', 'data'), hardLink('b', 'a'), hardLink('c', 'a')), archive(whiteout('a'))],
    notes: 'one name of three goes, the file stays',
    gnuTar: 'same',
  },
  {
    name: 'whiteout/through-lower-symlink',
    layers: [archive(dir('real'), file('real/f', 'x'), symlink('alias', 'real')), archive(whiteout('alias'))],
    notes: 'the symlink goes, not what it points to',
    gnuTar: 'same',
  },
  {
    name: 'whiteout/overlay-device',
    layers: [BASE, archive(device('d/a', 'char', 0, 0))],
    notes: 'a character device 0/0 is a whiteout to overlayfs, in a layer it is a device',
    gnuTar: 'same',
  },
  {
    name: 'whiteout/four-layers',
    layers: [
      BASE,
      archive(whiteout('d/a'), file('d/n1', '1')),
      archive(file('d/a', 'again'), whiteout('d/n1'), whiteout('top')),
      archive(whiteout('d/b'), file('top/now/deep', 'x')),
    ],
    notes: 'deleted, made again, and a file that becomes a directory',
    gnuTar: 'same',
  },
  {
    name: 'opaque/directory',
    layers: [BASE, archive(dir('d', { mode: 0o711 }), opaque('d'), file('d/new', 'N'))],
    notes: 'nothing of the lower directory shows',
    gnuTar: 'same',
  },
  {
    name: 'opaque/after-its-children',
    layers: [BASE, archive(dir('d'), file('d/new', 'N'), opaque('d'))],
    notes: 'the marker comes last; the children of its own layer stay',
    gnuTar: 'same',
  },
  {
    name: 'opaque/alone',
    layers: [BASE, archive(opaque('d'))],
    notes: 'the layer does not name the directory: it is empty now and keeps its attributes',
    gnuTar: 'same',
  },
  {
    name: 'opaque/root',
    layers: [BASE, archive(file('.wh..wh..opq', ''), file('only', 'x'))],
    notes: 'all lower layers vanish',
    gnuTar: 'same',
  },
  {
    name: 'opaque/over-opaque',
    layers: [
      BASE,
      archive(dir('d'), opaque('d'), file('d/one', '1')),
      archive(dir('d'), opaque('d'), file('d/two', '2')),
      archive(file('d/three', '3')),
    ],
    notes: 'each hides all below it',
    gnuTar: 'same',
  },
  {
    name: 'opaque/nested',
    layers: [
      BASE,
      archive(dir('d'), dir('d/sub'), opaque('d/sub'), file('d/sub/n', 'N')),
      archive(opaque('d'), file('d/m', 'M')),
    ],
    notes: 'an opaque directory inside one that the next layer makes opaque',
    gnuTar: 'same',
  },
  {
    name: 'opaque/with-whiteouts',
    layers: [BASE, archive(dir('d'), opaque('d'), whiteout('d/a'), file('d/b', 'new'))],
    notes: 'whiteouts beside the marker say nothing more',
    gnuTar: 'same',
  },
  {
    name: 'opaque/over-file',
    layers: [archive(file('d', 'a file')), archive(dir('d'), opaque('d'), file('d/f', 'x'))],
    notes: 'an opaque directory in the place of a file',
    gnuTar: 'same',
  },
  {
    name: 'merge/file-to-directory-and-back',
    layers: [
      archive(file('x', 'file')),
      archive(dir('x', { mode: 0o700 }), file('x/a', '1')),
      archive(file('x', 'file again')),
      archive(dir('x'), file('x/b', '2')),
    ],
    notes: 'nothing of an earlier life comes back',
    gnuTar: 'same',
  },
  {
    name: 'merge/directory-attributes',
    layers: [
      archive(dir('d', { mode: 0o700, uid: 1, mtime: 10, xattrs: { 'user.a': '1' } }), file('d/a', 'A')),
      archive(dir('d', { mode: 0o755, uid: 2, mtime: 20 })),
      archive(file('d/b', 'B')),
    ],
    notes: 'as the topmost layer that names it says; children of all layers',
    gnuTar: 'same',
  },
  {
    name: 'merge/implied-over-file',
    layers: [archive(file('x', 'file')), archive(file('x/y', 'below'))],
    notes: 'an unnamed parent takes the place of a lower file',
    gnuTar: 'same',
  },
  {
    name: 'merge/same-file-in-all-layers',
    layers: [archive(file('f', '1')), archive(file('f', '22')), archive(file('f', '333', { mode: 0o600 }))],
    notes: 'the topmost wins',
    gnuTar: 'same',
  },
  {
    name: 'merge/empty-layers',
    layers: [archive(), BASE, archive(), archive(file('z', 'Z'))],
    notes: 'layers without entries change nothing',
    gnuTar: 'same',
  },
  {
    name: 'merge/hard-links-across-replacement',
    layers: [archive(file('a', 'old'), hardLink('b', 'a')), archive(file('a', 'new'), hardLink('c', 'a'))],
    notes: 'b keeps the old inode, a and c share the new one',
    gnuTar: 'same',
  },
  {
    name: 'merge/big-directories',
    layers: () => [
      archive(dir('big'), ...Array.from({ length: 1000 }, (_, i) => file(`big/a${i}`, `${i}`))),
      archive(...Array.from({ length: 500 }, (_, i) => whiteout(`big/a${i * 2}`))),
      archive(...Array.from({ length: 300 }, (_, i) => file(`big/b${i}`, `${i}`))),
    ],
    notes: 'five hundred whiteouts in one directory',
    gnuTar: 'same',
  },
];
