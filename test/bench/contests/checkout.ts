/** An image put together in a directory, and brought up to date there; the peer copies a mounted one. */
import type { Contest, Contestant } from '../contest.ts';
import { type BenchImage, corpusImages } from '../inputs.ts';
import { type BenchLab, runVeneer, veneer } from '../lab.ts';

const NAMES = ['debian-v1', 'debian-v2'] as const;

export function checkoutContests(lab: BenchLab): Contest[] {
  const images = corpusImages(NAMES);
  const root = lab.path('checkout-store');
  const mount = lab.path('checkout-mount');
  const out = lab.path('checkout');
  let ready = false;
  const prepare = (): void => {
    if (!ready) prepareStore(lab, root, mount, images);
    ready = true;
    lab.remove('checkout');
  };
  const words = (...more: string[]): string[] => [
    'checkout',
    '--root',
    root,
    '--quiet',
    '--no-fsync',
    ...more,
  ];
  const ours = (key: string, title: string, argv: string[], before?: () => void): Contestant => ({
    key,
    title,
    argv: veneer(...argv),
    before: () => {
      prepare();
      before?.();
    },
    after: () => lab.remove('checkout'),
  });
  const [v1, v2] = NAMES;
  return [
    {
      name: 'checkout',
      title: 'An image in a directory: debian-v2',
      notes:
        'veneer reads the layers of its store, cp the same image mounted by veneer; neither waits for the disk. The file system has no reflinks. "Links are there": an earlier checkout has made the shared files.',
      contestants: [
        ours('fresh', 'veneer checkout', words(v2, out)),
        ours('link', 'veneer checkout --link, links are there', words('--link', v2, out), () => {
          runVeneer(...words('--link', v2, lab.path('checkout-other')));
          lab.remove('checkout-other');
        }),
        ours('update', 'veneer checkout --update, from debian-v1', words('--update', v2, out), () =>
          runVeneer(...words(v1, out)),
        ),
        {
          key: 'cp',
          title: 'cp -a',
          argv: ['cp', '-a', mount, out],
          before: prepare,
          after: () => lab.remove('checkout'),
        },
      ],
      targets: [
        { text: 'fresh, vs cp -a', ours: 'fresh', peer: 'cp', metric: 'wall', factor: 1 },
        { text: '--link, vs cp -a', ours: 'link', peer: 'cp', metric: 'wall', factor: 1 },
        { text: '--update, vs cp -a', ours: 'update', peer: 'cp', metric: 'wall', factor: 1 },
      ],
      close: () => {
        if (ready) runVeneer('umount', mount, '--root', root, '--quiet');
        ready = false;
        for (const name of ['checkout-store', 'checkout-mount']) lab.remove(name);
      },
    },
  ];
}

/** Both images, the newer one mounted. */
function prepareStore(lab: BenchLab, root: string, mount: string, images: readonly BenchImage[]): void {
  lab.fresh('checkout-store');
  lab.fresh('checkout-mount');
  for (const { name, layout } of images)
    runVeneer('pull', '--quiet', '--no-dedupe', '--root', root, `oci:${layout}`, '--name', name);
  runVeneer('mount', images.at(-1)!.name, mount, '--root', root, '--quiet');
}
