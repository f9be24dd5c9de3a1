/** Starting, and mounting what is stored. */
import type { Contest, Contestant } from '../contest.ts';
import { madeUpImage } from '../inputs.ts';
import { type BenchLab, runVeneer, veneer } from '../lab.ts';

/** What a start alone takes. */
export const VERSION: Contestant = { key: 'version', title: 'veneer --version', argv: veneer('--version') };

export function startContests(): Contest[] {
  return [
    {
      name: 'start',
      title: 'Process start',
      contestants: [VERSION, { key: 'node', title: 'node -e 0', argv: [process.execPath, '-e', '0'] }],
      targets: [{ text: '--version vs node -e 0', ours: 'version', peer: 'node', metric: 'wall', factor: 2 }],
    },
  ];
}

export function mountContests(lab: BenchLab): Contest[] {
  const root = lab.path('mount-store');
  const images = [...lab.images, madeUpImage('many-layers', lab.directory)];
  const at = lab.path('mnt');
  let stored = false;
  const before = (): void => {
    if (!stored) {
      stored = true;
      lab.fresh('mount-store');
      for (const image of images) {
        runVeneer(
          'pull',
          `oci:${image.layout}:latest`,
          '--name',
          image.name,
          '--root',
          root,
          '--quiet',
          '--no-fsync',
        );
      }
    }
    lab.fresh('mnt');
  };
  return [
    {
      name: 'mount',
      title: 'Mount of a stored image',
      notes: 'Beyond process start: the time above that of `veneer --version`.',
      contestants: [
        VERSION,
        ...images.map((image) => ({
          key: image.name,
          title: `veneer mount ${image.name} (${image.blobs.length} layers)`,
          argv: veneer('mount', image.name, at, '--root', root, '--quiet'),
          before,
          after: () => runVeneer('umount', at, '--root', root, '--quiet'),
        })),
      ],
      targets: images.map((image) => ({
        text: `${image.name}, beyond process start`,
        ours: image.name,
        peer: 'version',
        metric: 'wall' as const,
        plus: 0.04,
      })),
      close: () => lab.remove('mount-store'),
    },
  ];
}
