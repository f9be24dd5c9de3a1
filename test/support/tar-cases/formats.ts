/** Header dialects, number forms and PAX records. */
import {
  archive,
  DEFAULT_MTIME,
  dir,
  file,
  gnuLong,
  hardLink,
  makeHeader,
  member,
  padded,
  paxHeader,
  putNumber,
  symlink,
} from '../tar-builder.ts';
import { patterned, type TarCase } from './tar-case.ts';

const name120 = `${'long-directory-name/'.repeat(5)}${'f'.repeat(20)}`;
const name300 = `${'d'.repeat(120)}/${'e'.repeat(120)}/${'f'.repeat(58)}`;

export const formatCases: readonly TarCase[] = [
  {
    name: 'format/ustar',
    layers: [archive(dir('d'), file('d/f', 'hello'), symlink('d/s', 'f'), hardLink('d/h', 'd/f'))],
    notes: 'plain POSIX ustar',
    gnuTar: 'same',
  },
  {
    name: 'format/ustar-prefix',
    layers: [archive(file('leaf', 'x', { prefix: 'a/b/c' }), dir('a', { mode: 0o700 }))],
    notes: 'name and prefix fields joined',
    gnuTar: 'same',
  },
  {
    name: 'format/ustar-full-fields',
    layers: [archive(file('n'.repeat(100), 'x', { prefix: `${'p'.repeat(77)}/${'q'.repeat(77)}` }))],
    notes: 'name of 100 and prefix of 155 bytes: no NUL ends either',
    gnuTar: 'same',
  },
  {
    name: 'format/ustar-empty-linkname-prefix',
    layers: [archive(symlink('s', 't'.repeat(100), { prefix: 'dir' }))],
    notes: 'a link target that fills its field',
    gnuTar: 'same',
  },
  {
    name: 'format/v7',
    layers: [
      archive(
        member('\0', 'd/', '', { dialect: 'v7', mode: 0o755 }),
        member('\0', 'd/f', 'hello', { dialect: 'v7' }),
        hardLink('d/h', 'd/f', { dialect: 'v7' }),
        symlink('d/s', 'f', { dialect: 'v7' }),
      ),
    ],
    notes: 'no magic; a directory is a name with a slash behind it',
    gnuTar: 'same',
  },
  {
    name: 'format/v7-ignores-prefix',
    layers: [archive(file('f', 'x', { dialect: 'v7', prefix: 'not-a-prefix' }))],
    notes: 'what v7 has in the place of the prefix is no prefix',
    gnuTar: 'same',
  },
  {
    name: 'format/file-with-slash',
    layers: [archive(member('0', 'd/', '', { mode: 0o750 }), file('d/f', 'x'))],
    notes: 'typeflag 0 with a slash behind the name is a directory, as for GNU tar',
    gnuTar: 'same',
  },
  {
    name: 'format/star',
    layers: [
      archive(
        file('f', 'x', {
          dialect: 'star',
          prefix: 'pre',
          patch(block) {
            block.write('14524740000 14524740000 ', 476, 'latin1');
          },
        }),
      ),
    ],
    notes: 'a star header: its prefix is shorter, times stand behind it',
    gnuTar: 'same',
  },
  {
    name: 'format/oldgnu-times-in-prefix',
    layers: [
      archive(
        file('f', 'x', {
          dialect: 'gnu',
          patch(block) {
            putNumber(block, 345, 12, 1_600_000_000);
            putNumber(block, 357, 12, 1_600_000_001);
          },
        }),
      ),
    ],
    notes: 'atime and ctime of the GNU dialect stand where ustar has the prefix',
    gnuTar: 'same',
  },
  {
    name: 'format/oldgnu-go-prefix',
    layers: [archive(file('leaf', 'x', { dialect: 'gnu', prefix: 'written/by/go-1.7' }))],
    notes: "Go before 1.8 wrote a ustar prefix into GNU headers; Go's reader, and so containerd, reads it",
    gnuTar: 'differs: it takes the prefix for times and extracts ./leaf',
  },
  {
    name: 'format/gnu-long-name',
    layers: [archive(file(name120, 'x', { dialect: 'gnu' }), file(name300, 'y', { dialect: 'gnu' }))],
    notes: 'L headers',
    gnuTar: 'same',
  },
  {
    name: 'format/gnu-long-link',
    layers: [
      archive(
        file(name120, 'x', { dialect: 'gnu' }),
        symlink('s', `${'../'.repeat(60)}target`, { dialect: 'gnu' }),
        hardLink('h', name120, { dialect: 'gnu' }),
        symlink('s'.repeat(130), 't'.repeat(200), { dialect: 'gnu' }),
      ),
    ],
    notes: 'K headers, and K and L together',
    gnuTar: 'same',
  },
  {
    name: 'format/gnu-long-name-block-sizes',
    layers: [
      archive(
        ...[511, 512, 513, 1023, 1024].map((length) => {
          const name = `${'x/'.repeat(Math.floor((length - 1) / 2))}`.padEnd(length, 'y');
          return file(name, String(length), { dialect: 'gnu' });
        }),
      ),
    ],
    notes: 'long names around the sizes of one and two blocks',
    gnuTar: 'same',
  },
  {
    name: 'format/gnu-long-name-twice',
    layers: [
      archive(
        Buffer.concat([
          gnuLong('L', 'first'.repeat(30)),
          gnuLong('L', 'second'.repeat(30)),
          makeHeader({ name: 'short', size: 1, dialect: 'gnu' }),
          padded('x'),
        ]),
      ),
    ],
    notes: 'of two L headers the last counts',
    gnuTar: 'same',
  },
  {
    name: 'format/base256-size-and-ids',
    layers: [
      archive(
        file('f', patterned(1000), {
          patch(block) {
            block.fill(0, 108, 136);
            block[108] = 0x80;
            block.writeUInt32BE(3_000_000_000, 112);
            block[116] = 0x80;
            block.writeUInt32BE(4_000_000_000, 120);
            block[124] = 0x80;
            block.writeUInt32BE(1000, 132);
          },
        }),
        file('after', 'y'),
      ),
    ],
    notes: 'size, uid and gid in base-256 though octal would do for the size',
    gnuTar: 'same',
  },
  {
    name: 'format/numbers-with-spaces',
    layers: [
      archive(
        file('f', 'hello', {
          patch(block) {
            block.write('   644 \0', 100, 'latin1');
            block.write('    12 \0', 108, 'latin1');
            block.write('          5 ', 124, 'latin1');
          },
        }),
        file('after', 'y'),
      ),
    ],
    notes: 'fields filled with spaces, as BSD wrote them',
    gnuTar: 'same',
  },
  {
    name: 'format/numbers-without-end',
    layers: [
      archive(
        file('f', 'hello', {
          patch(block) {
            block.write('00000644', 100, 'latin1');
            block.write('000000000005', 124, 'latin1');
          },
        }),
        file('after', 'y'),
      ),
    ],
    notes: 'octal fields that end with their last digit',
    gnuTar: 'same',
  },
  {
    name: 'format/signed-checksum',
    layers: [archive(file('caf\xe9', 'x', { checksum: 'signed' }), file('after', 'y'))],
    notes: 'the checksum of signed chars that Sun tar wrote',
    gnuTar: 'same',
  },
  {
    name: 'format/contiguous-file',
    layers: [archive(member('7', 'f', 'hello'))],
    notes: 'typeflag 7 is a file',
    gnuTar: 'same',
  },
  {
    name: 'format/dumpdir',
    layers: [
      archive(
        member('D', 'd/', 'Yf\0\0', { dialect: 'gnu', mode: 0o755 }),
        file('d/f', 'x', { dialect: 'gnu' }),
      ),
    ],
    notes: 'D: a directory whose data is a list of names',
    gnuTar: 'same',
  },
  {
    name: 'format/volume-label',
    layers: [archive(member('V', 'label', '', { dialect: 'gnu' }), file('f', 'x', { dialect: 'gnu' }))],
    notes: 'V is left out with a finding',
    gnuTar: 'same',
  },
  {
    name: 'format/unknown-type',
    layers: [archive(member('Q', 'what', 'some data'), file('f', 'x'))],
    notes: 'left out with a finding',
    gnuTar: 'differs: it extracts unknown types as files',
  },
  {
    name: 'format/empty-name-directory',
    layers: [archive(dir('', { mode: 0o711, patch: (block) => void block.fill(0, 0, 100) }), file('f', 'x'))],
    notes: "a directory without a name is '.'",
    gnuTar: 'same',
  },
  {
    name: 'format/empty-name-file',
    layers: [archive(file('', 'lost'), file('f', 'x'))],
    notes: 'left out with a finding',
    gnuTar: 'differs: it complains, and touches the root',
  },
  {
    name: 'pax/local-everything',
    layers: [
      archive(
        Buffer.concat([
          paxHeader([
            ['path', `dir/${'p'.repeat(150)}`],
            ['size', '5'],
            ['uid', '70000'],
            ['gid', '2147483647'],
            ['mtime', '1600000000.123456789'],
            ['uname', 'nobody'],
            ['gname', 'nogroup'],
            ['atime', '1600000001.5'],
            ['ctime', '1600000002.5'],
            ['comment', 'ignored'],
            ['hdrcharset', 'ISO-IR 10646 2000 UTF-8'],
          ]),
          makeHeader({ name: 'other', size: 0, uid: 1, gid: 1 }),
          padded('hello'),
        ]),
        file('after', 'y'),
      ),
    ],
    notes: 'each standard record; the header block says otherwise',
    gnuTar: 'same',
  },
  {
    name: 'pax/last-value-wins',
    layers: [
      archive(
        file('wrong', 'x', {
          pax: [
            ['path', 'first'],
            ['path', 'second'],
          ],
        }),
      ),
    ],
    notes: 'two records with one keyword',
    gnuTar: 'same',
  },
  {
    name: 'pax/empty-value-deletes',
    layers: [
      archive(
        file('kept', 'x', {
          uid: 5,
          pax: [
            ['uid', '9'],
            ['uid', ''],
            ['mtime', '1.5'],
            ['mtime', ''],
          ],
        }),
      ),
    ],
    notes: 'an empty value brings the header block back',
    gnuTar: 'differs: it takes an empty number for a malformed one',
  },
  {
    name: 'pax/global',
    layers: [
      archive(
        paxHeader(
          [
            ['uid', '1234'],
            ['mtime', '1500000000.25'],
          ],
          'g',
        ),
        file('a', 'x'),
        file('b', 'y', { pax: [['uid', '5']] }),
      ),
    ],
    notes: 'global records hold for all entries; local ones win for one',
    gnuTar: 'same',
  },
  {
    name: 'pax/global-again',
    layers: [
      archive(
        paxHeader([['uid', '1234']], 'g'),
        file('a', 'x'),
        paxHeader([['mtime', '1400000000']], 'g'),
        file('b', 'y'),
        paxHeader([['uid', '']], 'g'),
        file('c', 'z'),
      ),
    ],
    notes: 'a second global header replaces what it names, no more; an empty value deletes',
    gnuTar: 'differs: it forgets all global records when another header comes',
  },
  {
    name: 'pax/global-comment',
    layers: [
      archive(
        paxHeader([['comment', '0123456789abcdef0123456789abcdef01234567']], 'g', { dialect: 'ustar' }),
        file('f', 'x'),
      ),
    ],
    notes: 'what git archive writes first',
    gnuTar: 'same',
  },
  {
    name: 'pax/size-not-for-long-name',
    layers: [
      archive(
        Buffer.concat([
          paxHeader([['size', '5']]),
          gnuLong('L', 'n'.repeat(120)),
          makeHeader({ name: 'n', size: 0, dialect: 'gnu' }),
          padded('hello'),
        ]),
        file('after', 'y'),
      ),
    ],
    notes: 'a PAX size is about the member, not about the extension in between',
    gnuTar: 'same',
  },
  {
    name: 'pax/sun-extended-header',
    layers: [
      archive(
        Buffer.concat([
          paxHeader([['path', 'from-x']], 'X'),
          makeHeader({ name: 'other', size: 1 }),
          padded('x'),
        ]),
      ),
    ],
    notes: "Sun's typeflag X is x",
    gnuTar: 'same',
  },
  {
    name: 'pax/nul-padding',
    layers: [
      archive(
        Buffer.concat([
          paxHeader(`13 path=name\n${'\0'.repeat(40)}`),
          makeHeader({ name: 'other', size: 1 }),
          padded('x'),
        ]),
      ),
    ],
    notes: 'NULs behind the last record count as its padding',
    gnuTar: 'same',
  },
  {
    name: 'pax/binary-path',
    layers: [archive(file('other', 'x', { pax: [['path', 'n\xff\xfe\x01\n=name']] }))],
    notes: 'newlines, equal signs and bytes that are no UTF-8 in a value',
    gnuTar: 'same',
  },
  {
    name: 'pax/unknown-keywords',
    layers: [
      archive(
        file('f', 'x', {
          pax: [
            ['SCHILY.fflags', 'nodump'],
            ['SCHILY.acl.access', 'user::rw-,group::r--,other::r--'],
            ['RHT.security.selinux', 'system_u:object_r:etc_t:s0'],
            ['VENDOR.thing', 'value'],
          ],
        }),
      ),
    ],
    notes: 'what the tree cannot hold, and container runtimes do not set, is reported by name',
    gnuTar: 'same',
  },
  {
    name: 'pax/many-times',
    layers: [
      archive(
        ...(
          [
            ['0', 'zero'],
            ['-1', 'before'],
            ['-1.5', 'before-half'],
            ['-0.25', 'before-quarter'],
            ['1.000000001', 'nano'],
            ['1.9999999999', 'beyond-nano'],
            ['-1.0000000001', 'negative-beyond-nano'],
            ['1700000000.', 'dot'],
            ['4294967296.5', 'beyond-32-bits'],
          ] as const
        ).map(([mtime, name]) => file(name, name, { pax: [['mtime', mtime]], mtime: DEFAULT_MTIME })),
      ),
    ],
    notes: 'fractions count forward from the second before; digits beyond nanoseconds are cut downwards',
    gnuTar: 'same',
  },
];
