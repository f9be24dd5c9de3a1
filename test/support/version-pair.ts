/** Two versions of one image, alike in many ways: for tests of sharing between layers. */
import { createHash } from 'node:crypto';
import { noise } from './image-builder.ts';
import { archive, dir, END, file, hardLink, sparseFile, symlink } from './tar-builder.ts';

export interface VersionPair {
  readonly before: Buffer;
  readonly after: Buffer;
}

const digestOf = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

/**
 * `after` has files of `before` unchanged, touched, moved, renamed, with changed, inserted and appended bytes, cut
 * short, full of zeros, twice, sparse, linked; and files of its own.
 */
export function versionPair(seed = 1): VersionPair {
  const part = (size: number, number: number): Buffer => noise(size, seed * 1000 + number);
  const small = Array.from({ length: 60 }, (_, i) => part(40 + i * 97, i + 1));
  const large = part(700_000, 100);
  const binary = part(300_000, 101);
  const log = part(90_000, 102);
  const zeros = Buffer.concat([part(5000, 103), Buffer.alloc(400_000), part(5000, 104)]);
  const changed = Buffer.from(large);
  changed[350_001]! ^= 1;
  const run = (offset: number, data: Buffer): { offset: number; data: Buffer } => ({ offset, data });
  const before = archive(
    dir('lib'),
    file('lib/large', large),
    ...small.map((bytes, i) => file(`lib/small-${i}`, bytes, { mtime: 1000 + i })),
    file('lib/binary', binary),
    hardLink('lib/binary-link', 'lib/binary'),
    file('log', log),
    file('zeros', zeros),
    symlink('link', 'lib/large'),
    sparseFile(
      'sparse',
      600_000,
      [run(8192, log.subarray(0, 65_536)), run(500_000, log.subarray(0, 512))],
      '0.1',
    ),
    END,
  );
  const after = archive(
    dir('lib', { mtime: 5 }),
    file('new', part(80_000, 200)),
    file('lib/large', changed),
    ...small.map((bytes, i) =>
      file(i % 7 === 0 ? `lib/renamed-${digestOf(bytes).slice(0, 8)}` : `lib/small-${i}`, bytes, {
        mtime: i % 3 === 0 ? 9 : 1000 + i,
      }),
    ),
    file(
      'moved/binary',
      Buffer.concat([binary.subarray(0, 100_000), part(777, 201), binary.subarray(100_000)]),
    ),
    file('log', Buffer.concat([log, part(30_000, 202)])),
    file('cut', large.subarray(0, 123_456)),
    file('zeros', Buffer.concat([zeros, part(100, 203)])),
    file('twice-1', part(60_000, 204)),
    file('twice-2', part(60_000, 204)),
    hardLink('lib/linked', 'lib/large'),
    sparseFile('sparse', 600_000, [run(8192, log.subarray(0, 65_536)), run(400_000, part(512, 205))], '0.1'),
    file('empty', ''),
    file('only-zeros', Buffer.alloc(200_000)),
    END,
  );
  return { before, after };
}
