/** Unpacking into a bundle: from a layout, from the store, by a hook. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Contest, Contestant } from '../contest.ts';
import { type BenchImage, warm } from '../inputs.ts';
import { type BenchLab, run, runVeneer, veneer } from '../lab.ts';
import { umociUnpack, untar } from '../peers.ts';
import { VERSION } from './start.ts';

export function unpackContests(lab: BenchLab): Contest[] {
  const [first] = lab.images;
  return [...lab.images.map((image) => unpackContest(lab, image)), storedContest(lab, first!)];
}

function unpackContest(lab: BenchLab, image: BenchImage): Contest {
  const out = lab.path('out');
  const bundle = join(out, 'bundle');
  const contestant = (key: string, title: string, argv: string[]): Contestant => ({
    key,
    title,
    argv,
    before: () => {
      lab.fresh('out');
      warm(image.blobs);
    },
    after: () => lab.remove('out'),
  });
  return {
    name: 'unpack',
    title: `A gzip layout unpacked into a bundle: ${image.name}`,
    notes: 'veneer and umoci check all digests and note the digest of every file; tar does neither.',
    contestants: [
      contestant('ours', 'veneer image unpack --storage plain', [
        ...veneer('image', 'unpack', '--storage', 'plain', '--image', image.layout, bundle),
      ]),
      contestant('umoci', 'umoci unpack', umociUnpack(image, bundle)),
      contestant('tar', 'tar -xzf, a folder a layer', untar(image, out)),
    ],
    targets: [
      { text: 'veneer vs umoci', ours: 'ours', peer: 'umoci', metric: 'wall', factor: 0.4 },
      { text: 'veneer vs tar', ours: 'ours', peer: 'tar', metric: 'wall', factor: 1.1 },
    ],
  };
}

/** From what is there already: the store, or what a hook has kept. */
function storedContest(lab: BenchLab, image: BenchImage): Contest {
  const root = lab.path('unpack-store');
  const cache = lab.path('unpack-cache');
  const hooks = lab.path('hooks.toml');
  const bundle = lab.path('unpack-bundle');
  const source = ['--image', image.layout, '--root', root];
  const throughHook = ['image', 'unpack', ...source, '--hooks', hooks, bundle];
  // Mounts of hooks are not veneer's to list.
  const takeDown = (): void => {
    run(['umount', join(bundle, 'rootfs')]);
    lab.remove('unpack-bundle');
  };
  let stored = false;
  const store = (): void => {
    if (stored) return;
    stored = true;
    for (const name of ['unpack-store', 'unpack-cache', 'unpack-bundle']) lab.remove(name);
    runVeneer('pull', `oci:${image.layout}:latest`, '--name', image.name, '--root', root, '--quiet');
    const options = `options = { cache = ${JSON.stringify(cache)} }`;
    writeFileSync(hooks, `[[hook]]\ndriver = "overlay"\n${options}\n`, { mode: 0o600 });
    runVeneer(...throughHook);
    takeDown();
  };
  return {
    name: 'unpack',
    title: `A bundle of what is stored already: ${image.name}`,
    notes: 'Whole processes; the image is mounted in the bundle at the end.',
    contestants: [
      VERSION,
      {
        key: 'overlay',
        title: 'veneer image unpack --storage overlay',
        argv: veneer('image', 'unpack', '--storage', 'overlay', '--hooks', 'none', ...source, bundle),
        before: store,
        after: () => {
          runVeneer('umount', join(bundle, 'rootfs'), '--root', root, '--quiet');
          lab.remove('unpack-bundle');
        },
      },
      {
        key: 'hook',
        title: 'veneer image unpack, a hook has all layers (driver overlay)',
        argv: veneer(...throughHook),
        before: store,
        after: takeDown,
      },
    ],
    targets: [
      { text: '--storage overlay', ours: 'overlay', metric: 'wall', plus: 0.2 },
      { text: 'a hook with all layers', ours: 'hook', metric: 'wall', plus: 0.2 },
    ],
    close: () => {
      for (const name of ['unpack-store', 'unpack-cache', 'hooks.toml']) lab.remove(name);
    },
  };
}
