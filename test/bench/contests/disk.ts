/** Virtual disks of stored images, and their hash trees beside veritysetup's. */
import { readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Contest, Contestant, Target } from '../contest.ts';
import { madeUpImage, warm } from '../inputs.ts';
import { type BenchLab, runVeneer, veneer } from '../lab.ts';

const VERSION: Contestant = { key: 'version', title: 'veneer --version', argv: veneer('--version') };

/** A store with these images, made when first asked for. */
function storeOf(
  lab: BenchLab,
  name: string,
  images: readonly { name: string; layout: string }[],
): () => string {
  const root = lab.path(name);
  let made = false;
  return () => {
    if (!made) {
      made = true;
      lab.fresh(name);
      for (const image of images)
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
    return root;
  };
}

export function diskContests(lab: BenchLab): Contest[] {
  const images = [...lab.images, madeUpImage('many-layers', lab.directory)];
  const store = storeOf(lab, 'disk-store', images);
  const output = lab.path('disk.vmdk');
  return [
    {
      name: 'disk',
      title: 'VMDK of a stored image',
      notes: 'Beyond process start: the time above that of `veneer --version`.',
      contestants: [
        VERSION,
        ...images.map((image) => ({
          key: image.name,
          title: `veneer disk ${image.name} (${image.blobs.length} layers)`,
          argv: veneer('disk', '-o', output, image.name, '--root', lab.path('disk-store'), '--quiet'),
          before: () => void store(),
          after: () => rmSync(output),
        })),
      ],
      targets: images.map((image) => ({
        text: `${image.name}, beyond process start`,
        ours: image.name,
        peer: 'version',
        metric: 'wall' as const,
        plus: 0.05,
      })),
      close: () => lab.remove('disk-store'),
    },
  ];
}

const SALT = '00'.repeat(32);

/** The hash tree over an image of one large file: as the store has it (512-byte blocks), and self-contained (4096). */
export function verityContests(lab: BenchLab): Contest[] {
  const image = madeUpImage('big-file', lab.directory);
  const store = storeOf(lab, 'verity-store', [image]);
  const vmdk = lab.path('verity.vmdk');
  const tree = lab.path('verity.tree');
  const clean = (): void => {
    for (const path of [vmdk, `${vmdk}.extra`, tree]) rmSync(path, { force: true });
  };
  const contest = (blockSize: 512 | 4096): Contest => {
    const raw = lab.path(`verity-${blockSize}.raw`);
    const layer = lab.path('verity-layer.erofs');
    const fsmeta = lab.path('verity-fsmeta.erofs');
    const source =
      blockSize === 512
        ? [image.name, '--root', lab.path('verity-store'), '--no-fsync']
        : [fsmeta, '--device', layer];
    let made = false;
    const before = (): void => {
      const root = store();
      if (!made) {
        made = true;
        if (blockSize === 4096) {
          const [tar] = readdirSync(join(root, 'layers')).map((hex) =>
            join(root, 'layers', hex, 'layer.tar'),
          );
          runVeneer('convert', tar!, '-f', '-o', layer, '--quiet');
          runVeneer('merge', layer, '-f', '-o', fsmeta, '--quiet');
        }
        runVeneer('disk', '-f', '-o', raw, ...source, '--quiet');
      }
      rmSync(join(root, 'verity/disk'), { recursive: true, force: true });
      clean();
      warm([raw]);
    };
    const size = (): number => statSync(raw).size;
    const targets: Target[] = [
      { text: 'time', ours: 'ours', peer: 'veritysetup', metric: 'wall', factor: 1 },
    ];
    return {
      name: 'verity',
      title: `Hash tree over a disk of 2 GB, data blocks of ${blockSize} bytes`,
      notes: 'Both hash on one core. veneer writes a VMDK as well; veritysetup reads a raw copy of the disk.',
      contestants: [
        {
          key: 'ours',
          title: 'veneer disk --verity',
          argv: veneer('disk', '--verity', '-o', vmdk, ...source, '--quiet'),
          before,
          bytes: size,
        },
        {
          key: 'veritysetup',
          title: 'veritysetup format',
          argv: [
            'veritysetup',
            'format',
            raw,
            tree,
            `--data-block-size=${blockSize}`,
            '--hash-block-size=4096',
            `--salt=${SALT}`,
          ],
          before,
          bytes: size,
        },
      ],
      targets,
      close: () => {
        clean();
        for (const path of [raw, layer, fsmeta]) rmSync(path, { force: true });
        if (blockSize === 4096) lab.remove('verity-store');
      },
    };
  };
  return [contest(512), contest(4096)];
}
