/** Modes, owners, times, sizes, devices and extended attributes. */
import { archive, device, dir, fifo, file, hardLink, symlink } from '../tar-builder.ts';
import { patterned, type TarCase } from './tar-case.ts';

const ALL_BYTES = Buffer.from(Array.from({ length: 256 }, (_, i) => i)).toString('latin1');
/** vfs_cap_data, revision 2, cap_net_raw effective: what ping carries. */
const CAPABILITY = Buffer.from('0100000200200000000000000000000000000000', 'hex').toString('latin1');

export const attributeCases: readonly TarCase[] = [
  {
    name: 'attribute/modes',
    layers: [
      archive(
        ...[0, 0o111, 0o222, 0o444, 0o755, 0o777, 0o4755, 0o2755, 0o1755, 0o7777, 0o6000].map((mode) =>
          file(`f${mode.toString(8)}`, 'x', { mode }),
        ),
        ...[0, 0o111, 0o700, 0o1777, 0o2775, 0o4755, 0o7777].map((mode) =>
          dir(`d${mode.toString(8)}`, { mode }),
        ),
      ),
    ],
    notes: 'setuid, setgid and sticky on files and directories',
    gnuTar: 'same',
  },
  {
    name: 'attribute/mode-with-type-bits',
    layers: [archive(file('f', 'x', { mode: 0o100640 }), dir('d', { mode: 0o040750 }))],
    notes: 'old writers put all of st_mode into the field',
    gnuTar: 'same',
  },
  {
    name: 'attribute/owners',
    layers: [
      archive(
        ...[
          0,
          1,
          65_534,
          65_535,
          65_536,
          2_097_151,
          2_097_152,
          2 ** 31 - 1,
          2 ** 31,
          2 ** 31 + 5,
          2 ** 32 - 2,
        ].map((id) => file(`f${id}`, 'x', { uid: id, gid: id })),
        file('mixed', 'x', { uid: 2 ** 31 + 1, gid: 7 }),
        dir('d', { uid: 70_000, gid: 80_000 }),
        symlink('s', 't', { uid: 2 ** 31, gid: 1 }),
      ),
    ],
    notes: 'ids around 16, 21, 31 and 32 bits',
    gnuTar: 'same',
  },
  {
    name: 'attribute/times',
    layers: [
      archive(
        file('zero', 'x', { mtime: 0 }),
        file('nano', 'x', { mtime: 1_600_000_000, mtimeNsec: 1 }),
        file('almost', 'x', { mtime: 1_600_000_000, mtimeNsec: 999_999_999 }),
        file('negative', 'x', { mtime: -1 }),
        file('negative-nano', 'x', { mtime: -2, mtimeNsec: 750_000_000 }),
        file('1901', 'x', { mtime: -(2 ** 31) }),
        file('2038', 'x', { mtime: 2 ** 31 }),
        file('2106', 'x', { mtime: 2 ** 32 }),
        file('2400', 'x', { mtime: 13_569_465_600 }),
        dir('d', { mtime: 1_500_000_000, mtimeNsec: 5 }),
        file('d/f', 'x', { mtime: 1_500_000_001 }),
        symlink('s', 't', { mtime: 1_400_000_000, mtimeNsec: 123_456_789 }),
      ),
    ],
    notes: 'before 1970, beyond 2038, and nanoseconds; a directory keeps its time when children come',
    gnuTar: 'same',
  },
  {
    name: 'attribute/same-time-everywhere',
    layers: [
      archive(
        dir('./', { mtime: 1 }),
        dir('d', { mtime: 1 }),
        file('d/f', 'x', { mtime: 1 }),
        file('e', '', { mtime: 1 }),
      ),
    ],
    notes: 'a reproducible build: all times equal, compact inodes will do',
    gnuTar: 'same',
  },
  {
    name: 'attribute/sizes',
    layers: [
      archive(
        ...[0, 1, 511, 512, 513, 1023, 1024, 4095, 4096, 4097, 8192, 65_535, 65_536, 1_048_577].map((size) =>
          file(`f${size}`, patterned(size, size + 1)),
        ),
      ),
    ],
    notes: 'around blocks of 512 and 4096 bytes; the first is empty',
    gnuTar: 'same',
  },
  {
    name: 'attribute/same-content',
    layers: [archive(file('a', 'same'), file('b', 'same'), file('c', 'same'), file('d', ''), file('e', ''))],
    notes: 'equal bytes are still different files',
    gnuTar: 'same',
  },
  {
    name: 'attribute/devices',
    layers: [
      archive(
        device('null', 'char', 1, 3, { mode: 0o666 }),
        device('sda1', 'block', 8, 1),
        device('max-minor', 'char', 1, 0xf_ffff),
        device('max-major', 'block', 0xfff, 255),
        device('minor-256', 'char', 4, 256),
        device('nvme', 'block', 259, 300),
        fifo('pipe', { mode: 0o620 }),
      ),
    ],
    notes: 'device numbers beyond eight bits',
    gnuTar: 'same',
  },
  {
    name: 'attribute/device-0-0',
    layers: [archive(device('c', 'char', 0, 1), device('b', 'block', 0, 0))],
    notes: 'a block device 0/0 is no overlay whiteout (a character device 0/0 is)',
    gnuTar: 'same',
  },
  {
    name: 'attribute/xattrs',
    layers: [
      archive(
        file('ping', 'x', { mode: 0o755, xattrs: { 'security.capability': CAPABILITY } }),
        file('user', 'x', { xattrs: { 'user.b': '2', 'user.a': '1', 'user.empty': '' } }),
        file('binary', 'x', {
          xattrs: { 'user.all': ALL_BYTES, 'user.nul': '\0\0', 'user.newline': 'a\nb=c\n' },
        }),
        dir('d', { xattrs: { 'user.dir': 'd', 'trusted.x': 't' } }),
        symlink('s', 't', { xattrs: { 'trusted.on-symlink': 'yes' } }),
        device('dev', 'char', 1, 3, { xattrs: { 'trusted.on-device': 'yes' } }),
      ),
    ],
    notes: 'values are bytes, may be empty, and come in any order',
    gnuTar: 'same',
  },
  {
    name: 'attribute/xattrs-shared',
    layers: [
      archive(
        ...Array.from({ length: 40 }, (_, i) =>
          file(`f${i}`, 'x', {
            xattrs: {
              'user.common': 'c'.repeat(100),
              'security.capability': CAPABILITY,
              [`user.own${i % 4}`]: String(i),
            },
          }),
        ),
      ),
    ],
    notes: 'values that repeat are worth sharing',
    gnuTar: 'same',
  },
  {
    name: 'attribute/xattrs-large',
    layers: [
      archive(
        file('f', 'x', {
          xattrs: { [`user.${'n'.repeat(250)}`]: 'v', 'user.big': patterned(3000).toString('latin1') },
        }),
        file('g', 'x', {
          xattrs: Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`user.k${i}`, `${i}`])),
        }),
      ),
    ],
    notes: 'a name of 255 bytes, a value of 3,000, forty at once',
    gnuTar: 'same',
  },
  {
    name: 'attribute/xattr-names',
    layers: [
      archive(
        file('f', 'x', {
          xattrs: { 'user.with%3Dequal%25percent': 'v', 'user.': 'no name', 'user.a.b.c': 'dots' },
        }),
      ),
    ],
    notes: "GNU tar's escapes in names; a name that is only a prefix is left out",
    gnuTar: 'same',
  },
  {
    name: 'attribute/xattrs-of-overlay',
    layers: [
      archive(
        dir('d', { xattrs: { 'trusted.overlay.opaque': 'y', 'trusted.overlay.origin': '\0\xfb' } }),
        file('d/g', 'x'),
        file('f', 'x', { xattrs: { 'trusted.overlay.redirect': '/elsewhere', 'user.overlay.opaque': 'y' } }),
      ),
    ],
    notes: 'made from an overlay upper directory: these must not act on a mount, so the tree leaves them out',
    gnuTar: 'differs: it sets them',
  },
  {
    name: 'attribute/xattrs-libarchive',
    layers: [
      archive(
        file('f', 'x', {
          pax: [
            ['LIBARCHIVE.xattr.user.only%3Dhere', Buffer.from('a\0b').toString('base64')],
            ['LIBARCHIVE.xattr.user.both', Buffer.from('encoded').toString('base64')],
            ['SCHILY.xattr.user.both', 'raw'],
          ],
        }),
      ),
    ],
    notes: 'the encoded form counts where the raw one is missing',
    gnuTar: 'differs: it does not know the encoded form',
  },
  {
    name: 'attribute/xattrs-replaced-by-upper',
    layers: [
      archive(
        dir('d', { xattrs: { 'user.a': '1', 'user.b': '2' } }),
        file('f', 'x', { xattrs: { 'user.a': '1' } }),
      ),
      archive(dir('d', { xattrs: { 'user.c': '3' } }), file('f', 'y')),
    ],
    notes: 'an upper entry brings all of its attributes, none of the lower stays',
    gnuTar: 'same',
  },
  {
    name: 'attribute/xattrs-on-hard-links',
    layers: [archive(file('a', 'x', { xattrs: { 'user.k': 'v' } }), hardLink('b', 'a'))],
    notes: 'attributes belong to the inode',
    gnuTar: 'same',
  },
];
