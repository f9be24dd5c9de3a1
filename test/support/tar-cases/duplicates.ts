/** One name given more than once in a layer. */
import { archive, device, dir, fifo, file, hardLink, symlink } from '../tar-builder.ts';
import type { TarCase } from './tar-case.ts';

const KINDS = {
  file: (n: number) => file('x', `content ${n}`, { mode: 0o600 + n }),
  dir: (n: number) => dir('x', { mode: 0o700 + n, mtime: 1000 + n }),
  symlink: (n: number) => symlink('x', `target-${n}`),
  link: (n: number) => hardLink('x', `t${n}`),
  char: (n: number) => device('x', 'char', 1, n),
  block: (n: number) => device('x', 'block', 8, n),
  fifo: (n: number) => fifo('x', { mode: 0o620 + n }),
} as const;
const NAMES = Object.keys(KINDS) as (keyof typeof KINDS)[];

export const duplicateCases: readonly TarCase[] = [
  ...NAMES.flatMap((first) =>
    NAMES.map(
      (second): TarCase => ({
        name: `duplicate/${first}-then-${second}`,
        layers: [
          archive(
            file('t1', 'one'),
            file('t2', 'two'),
            KINDS[first](1),
            KINDS[second](2),
            file('z', 'after'),
          ),
        ],
        notes: 'the last entry wins',
        gnuTar: 'same',
      }),
    ),
  ),
  ...NAMES.flatMap((first) =>
    NAMES.map(
      (second): TarCase => ({
        name: `duplicate/layers-${first}-then-${second}`,
        layers: [
          archive(file('t1', 'one'), KINDS[first](1), file('z', 'after')),
          archive(file('t2', 'two'), KINDS[second](2)),
        ],
        notes: 'the same, each in a layer of its own',
        gnuTar: 'same',
      }),
    ),
  ),
  {
    name: 'duplicate/full-directory-then-file',
    layers: [archive(dir('x'), file('x/a', '1'), dir('x/d'), file('x/d/b', '2'), file('x', 'now a file'))],
    notes: 'the directory goes with all it holds',
    gnuTar: 'differs: it does not remove a directory that is not empty',
  },
  {
    name: 'duplicate/file-then-directory-with-children',
    layers: [archive(file('x', 'file'), dir('x'), file('x/a', '1'))],
    notes: 'and back',
    gnuTar: 'same',
  },
  {
    name: 'duplicate/file-as-parent',
    layers: [archive(file('x', 'file'), file('x/a', '1'))],
    notes: 'an entry below what was a file: the file becomes a directory, with a finding',
    gnuTar: 'differs: it leaves the second entry out and complains',
  },
  {
    name: 'duplicate/directory-keeps-children',
    layers: [archive(dir('x', { mode: 0o700 }), file('x/a', '1'), dir('x', { mode: 0o711 }))],
    notes: 'a second entry for a directory changes attributes only',
    gnuTar: 'same',
  },
  {
    name: 'duplicate/spellings',
    layers: [archive(file('d/f', '1'), file('./d/f', '2'), file('/d//f', '3'))],
    notes: 'three spellings of one name',
    gnuTar: 'same',
  },
  {
    name: 'duplicate/replaced-link-target',
    layers: [archive(file('a', '1'), hardLink('b', 'a'), hardLink('c', 'b'), file('b', '2'))],
    notes: 'a and c stay one file',
    gnuTar: 'same',
  },
];
