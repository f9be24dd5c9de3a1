/** Names, their spelling, and directories. */
import { archive, dir, file, hardLink, symlink } from '../tar-builder.ts';
import type { TarCase } from './tar-case.ts';

const deep = (depth: number, name: string): string => `${`${name}/`.repeat(depth - 1)}${name}`;

export const nameCases: readonly TarCase[] = [
  {
    name: 'name/not-utf8',
    layers: [
      archive(
        file('caf\xe9', 'latin1'),
        file('caf\xc3\xa9', 'utf8'),
        file('\xff\xfe\x80', 'neither'),
        dir('\xf0\x9f\x98\x80'),
        file('\xf0\x9f\x98\x80/\xed\xa0\x80', 'a lone surrogate'),
        symlink('s\xff', '\xff\xfe'),
      ),
    ],
    notes: 'names are bytes; the first two differ',
    gnuTar: 'same',
  },
  {
    name: 'name/odd-bytes',
    layers: [
      archive(
        file(' ', 'space'),
        file('tab\tnewline\nreturn\r', 'x'),
        file('back\\slash', 'x'),
        file('"quotes\'', 'x'),
        file('-dash', 'x'),
        file('\x01\x7f', 'x'),
        file('...', 'x'),
        file('.hidden', 'x'),
        file('..two', 'x'),
        file('~', 'x'),
        file('*', 'x'),
      ),
    ],
    notes: 'every byte but NUL and slash is part of a name',
    gnuTar: 'same',
  },
  {
    name: 'name/dots',
    layers: [
      archive(
        ...['..a', '...b', '..four', '..seven', '....', '....two', '.\xff', '..\xff'].map((name) =>
          file(name, name),
        ),
        dir('..dir/'),
        file('..dir/..f', 'below'),
        hardLink('link', '..a'),
        symlink('soft', '..dir/..f'),
      ),
    ],
    notes: 'names that begin with dots and are neither . nor ..; Linux shows some of them otherwise in UDF',
    gnuTar: 'same',
  },
  {
    name: 'name/byte-order',
    layers: [
      archive(
        dir('a'),
        file('a/x', '1'),
        file('a-b', '2'),
        file('a.b', '3'),
        file('a0', '4'),
        file('A', '5'),
        file('a\xff', '6'),
        file('a\x01', '7'),
        file('ab', '8'),
      ),
    ],
    notes: 'names that sort differently as bytes, as paths and in locales',
    gnuTar: 'same',
  },
  {
    name: 'name/dot-slash',
    layers: [
      archive(dir('./'), dir('./d'), file('./d/f', 'x'), symlink('./s', './d/f'), hardLink('./h', './d/f')),
    ],
    notes: './x is x',
    gnuTar: 'same',
  },
  {
    name: 'name/absolute',
    layers: [archive(dir('/d'), file('/d/f', 'x'), file('//e', 'y'), hardLink('/h', '/d/f'))],
    notes: 'a leading slash means nothing',
    gnuTar: 'same',
  },
  {
    name: 'name/dot-dot',
    layers: [archive(dir('a'), dir('a/b'), file('a/b/../f', 'x'), file('../g', 'y'), file('a/../../h', 'z'))],
    notes: '.. is resolved inside the root and reported',
    gnuTar: 'differs: it drops everything up to the last .. of a name',
  },
  {
    name: 'name/ends-in-dot',
    layers: [archive(dir('d'), dir('d/.', { mode: 0o700 }), dir('d/e/..', { mode: 0o711 }))],
    notes: 'names that end in . and .. mean a directory further up',
    gnuTar: 'differs: it takes d/e/.. for the root',
  },
  {
    name: 'name/255-bytes',
    layers: [
      archive(
        file('n'.repeat(255), 'x'),
        dir('m'.repeat(255)),
        file(`${'m'.repeat(255)}/${'\xe9'.repeat(255)}`, 'y'),
      ),
    ],
    notes: 'the longest name of a file',
    gnuTar: 'same',
  },
  {
    name: 'name/256-bytes',
    layers: [archive(file('n'.repeat(256), 'x'))],
    notes: 'no Linux file system has such a name',
    gnuTar: 'differs: it leaves the entry out and complains',
    refused: 'tree/invalid',
  },
  {
    name: 'name/deep',
    layers: [archive(file(deep(200, 'd'), 'bottom'), file(`${deep(40, 'e'.repeat(90))}`, 'long'))],
    notes: '200 directories deep, and a path of 3,600 bytes; no parent is named',
    gnuTar: 'same',
  },
  {
    name: 'name/deepest',
    layers: [archive(file(deep(1900, 'p'), 'x'))],
    notes:
      '1,900 directories deep: with the path of a mount point in front, near the 4,095 bytes that one call can name',
    gnuTar: 'same',
  },
  {
    name: 'name/unnamed-parents',
    layers: [archive(file('a/b/c/f', 'x'), file('a/g', 'y'), dir('q/r/s', { mode: 0o700 }))],
    notes: 'directories that no entry names get default attributes',
    gnuTar: 'same',
  },
  {
    name: 'name/parent-named-later',
    layers: [
      archive(file('a/b/f', 'x'), dir('a/b', { mode: 0o700, uid: 7 }), dir('a', { mode: 0o711, mtime: 5 })),
    ],
    notes: 'a parent described after its children',
    gnuTar: 'same',
  },
  {
    name: 'name/unnamed-parents-of-lower-layer',
    layers: [
      archive(dir('a', { mode: 0o700, uid: 3, mtime: 77 }), dir('a/b', { mode: 0o750 })),
      archive(file('a/b/f', 'x')),
    ],
    notes: 'a parent that this layer does not name keeps what the lower layer says',
    gnuTar: 'same',
  },
  {
    name: 'name/root-explicit',
    layers: [archive(dir('./', { mode: 0o1751, uid: 12, gid: 34, mtime: 123_456_789 }), file('f', 'x'))],
    notes: 'the root has attributes of its own',
    gnuTar: 'same',
  },
  {
    name: 'name/spellings',
    layers: [
      archive(dir('./d/'), file('.//d/./f', 'x'), file('d//g', 'y'), dir('d///e/./'), file('./././h', 'z')),
    ],
    notes: 'dots and doubled slashes mean nothing',
    gnuTar: 'differs: it forgets the time of a directory when its children spell it otherwise',
  },
  {
    name: 'name/root-spellings',
    layers: [
      archive(
        dir('.', { mode: 0o700 }),
        file('f', 'x'),
        dir('/', { mode: 0o711 }),
        dir('./.', { mode: 0o750 }),
      ),
    ],
    notes: 'the last entry for the root wins, however it is spelled',
    gnuTar: 'differs: it sets the attributes of directories at the end, and not in this order',
  },
  {
    name: 'name/root-per-layer',
    layers: [
      archive(dir('./', { mode: 0o700, uid: 1 }), file('a', '1')),
      archive(dir('./', { mode: 0o711, uid: 2, xattrs: { 'user.root': 'two' } }), file('b', '2')),
      archive(file('c', '3')),
    ],
    notes: 'the root is as the topmost layer that names it says',
    gnuTar: 'same',
  },
  {
    name: 'name/root-as-file',
    layers: [archive(file('.', 'x'))],
    notes: 'the root is a directory',
    gnuTar: 'differs: it leaves the entry out and complains',
    refused: 'tree/invalid',
  },
  {
    name: 'name/big-directory',
    layers: () => [
      archive(
        dir('big'),
        ...Array.from({ length: 5000 }, (_, i) =>
          file(`big/file-${(i * 7919) % 5000}`, i % 5 === 0 ? `${i}` : ''),
        ),
      ),
    ],
    notes: '5,000 names in one directory, not in order',
    gnuTar: 'same',
  },
  {
    name: 'name/big-directory-of-long-names',
    layers: () => [
      archive(
        ...Array.from({ length: 300 }, (_, i) =>
          file(`big/${String(i).padStart(4, '0')}${'x'.repeat(250 - (i % 13))}`, ''),
        ),
      ),
    ],
    notes: 'directory blocks that fill unevenly',
    gnuTar: 'same',
  },
  {
    name: 'name/many-empty-directories',
    layers: () => [archive(...Array.from({ length: 600 }, (_, i) => dir(`d${i % 30}/e${i}`)))],
    notes: 'directories without children',
    gnuTar: 'same',
  },
  {
    name: 'name/empty-archive',
    layers: [archive()],
    notes: 'no entries at all',
    gnuTar: 'same',
  },
];
