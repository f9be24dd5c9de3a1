/** Archives that must be refused: each names the code, and a part of the message that says why. */
import {
  archive,
  BLOCK,
  device,
  dir,
  END,
  file,
  gnuLong,
  hardLink,
  makeHeader,
  member,
  padded,
  paxHeader,
  paxRecord,
  putNumber,
  sparseFile,
  symlink,
} from '../tar-builder.ts';

export interface BrokenTar {
  readonly name: string;
  readonly bytes: Buffer;
  readonly code: 'tar/corrupt' | 'tar/truncated' | 'tar/limit';
  readonly message: RegExp;
}

const corrupt = (name: string, bytes: Buffer, message: RegExp): BrokenTar => ({
  name,
  bytes,
  code: 'tar/corrupt',
  message,
});
const truncated = (name: string, bytes: Buffer, message: RegExp): BrokenTar => ({
  name,
  bytes,
  code: 'tar/truncated',
  message,
});
const tooMuch = (name: string, bytes: Buffer, message: RegExp): BrokenTar => ({
  name,
  bytes,
  code: 'tar/limit',
  message,
});

/** A file whose header block gets `text` into the field at `at`. */
const withField = (at: number, text: string, data = ''): Buffer =>
  archive(file('f', data, { patch: (block) => void block.write(text, at, 'latin1') }));
const withNumber = (at: number, width: number, value: number | bigint): Buffer =>
  archive(file('f', '', { patch: (block) => putNumber(block, at, width, value) }));
const withPax = (...records: (readonly [string, string])[]): Buffer =>
  archive(file('f', 'x', { pax: records }));
const withRawPax = (body: string): Buffer =>
  archive(Buffer.concat([paxHeader(body), makeHeader({ name: 'f' })]));
const sparse10 = (text: string, size: number, records: readonly (readonly [string, string])[] = []): Buffer =>
  archive(
    file('f', padded(text), {
      pax: [
        ['GNU.sparse.major', '1'],
        ['GNU.sparse.minor', '0'],
        ['GNU.sparse.realsize', String(size)],
        ...records,
      ],
    }),
  );
const oldSparse = (...pairs: (readonly [number, number])[]): Buffer =>
  archive(
    member('S', 'f', 'x'.repeat(100), {
      dialect: 'gnu',
      patch(block) {
        for (const [i, [offset, length]] of pairs.entries()) {
          putNumber(block, 386 + i * 24, 12, offset);
          putNumber(block, 398 + i * 24, 12, length);
        }
        putNumber(block, 483, 12, 1000);
      },
    }),
  );

const ONE = file('d/f', 'hello');

export const brokenTars: readonly BrokenTar[] = [
  corrupt('checksum', archive(file('f', 'x', { checksum: 'wrong' })), /checksum is wrong, at offset 0$/),
  corrupt('checksum of the second', archive(ONE, file('f', 'x', { checksum: 'wrong' })), /at offset 1024$/),
  corrupt('no tar at all', Buffer.from('not a tar archive '.repeat(100)), /checksum is wrong/),
  corrupt('data where a header should be', Buffer.concat([ONE, padded('data'), END]), /at offset 1024$/),

  corrupt('size is text', withField(124, 'eleven bytes'), /'f'.*size field is not a number, at offset 0$/),
  corrupt('size with a digit too high', withField(124, '00000000019\0'), /size field is not a number/),
  corrupt('size is negative', withNumber(124, 12, -1), /size field is too small/),
  corrupt('size is beyond 2^53', withNumber(124, 12, 2n ** 53n), /size field is too large/),
  corrupt('size ends beyond 2^53', withNumber(124, 12, 2n ** 53n - 1n), /end beyond any file/),
  corrupt('size of all ones', withNumber(124, 12, 2n ** 93n), /size field is too large/),
  corrupt('mode is text', withField(100, 'rwxr-xr-'), /mode field is not a number/),
  corrupt('mode is negative', withNumber(100, 8, -2), /mode field is too small/),
  corrupt('uid is negative', withNumber(108, 8, -2), /uid field is too small/),
  corrupt('uid is beyond 32 bits', withNumber(108, 8, 2 ** 32), /owner 4294967296:0 is beyond 32 bits/),
  corrupt('gid is beyond 32 bits', withNumber(116, 8, 2 ** 40), /beyond 32 bits/),
  corrupt('uid is text', withField(108, 'nobody\0\0'), /uid field is not a number/),
  corrupt('mtime is text', withField(136, 'yesterday at'), /mtime field is not a number/),
  corrupt('mtime is beyond 2^53', withNumber(136, 12, 2n ** 60n), /mtime field is too large/),
  corrupt('mtime is before -2^53', withNumber(136, 12, -(2n ** 60n)), /mtime field is too small/),
  corrupt('device major', archive(device('c', 'char', 4096, 0)), /device 4096:0 is beyond/),
  corrupt('device minor', archive(device('c', 'char', 0, 2 ** 20)), /device 0:1048576 is beyond/),
  corrupt('symlink to nothing', archive(symlink('s', '')), /'s'.*link to nothing/),
  corrupt('hard link to nothing', archive(hardLink('h', '')), /'h'.*link to nothing/),

  corrupt(
    'PAX record without a length',
    withRawPax('path=x\n'),
    /'PaxHeaders\/member'.*has no length, at offset 512$/,
  ),
  corrupt('PAX record without a space', withRawPax('11path=abc\n'), /has no length/),
  corrupt('PAX record with a tab', withRawPax('11\tpath=ab\n'), /has no length/),
  corrupt('PAX record longer than the header', withRawPax('99 path=x\n'), /longer than the header/),
  corrupt(
    'PAX record of endless length',
    withRawPax(`${'9'.repeat(400)} path=x\n`),
    /longer than the header/,
  ),
  corrupt('PAX record shorter than itself', withRawPax('2 path=x\n'), /shorter than its own length/),
  corrupt('PAX record of no length', withRawPax('0 path=x\n'), /shorter than its own length/),
  corrupt('PAX record without a newline', withRawPax('10 path=xy'), /does not end in a newline/),
  corrupt('PAX record without an equal sign', withRawPax('9 pathxy\n'), /has no equal sign/),
  corrupt('PAX record without a keyword', withRawPax('6 =xy\n'), /has no keyword/),
  corrupt('PAX second record', withRawPax(`${paxRecord('path', 'x')}junk`), /has no length, at offset 521$/),
  corrupt('PAX data behind NULs', withRawPax(`${paxRecord('path', 'x')}\0\0junk`), /behind the last record/),
  corrupt('PAX path with NUL', withPax(['path', 'a\0b']), /'path' holds a NUL/),
  corrupt(
    'PAX linkpath with NUL',
    archive(symlink('s', 't', { pax: [['linkpath', 'a\0']] })),
    /'linkpath' holds a NUL/,
  ),
  corrupt('PAX size is text', withPax(['size', '0x10']), /'size' is not a number/),
  corrupt('PAX size is negative', withPax(['size', '-1']), /'size' is not a number/),
  corrupt('PAX size is beyond 2^53', withPax(['size', '9007199254740992']), /'size' is not a number/),
  corrupt('PAX size ends beyond 2^53', withPax(['size', '9007199254740991']), /end beyond any file/),
  corrupt('PAX uid is beyond 32 bits', withPax(['uid', '4294967296']), /beyond 32 bits/),
  corrupt('PAX uid is negative', withPax(['uid', '-1']), /'uid' is not a number/),
  corrupt('PAX time is text', withPax(['mtime', 'now']), /'mtime' is not a time/),
  corrupt('PAX time with an exponent', withPax(['mtime', '1e9']), /'mtime' is not a time/),
  corrupt('PAX time of a dot', withPax(['mtime', '.5']), /'mtime' is not a time/),
  corrupt('PAX time of a minus', withPax(['mtime', '-']), /'mtime' is not a time/),
  corrupt('PAX time with two dots', withPax(['mtime', '1.2.3']), /'mtime' is not a time/),
  corrupt('PAX time beyond 2^53', withPax(['mtime', '99999999999999999999']), /'mtime' is not a time/),
  corrupt(
    'attribute without a name',
    withPax(['SCHILY.xattr.', 'v']),
    /name of an extended attribute is none/,
  ),
  corrupt(
    'attribute with NUL in its name',
    withPax(['SCHILY.xattr.user.a\0b', 'v']),
    /name of an extended attribute/,
  ),
  corrupt(
    'PAX path and another GNU name',
    archive(Buffer.concat([paxHeader([['path', 'a']]), gnuLong('L', 'b'), makeHeader({ name: 'c' })])),
    /'a'.*two different names/,
  ),
  corrupt(
    'PAX linkpath and another GNU link',
    archive(
      Buffer.concat([
        paxHeader([['linkpath', 'a']]),
        gnuLong('K', 'b'),
        makeHeader({ name: 'c', type: '2' }),
      ]),
    ),
    /two different link targets/,
  ),
  corrupt(
    'global header behind a local one',
    archive(
      Buffer.concat([paxHeader([['uid', '1']]), paxHeader([['uid', '2']], 'g'), makeHeader({ name: 'f' })]),
    ),
    /stands between/,
  ),
  corrupt(
    'global sparse map',
    archive(paxHeader([['GNU.sparse.major', '1']], 'g'), ONE),
    /cannot hold for all/,
  ),
  corrupt(
    'extension with a size of text',
    archive(makeHeader({ name: 'x', type: 'x', patch: (b) => void b.write('many', 124, 'latin1') })),
    /size field is not a size/,
  ),
  corrupt(
    'extension with a negative size',
    archive(makeHeader({ name: 'x', type: 'L', patch: (b) => putNumber(b, 124, 12, -5) })),
    /size field is not a size/,
  ),

  corrupt('sparse with ustar magic', archive(member('S', 'f', 'x')), /dialect that is not known/),
  corrupt('sparse overlaps', oldSparse([0, 60], [50, 40]), /overlaps itself or goes backwards/),
  corrupt('sparse overlaps by one', oldSparse([0, 60], [59, 40]), /overlaps itself or goes backwards/),
  corrupt('sparse runs name more than is stored', oldSparse([0, 60], [100, 41]), /more data than is stored/),
  corrupt('sparse goes backwards', oldSparse([500, 10], [0, 90]), /overlaps itself or goes backwards/),
  corrupt('sparse run beyond the file', oldSparse([950, 100]), /beyond the end of the file/),
  corrupt('sparse offset beyond the file', oldSparse([1001, 1]), /beyond the end of the file/),
  corrupt('sparse names more than is stored', oldSparse([0, 101]), /more data than is stored/),
  corrupt('sparse with a negative offset', oldSparse([-5, 10]), /what is not a position/),
  corrupt('sparse offset beyond 2^53', oldSparse([2 ** 60, 10]), /what is not a position/),
  corrupt(
    'sparse with half a descriptor',
    archive(
      member('S', 'f', '', {
        dialect: 'gnu',
        patch(block) {
          putNumber(block, 386, 12, 5);
          putNumber(block, 483, 12, 1000);
        },
      }),
    ),
    /half a run/,
  ),
  corrupt(
    'sparse map that ends and goes on',
    archive(
      member('S', 'f', '', {
        dialect: 'gnu',
        patch(block) {
          block[482] = 1;
          putNumber(block, 483, 12, 1000);
        },
      }),
    ),
    /ends, and goes on/,
  ),
  corrupt(
    'sparse real size is negative',
    archive(member('S', 'f', '', { dialect: 'gnu', patch: (b) => putNumber(b, 483, 12, -1) })),
    /real size is not a size/,
  ),
  corrupt('sparse records without a size', withPax(['GNU.sparse.map', '0,1']), /no real size/),
  corrupt(
    'sparse map of an odd number',
    withPax(['GNU.sparse.size', '9'], ['GNU.sparse.map', '0,1,2']),
    /half a run/,
  ),
  corrupt(
    'sparse map of text',
    withPax(['GNU.sparse.size', '9'], ['GNU.sparse.map', '0,x']),
    /makes no sense/,
  ),
  corrupt(
    'sparse map ends in a comma',
    withPax(['GNU.sparse.size', '9'], ['GNU.sparse.map', '0,1,']),
    /makes no sense/,
  ),
  corrupt(
    'sparse map has another number of runs',
    withPax(['GNU.sparse.size', '9'], ['GNU.sparse.numblocks', '2'], ['GNU.sparse.map', '0,1']),
    /another number of runs/,
  ),
  corrupt(
    'sparse offset twice',
    withPax(['GNU.sparse.size', '9'], ['GNU.sparse.offset', '0'], ['GNU.sparse.offset', '1']),
    /makes no sense/,
  ),
  corrupt(
    'sparse offset without a length',
    withPax(['GNU.sparse.size', '9'], ['GNU.sparse.offset', '0']),
    /half a run/,
  ),
  corrupt(
    'sparse map and runs',
    withPax(['GNU.sparse.size', '9'], ['GNU.sparse.map', '0,1'], ['GNU.sparse.offset', '3']),
    /makes no sense/,
  ),
  corrupt(
    'sparse runs and map',
    withPax(['GNU.sparse.offset', '3'], ['GNU.sparse.numbytes', '1'], ['GNU.sparse.map', '0,1']),
    /makes no sense/,
  ),
  corrupt('sparse length first', withPax(['GNU.sparse.numbytes', '9']), /makes no sense/),
  corrupt(
    'sparse version 2.0',
    withPax(['GNU.sparse.major', '2'], ['GNU.sparse.minor', '0'], ['GNU.sparse.realsize', '5']),
    /format 2\.0 is not known/,
  ),
  corrupt('sparse name with NUL', withPax(['GNU.sparse.name', 'a\0b']), /holds a NUL/),
  corrupt(
    'sparse directory',
    archive(dir('d', { pax: [['GNU.sparse.size', '5']] })),
    /sparse records and is of another type/,
  ),
  corrupt(
    'sparse twice',
    archive(
      member('S', 'f', '', {
        dialect: 'gnu',
        pax: [['GNU.sparse.size', '5']],
        patch: (b) => putNumber(b, 483, 12, 5),
      }),
    ),
    /sparse records and is of another type/,
  ),
  corrupt('sparse 1.0 map of text', sparse10('1\nzero\n5\nhello', 10), /map makes no sense/),
  corrupt('sparse 1.0 map with an empty line', sparse10('1\n\n5\nhello', 10), /map makes no sense/),
  corrupt('sparse 1.0 map with NULs', sparse10('2\n0\n1\n', 10), /map makes no sense/),
  corrupt(
    'sparse 1.0 map with a long number',
    sparse10(`1\n${'0'.repeat(21)}\n1\n`, 10),
    /map makes no sense/,
  ),
  corrupt(
    'sparse 1.0 map with a number beyond 2^53',
    sparse10('1\n9007199254740993\n1\n', 10),
    /map makes no sense/,
  ),
  corrupt(
    'sparse 1.0 map without data',
    archive(
      file('f', '', {
        pax: [
          ['GNU.sparse.major', '1'],
          ['GNU.sparse.minor', '0'],
          ['GNU.sparse.realsize', '9'],
        ],
      }),
      file('1\n'),
    ),
    /longer than its data/,
  ),
  corrupt(
    'sparse 1.0 map longer than its data',
    sparse10('200\n'.padEnd(512, '0\n'), 10),
    /longer than its data/,
  ),
  corrupt(
    'sparse 1.0 with a second map',
    sparse10('0\n', 10, [['GNU.sparse.map', '0,1']]),
    /two sparse maps/,
  ),
  corrupt('sparse 1.0 run beyond the file', sparse10('1\n8\n5\n', 10), /beyond the end of the file/),

  truncated('in a header', ONE.subarray(0, 300), /ends in a header block, at offset 300$/),
  truncated('in data', ONE.subarray(0, BLOCK + 3), /'d\/f'.*in the data of an entry, at offset 515$/),
  truncated('in padding', ONE.subarray(0, BLOCK + 5), /in the data of an entry/),
  truncated('behind a header', ONE.subarray(0, BLOCK), /in the data of an entry/),
  truncated('in a PAX header', withPax(['path', 'x'.repeat(400)]).subarray(0, 700), /in an extension header/),
  truncated('behind a PAX header', paxHeader([['path', 'x']]), /behind an extension header/),
  truncated('in the padding of a PAX header', paxHeader([['path', 'x']]).subarray(0, 1000), /ends in/),
  truncated('in a long name', gnuLong('L', 'x'.repeat(600)).subarray(0, 1100), /in an extension header/),
  truncated(
    'in a sparse extension',
    sparseFile(
      'f',
      90_000,
      Array.from({ length: 9 }, (_, i) => ({ offset: i * 10_000, data: 'x' })),
      'old-gnu',
    ).subarray(0, 900),
    /in the data of an entry/,
  ),
  truncated(
    'in a sparse map',
    sparseFile('f', 90_000, [{ offset: 5, data: 'x' }], '1.0').subarray(0, 1800),
    /in the data of an entry/,
  ),
  truncated('in half a block of zeros', Buffer.concat([ONE, Buffer.alloc(100)]), /in a header block/),

  tooMuch('PAX header', archive(paxHeader([['comment', 'x'.repeat(1 << 20)]]), ONE), /it has 1048\d+ bytes/),
  tooMuch('long name', archive(gnuLong('L', 'x'.repeat(40_000)), ONE), /it has 40001 bytes/),
  tooMuch('long name within the slack', archive(gnuLong('L', 'x'.repeat(33_000)), ONE), /it has 33000 bytes/),
  tooMuch(
    'size field of an extension',
    archive(makeHeader({ name: 'x', type: 'x', size: 2 ** 40 })),
    /it has 1099511627776 bytes/,
  ),
  tooMuch('PAX path', withPax(['path', 'x'.repeat(32_769)]), /'path' is 32769 bytes long/),
  tooMuch(
    'sparse name',
    sparse10('0\n', 10, [['GNU.sparse.name', 'x'.repeat(32_769)]]),
    /name has 32769 bytes/,
  ),
  tooMuch('symlink target', archive(symlink('s', 't'.repeat(4096))), /target has 4096 bytes/),
  tooMuch('name of an attribute', withPax([`SCHILY.xattr.${'n'.repeat(256)}`, 'v']), /256 bytes long/),
  tooMuch('value of an attribute', withPax(['SCHILY.xattr.user.a', 'v'.repeat(65_537)]), /65537 bytes/),
  tooMuch(
    'number of attributes',
    withPax(...Array.from({ length: 1025 }, (_, i) => [`SCHILY.xattr.user.${i}`, ''] as const)),
    /1025 extended attributes/,
  ),
  tooMuch(
    'number of global attributes',
    archive(
      paxHeader(
        Array.from({ length: 17 }, (_, i) => [`SCHILY.xattr.user.${i}`, ''] as const),
        'g',
      ),
      ONE,
    ),
    /more than 16 global/,
  ),
  tooMuch('runs of a sparse map', sparse10('1000001\n', 10), /more than 1000000 runs/),
];
