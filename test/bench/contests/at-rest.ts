/** What a new version of an image costs beside the old one: time of the pull, and bytes that the store grows by. */
import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Contest, Contestant, Target } from '../contest.ts';
import { type BenchImage, corpusImages, oneByteImages, sizeOf } from '../inputs.ts';
import { type BenchLab, runVeneer, veneer } from '../lab.ts';

/** Literal data of the delta from debian-v1 to debian-v2, as `veneer delta inspect` tells it. */
const LITERAL_BYTES = 2.0e6;

/** Bytes of all files, holes not counted. */
function diskBytes(path: string): number {
  const facts = lstatSync(path);
  if (!facts.isDirectory()) return facts.blocks * 512;
  return readdirSync(path).reduce((sum, name) => sum + diskBytes(join(path, name)), 0);
}

export function atRestContests(lab: BenchLab): Contest[] {
  const [before, after] = corpusImages(['debian-v1', 'debian-v2']) as [BenchImage, BenchImage];
  const tarBytes = sizeOf(after.tars);
  return [
    contest(
      lab,
      before,
      after,
      'At rest: debian-v2 beside debian-v1, 42 of 243 packages updated',
      `The tar has ${(tarBytes / 1e6).toFixed(1)} MB. The second target is out of reach of whatever shares blocks: 83.0 MB of the blocks of 512 bytes stand nowhere in the old tar, though the delta has only ${(LITERAL_BYTES / 1e6).toFixed(1)} MB of literal data (decision 0086).`,
      [
        { text: 'stored, against the full layer', factor: 0.25 },
        { text: 'stored, beside literal data of the delta + 1 %', plus: LITERAL_BYTES + tarBytes / 100 },
      ],
    ),
    contest(
      lab,
      ...(oneByteImages(lab.directory) as [BenchImage, BenchImage]),
      'At rest: one file of 1 GiB, of which one byte changed',
      '',
      [{ text: 'stored', plus: 3 << 20 }],
    ),
  ];
}

/** `limits`: with a factor against the full layer. */
function contest(
  lab: BenchLab,
  before: BenchImage,
  after: BenchImage,
  title: string,
  notes: string,
  limits: readonly Pick<Target, 'text' | 'factor' | 'plus'>[],
): Contest {
  let base = 0;
  const pull = (key: string, what: string, flag: string): Contestant => {
    const name = `rest-${key}`;
    const root = lab.path(name);
    const words = ({ layout }: BenchImage): string[] => [
      'pull',
      `oci:${layout}:latest`,
      '--root',
      root,
      '--quiet',
      '--no-fsync',
    ];
    return {
      key,
      title: what,
      argv: veneer(...words(after), flag),
      before: () => {
        lab.fresh(name);
        runVeneer(...words(before), '--no-dedupe');
        base = diskBytes(root);
      },
      bytes: () => diskBytes(root) - base,
      after: () => lab.remove(name),
    };
  };
  return {
    name: 'rest',
    title,
    notes: `"Result" is what the store grows by: layer, merged image, records, and the index of the old layer, which is made then. ${notes}`,
    contestants: [
      pull('dedupe', 'veneer pull --dedupe', '--dedupe'),
      pull('full', 'veneer pull', '--no-dedupe'),
    ],
    targets: limits.map((limit) => ({
      ours: 'dedupe',
      metric: 'bytes',
      ...(limit.factor === undefined ? {} : { peer: 'full' }),
      ...limit,
    })),
  };
}
