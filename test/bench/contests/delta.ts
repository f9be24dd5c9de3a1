/** Deltas of a real pair of images, and of a large file of which one byte changed. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Contest, Contestant } from '../contest.ts';
import { CORPUS, corpusImages, oneByteImages, sizeOf, warm } from '../inputs.ts';
import { type BenchLab, run, runVeneer, veneer } from '../lab.ts';

/** bsdiff takes five minutes and 3.7 GB: it takes part, in one round, when it is asked for. */
const WITH_BSDIFF = process.env.VENEER_BENCH_BSDIFF === '1';
/** What it made of debian-v1 and debian-v2, bytes. */
const BSDIFF_BYTES = 3.9e6;

export function deltaContests(lab: BenchLab): Contest[] {
  return [createContest(lab), rebuildContest(lab), oneByteContest(lab)];
}

const STORE = 'delta-store';

/** Both images in a store, once. */
function pulled(lab: BenchLab): string {
  const root = lab.path(STORE);
  if (existsSync(root)) return root;
  lab.fresh(STORE);
  const pull = (name: string, layout: string): void =>
    runVeneer('pull', '--quiet', '--no-dedupe', '--root', root, `oci:${layout}`, '--name', name);
  for (const { name, layout } of corpusImages(['debian-v1', 'debian-v2'])) pull(name, layout);
  return root;
}

/** The command, between two images of a store. */
function createDelta(root: string, from: string, to: string, out: string, ...flags: string[]): string[] {
  return [
    'delta',
    'create',
    ...flags,
    '--root',
    root,
    '--from',
    from,
    '--to',
    to,
    '-o',
    `oci:${out}`,
    '--quiet',
  ];
}

const tarOf = (name: string): string => join(CORPUS, 'tars', name, '00.tar');

/** All blobs of the artifact: what is transferred. */
function layoutBytes(path: string): number {
  const blobs = join(path, 'blobs/sha256');
  return readdirSync(blobs).reduce((sum, name) => sum + statSync(join(blobs, name)).size, 0);
}

function createContest(lab: BenchLab): Contest {
  const [old, now] = [tarOf('debian-v1'), tarOf('debian-v2')];
  const ours = (key: string, ...flags: string[]): Contestant => ({
    key,
    title: `veneer delta create ${flags.join(' ')}`.trim(),
    argv: veneer(...createDelta(lab.path(STORE), 'debian-v1', 'debian-v2', lab.path('ours'), ...flags)),
    before: () => {
      pulled(lab);
      lab.remove('ours');
    },
    bytes: () => layoutBytes(lab.path('ours')),
    after: () => lab.remove('ours'),
  });
  const peer = (key: string, title: string, ...argv: string[]): Contestant => ({
    key,
    title,
    argv,
    before: () => warm([old, now]),
    bytes: () => sizeOf([lab.path('peer')]),
    after: () => lab.remove('peer'),
  });
  const out = lab.path('peer');
  const zstd = (level: number): Contestant => {
    const words = [`-${level}`, '--long=31', `--patch-from=${old}`, now, '-q', '-o', out];
    return peer(`zstd${level}`, `zstd -${level} --patch-from`, 'zstd', ...words);
  };
  return {
    name: 'delta',
    title: 'A delta from debian-v1 to debian-v2',
    notes: `veneer: from a store that has both, to an OCI artifact; "result" is all of that. The others: from tar to tar. bsdiff${WITH_BSDIFF ? '' : ', when it takes part (VENEER_BENCH_BSDIFF=1),'} makes ${(BSDIFF_BYTES / 1e6).toFixed(1)} MB.`,
    contestants: [
      ours('default'),
      ours('fast', '--fast'),
      ours('best', '--best'),
      peer('xdelta3', 'xdelta3 -3', 'xdelta3', '-3', '-B', String(512 << 20), '-e', '-s', old, now, out),
      zstd(3),
      zstd(9),
      { ...zstd(19), once: true },
      ...(WITH_BSDIFF ? [{ ...peer('bsdiff', 'bsdiff', 'bsdiff', old, now, out), once: true }] : []),
    ],
    targets: [
      { text: 'size', ours: 'default', peer: 'xdelta3', metric: 'bytes', factor: 0.6 },
      { text: 'time', ours: 'default', peer: 'xdelta3', metric: 'wall', factor: 1 },
      { text: 'peak memory', ours: 'default', metric: 'memory', plus: 512e6 },
      { text: '--fast: size', ours: 'fast', peer: 'zstd9', metric: 'bytes', factor: 1 },
      { text: '--fast: time', ours: 'fast', peer: 'zstd3', metric: 'wall', factor: 1.5 },
      { text: '--best: size', ours: 'best', metric: 'bytes', plus: 1.1 * BSDIFF_BYTES },
      { text: '--best: peak memory', ours: 'best', metric: 'memory', plus: 1e9 },
      ...(WITH_BSDIFF
        ? ([{ text: '--best: time', ours: 'best', peer: 'bsdiff', metric: 'wall', factor: 0.2 }] as const)
        : []),
    ],
  };
}

function rebuildContest(lab: BenchLab): Contest {
  const now = tarOf('debian-v2');
  const layout = lab.path('delta-layout');
  const packed = lab.path('whole.tar.zst');
  return {
    name: 'delta',
    title: 'debian-v2 made of debian-v1 and the delta',
    notes:
      'veneer: into the store, with every digest checked, the blocks that are new stored, and the metadata image made. zstd: the whole tar, packed at level 3.',
    contestants: [
      {
        key: 'ours',
        title: 'veneer delta apply',
        argv: veneer(
          ...[
            'delta',
            'apply',
            '--quiet',
            '--root',
            lab.path('apply-store'),
            '--name',
            'v2',
            `oci:${layout}`,
          ],
        ),
        before: () => {
          const root = pulled(lab);
          if (!existsSync(layout)) runVeneer(...createDelta(root, 'debian-v1', 'debian-v2', layout));
          const before = `oci:${join(CORPUS, 'oci/debian-v1')}`;
          lab.fresh('apply-store');
          runVeneer(
            'pull',
            '--quiet',
            '--no-fsync',
            '--root',
            lab.path('apply-store'),
            before,
            '--name',
            'v1',
          );
          warm([tarOf('debian-v1')]);
        },
        after: () => lab.remove('apply-store'),
      },
      {
        key: 'rebuild',
        title: 'veneer, the tar alone, hashed',
        argv: [
          process.execPath,
          join(import.meta.dirname, '../rebuild-tar.mjs'),
          layout,
          tarOf('debian-v1'),
          lab.path('peer'),
        ],
        after: () => lab.remove('peer'),
      },
      {
        key: 'zstd',
        title: 'zstd -dc of the whole tar',
        argv: ['zstd', '-d', '-q', packed, '-o', lab.path('peer')],
        before: () => {
          if (!existsSync(packed)) run(['zstd', '-3', '-q', now, '-o', packed]);
          warm([packed]);
        },
        after: () => lab.remove('peer'),
      },
    ],
    targets: [
      { text: 'time of the tar', ours: 'rebuild', peer: 'zstd', metric: 'wall', factor: 1.5, or: 1 },
      { text: 'time of the whole command', ours: 'ours', peer: 'zstd', metric: 'wall', factor: 1.5, or: 1 },
    ],
  };
}

function oneByteContest(lab: BenchLab): Contest {
  const images = oneByteImages(lab.directory);
  const tars = images.flatMap((image) => image.tars);
  const root = lab.path('one-byte-store');
  return {
    name: 'delta',
    title: 'A delta of an image of one file of 1 GiB with one byte changed',
    notes:
      'From a store that has both. "Result" is the whole artifact, the manifest and config of the image in it.',
    contestants: [
      {
        key: 'ours',
        title: 'veneer delta create',
        argv: veneer(...createDelta(root, 'one', 'two', lab.path('ours'))),
        before: () => {
          for (const { name, layout } of existsSync(root) ? [] : images)
            runVeneer('pull', '--quiet', '--no-dedupe', '--root', root, `oci:${layout}`, '--name', name);
          warm(tars);
          lab.remove('ours');
        },
        bytes: () => layoutBytes(lab.path('ours')),
        after: () => lab.remove('ours'),
      },
      {
        key: 'hash',
        title: 'sha256sum of both tars',
        argv: ['sha256sum', ...tars],
        before: () => warm(tars),
      },
    ],
    targets: [
      { text: 'time', ours: 'ours', peer: 'hash', metric: 'wall', factor: 2 },
      { text: 'size', ours: 'ours', metric: 'bytes', plus: 4096 },
    ],
    close: () => lab.remove('one-byte-store'),
  };
}
