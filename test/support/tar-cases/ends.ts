/** How archives end. */
import { archive, BLOCK, dir, END, file, gnuLong, paxHeader } from '../tar-builder.ts';
import { patterned, type TarCase } from './tar-case.ts';

const ONE = Buffer.concat([dir('d'), file('d/f', 'hello')]);

export const endCases: readonly TarCase[] = [
  {
    name: 'end/padded-record',
    layers: [Buffer.concat([ONE, Buffer.alloc(10_240 - ONE.length)])],
    notes: 'zeros up to a record of 20 blocks',
    gnuTar: 'same',
  },
  {
    name: 'end/garbage-behind',
    layers: [Buffer.concat([ONE, END, patterned(3000)])],
    notes: 'what follows the two blocks of zeros is ignored, also half a block',
    gnuTar: 'same',
  },
  {
    name: 'end/archive-behind',
    layers: [Buffer.concat([ONE, END, archive(file('hidden', 'x'))])],
    notes: 'a second archive behind the end is not read',
    gnuTar: 'same',
  },
  {
    name: 'end/no-zeros',
    layers: [ONE],
    notes: 'no end at all, right behind an entry',
    gnuTar: 'same',
  },
  {
    name: 'end/one-zero-block',
    layers: [Buffer.concat([ONE, Buffer.alloc(BLOCK)])],
    notes: 'half an end',
    gnuTar: 'same',
  },
  {
    name: 'end/lone-zero-block-inside',
    layers: [Buffer.concat([ONE, Buffer.alloc(BLOCK), file('hidden', 'x'), END])],
    notes: 'one block of zeros ends the archive too, as for GNU tar and libarchive',
    gnuTar: 'same',
  },
  {
    name: 'end/dangling-pax',
    layers: [Buffer.concat([ONE, paxHeader([['path', 'nobody']]), END])],
    notes: 'an extended header without an entry is reported',
    gnuTar: 'same',
  },
  {
    name: 'end/dangling-long-name',
    layers: [Buffer.concat([ONE, gnuLong('L', 'nobody'), END])],
    notes: 'a long name without an entry is reported',
    gnuTar: 'same',
  },
];
