/** The UDF trailer of an image's largest layer beside its EROFS metadata image. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Contest } from '../contest.ts';
import { type BenchImage, sizeOf, warm } from '../inputs.ts';
import { type BenchLab, veneer } from '../lab.ts';

/** Bytes of trailer an entry may cost. */
const BYTES_AN_ENTRY = 700;

const largestOf = ({ tars }: BenchImage): string =>
  tars.reduce((a, b) => (statSync(a).size >= statSync(b).size ? a : b));

function countEntries(tar: string): number {
  const listed = execFileSync('tar', ['--quoting-style=escape', '-tf', tar], { maxBuffer: 1 << 30 });
  return listed.toString('latin1').split('\n').length - 1;
}

export function udfContests(lab: BenchLab): Contest[] {
  return lab.images.map((image) => {
    const tar = largestOf(image);
    const copy = join(lab.path('udf'), 'layer.tar');
    const erofs = join(lab.path('peer'), 'layer.erofs');
    return {
      name: 'udf',
      title: `UDF trailer of the largest layer: ${image.name}`,
      notes:
        'Both hash the tar: the trailer always names it by its digest. The trailer is appended to a copy in place, durably.',
      contestants: [
        {
          key: 'udf',
          title: 'veneer index --format udf',
          argv: veneer('index', '--format', 'udf', copy, '--quiet'),
          before: () => {
            lab.fresh('udf');
            copyFileSync(tar, copy);
            warm([copy]);
          },
          bytes: () => sizeOf([copy]) - sizeOf([tar]),
          after: () => lab.remove('udf'),
        },
        {
          key: 'erofs',
          title: 'veneer index --digest',
          argv: veneer('index', '--digest', '-o', erofs, tar, '--quiet'),
          before: () => {
            lab.fresh('peer');
            warm([tar]);
          },
          bytes: () => sizeOf([erofs]),
          after: () => lab.remove('peer'),
        },
      ],
      targets: [
        { text: 'time', ours: 'udf', peer: 'erofs', metric: 'wall', factor: 1.2 },
        { text: 'size', ours: 'udf', metric: 'bytes', plus: BYTES_AN_ENTRY * countEntries(tar) },
        { text: 'peak memory', ours: 'udf', metric: 'memory', plus: 300e6 },
      ],
    };
  });
}
