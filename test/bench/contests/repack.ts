/** Making a layer of a few changed files in a large bundle. */
import { cpSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Contest } from '../contest.ts';
import { type BenchImage, madeUpImage } from '../inputs.ts';
import { type BenchLab, run, runVeneer, veneer } from '../lab.ts';
import { UMOCI } from '../peers.ts';

/** How many files change between unpacking and repacking. */
const CHANGED = 10;

export function repackContests(lab: BenchLab): Contest[] {
  return [...lab.images, madeUpImage('much-data', lab.directory)].map((image) => repackContest(lab, image));
}

function repackContest(lab: BenchLab, image: BenchImage): Contest {
  const layout = lab.path('repack-layout');
  const root = lab.path('repack-store');
  const bundles = {
    ours: lab.path('repack-ours'),
    overlay: lab.path('repack-overlay'),
    umoci: lab.path('repack-umoci'),
  };
  const clear = (): void => {
    for (const name of ['layout', 'store', ...Object.keys(bundles)]) lab.remove(`repack-${name}`);
  };
  let mounted = false;
  let made = false;
  const before = (): void => {
    if (made) return;
    made = true;
    clear();
    cpSync(image.layout, layout, { recursive: true });
    runVeneer('pull', `oci:${layout}:latest`, '--name', image.name, '--root', root, '--quiet', '--no-fsync');
    const unpack = ['image', 'unpack', '--hooks', 'none', '--root', root, '--image', layout];
    runVeneer(...unpack, '--storage', 'plain', bundles.ours);
    runVeneer(...unpack, '--storage', 'overlay', bundles.overlay);
    mounted = true;
    run([UMOCI, 'unpack', '--image', layout, bundles.umoci]);
    for (const bundle of Object.values(bundles)) changeFiles(join(bundle, 'rootfs'));
  };
  const ours = (key: 'ours' | 'overlay', title: string) => {
    const flags = ['--hooks', 'none', '--root', root, '--image', `${layout}:${key}`];
    return { key, title, argv: veneer('image', 'repack', ...flags, bundles[key]), before };
  };
  return {
    name: 'repack',
    title: `A layer of ${CHANGED} changed files: ${image.name}`,
    notes: 'Each of its own bundle. The files have other data.',
    contestants: [
      ours('ours', 'veneer image repack'),
      ours('overlay', 'veneer image repack, --storage overlay'),
      {
        key: 'umoci',
        title: 'umoci repack',
        argv: [UMOCI, 'repack', '--image', `${layout}:umoci`, bundles.umoci],
        before,
      },
    ],
    targets: [
      { text: 'veneer vs umoci', ours: 'ours', peer: 'umoci', metric: 'wall', factor: 0.25 },
      { text: '--storage overlay', ours: 'overlay', metric: 'wall', plus: 0.5 },
    ],
    close: () => {
      if (mounted) runVeneer('umount', join(bundles.overlay, 'rootfs'), '--root', root, '--quiet');
      mounted = false;
      clear();
    },
  };
}

function changeFiles(rootfs: string): void {
  const files = readdirSync(rootfs, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  const step = Math.max(1, Math.floor(files.length / CHANGED));
  for (let i = 0; i < CHANGED; i++) writeFileSync(files[(i * step) % files.length]!, `changed ${i}`);
}
