/** Using the mounted image: all files read, all names walked, cold and warm. */
import type { Contest, Contestant } from '../contest.ts';
import type { BenchImage } from '../inputs.ts';
import { type BenchLab, run, runVeneer } from '../lab.ts';
import { layerImage, mergedImage, mkfsLayers, mkfsMerge } from '../peers.ts';

interface Mounted {
  readonly key: string;
  readonly title: string;
  readonly at: string;
}

/** The same image three ways, each mounted file-backed without loop devices. */
async function mountAll(lab: BenchLab, image: BenchImage): Promise<void> {
  const root = lab.path('read-store');
  lab.fresh('read-store');
  lab.fresh('read-ours');
  runVeneer('pull', `oci:${image.layout}:latest`, '--name', 'read', '--root', root, '--quiet', '--no-fsync');
  runVeneer('mount', 'read', lab.path('read-ours'), '--root', root, '--quiet');
  for (const [key, mode] of [
    ['full', ['--tar=f', '-Enoinline_data']],
    ['index', ['--tar=i']],
  ] as const) {
    const out = lab.fresh(`read-${key}-images`);
    for (const command of mkfsLayers(image.tars, out, ...mode)) run(command);
    run(mkfsMerge(image.tars.length, out));
    const devices = key === 'index' ? image.tars : image.tars.map((_, i) => layerImage(out, i));
    const at = lab.fresh(`read-${key}`);
    await lab.mounts.mountErofsAt(at, mergedImage(out), devices);
  }
}

async function unmountAll(lab: BenchLab): Promise<void> {
  await lab.mounts.release();
  runVeneer('umount', lab.path('read-ours'), '--root', lab.path('read-store'), '--quiet');
  for (const name of ['ours', 'store', 'full', 'index', 'full-images', 'index-images'])
    lab.remove(`read-${name}`);
}

const WAYS = [
  {
    what: 'find + stat walk',
    argv: (at: string) => ['find', at, '-printf', '%m %U %G %s %T@ %n %l'],
  },
  {
    what: 'all files read',
    argv: (at: string) => ['sh', '-c', `find ${at} -type f -print0 | xargs -0 -n 512 cat`],
  },
];

export function readContests(lab: BenchLab): Contest[] {
  return lab.images.flatMap((image) => {
    const mounted: Mounted[] = [
      { key: 'ours', title: 'veneer', at: lab.path('read-ours') },
      { key: 'full', title: 'mkfs.erofs --tar=f + merge', at: lab.path('read-full') },
      { key: 'index', title: 'mkfs.erofs --tar=i + merge', at: lab.path('read-index') },
    ];
    let ready = false;
    return WAYS.flatMap(({ what, argv }, way) =>
      [true, false].map((cold, i): Contest => {
        const last = way === WAYS.length - 1 && i === 1;
        const contestants: Contestant[] = mounted.map(({ key, title, at }) => ({
          key,
          title,
          argv: argv(at),
          cold,
          before: async () => {
            if (ready) return;
            ready = true;
            await mountAll(lab, image);
            for (const other of mounted) run(argv(other.at));
          },
        }));
        return {
          name: 'read',
          title: `Mounted image, ${what}, ${cold ? 'cold' : 'warm'}: ${image.name}`,
          notes: cold ? 'Page, dentry and inode caches are dropped before each run.' : '',
          contestants,
          targets: [
            { text: 'vs mkfs.erofs --tar=f', ours: 'ours', peer: 'full', metric: 'wall', factor: 1 },
            { text: 'vs mkfs.erofs --tar=i', ours: 'ours', peer: 'index', metric: 'wall', factor: 1 },
          ],
          ...(last ? { close: () => unmountAll(lab) } : {}),
        };
      }),
    );
  });
}
