/** The UDF trailer of an image's largest layer beside its EROFS metadata image; large directories in a guest. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bufferSource } from '../../../src/bytes/io.ts';
import { findTrailer, mountOptions } from '../../../src/udf/index.ts';
import { archive, dir, file } from '../../support/tar-builder.ts';
import type { Contest, Contestant } from '../contest.ts';
import { type BenchImage, PROJECT, sizeOf, warm } from '../inputs.ts';
import { type BenchLab, run, runVeneer, veneer } from '../lab.ts';

/** Bytes of trailer an entry may cost. */
const BYTES_AN_ENTRY = 700;

const largestOf = ({ tars }: BenchImage): string =>
  tars.reduce((a, b) => (statSync(a).size >= statSync(b).size ? a : b));

function countEntries(tar: string): number {
  const listed = execFileSync('tar', ['--quoting-style=escape', '-tf', tar], { maxBuffer: 1 << 30 });
  return listed.toString('latin1').split('\n').length - 1;
}

export function udfContests(lab: BenchLab): Contest[] {
  return [...trailerContests(lab), lookupContest(lab)];
}

const KERNEL = 'bookworm';

/** Names that are looked up, evenly spread over the directory. */
const LOOKUPS = 200;

/** Look-ups in one directory in a guest that has just mounted it. */
function lookupContest(lab: BenchLab): Contest {
  const vm = (script: string): string => join(PROJECT, 'test/vm', script);
  const prepare = (names: number): string => {
    const folder = lab.fresh(`names-${names}`);
    const tar = join(folder, 'udf.tar');
    const members = Array.from({ length: names }, (_, i) => file(`d/package-${i}.js`, `${i}`));
    writeFileSync(tar, archive(dir('d/'), ...members));
    runVeneer('index', tar, '-o', join(folder, 'erofs'), '--quiet');
    copyFileSync(tar, join(folder, 'plain.tar'));
    runVeneer('index', '--format', 'udf', tar, '--quiet');
    return folder;
  };
  const look = (
    key: string,
    title: string,
    disks: readonly string[],
    { names, mount, before }: { names: number; mount: () => string; before: () => void },
  ): Contestant => {
    const argv = [vm('run.sh'), '--kernel', KERNEL, '--timeout', '900'];
    for (const disk of disks) argv.push('--disk', `${disk}:ro`);
    const script = join(lab.path('names'), `${key}.sh`);
    argv.push('--script', script);
    return {
      key,
      title,
      argv,
      before: () => {
        before();
        const some = `/mnt/d/package-{0..${names - 1}..${names / LOOKUPS}}.js`;
        const lines = ['set -e', mount(), 'TIMEFORMAT=%R', `time stat ${some} >/dev/null`];
        writeFileSync(script, lines.join('\n'));
      },
      seconds: (output) => Number(output.trim()),
      memoryElsewhere: true,
    };
  };
  const sizes = [20_000, 5_000, 1_000];
  const contestants = sizes.flatMap((names) => {
    const folder = lab.path(`names-${names}`);
    let ready = false;
    const before = (): void => {
      if (ready) return;
      ready = true;
      if (names === sizes[0]) {
        run([vm('setup.sh'), KERNEL]);
        lab.fresh('names');
      }
      prepare(names);
    };
    const tar = join(folder, 'udf.tar');
    const options = (): string => mountOptions(findTrailer(bufferSource(readFileSync(tar)))!).join(',');
    const count = names.toLocaleString('en');
    return [
      look(`udf-${names}`, `UDF trailer, ${count} names`, [tar], {
        names,
        before,
        mount: () => `mount -t udf -o ro,${options()} "$DISK0" /mnt`,
      }),
      look(
        `erofs-${names}`,
        `EROFS metadata image, ${count} names`,
        [join(folder, 'erofs'), join(folder, 'plain.tar')],
        { names, before, mount: () => 'mount -t erofs -o ro,device="$DISK1" "$DISK0" /mnt' },
      ),
    ];
  });
  return {
    name: 'udf',
    title: `${LOOKUPS} look-ups in one large directory, just mounted`,
    notes:
      'Inside a guest with Linux 6.1 (test/vm), emulated where there is no KVM: the seconds are what the guest says of `stat` alone, the processor time is that of the whole machine with its boot. UDF looks each name up by reading the directory from its start.',
    contestants,
    targets: [],
    close: () => {
      for (const folder of ['names', ...sizes.map((names) => `names-${names}`)]) lab.remove(folder);
    },
  };
}

function trailerContests(lab: BenchLab): Contest[] {
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
