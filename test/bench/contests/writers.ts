/** The writers alone, on uncompressed tars: metadata images, the merge, self-contained images. */
import { copyFileSync, linkSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Contest } from '../contest.ts';
import { type BenchImage, sizeOf, warm } from '../inputs.ts';
import { type BenchLab, run, runVeneer, veneer } from '../lab.ts';
import { layerImage, mergedImage, mkfsLayers, mkfsMerge, shell } from '../peers.ts';

/** The tars under names of their own in the working folder, so that results beside them are ours to remove. */
function placeTars(image: BenchImage, folder: string): string[] {
  return image.tars.map((tar) => {
    const copy = join(folder, basename(tar));
    try {
      linkSync(tar, copy);
    } catch {
      copyFileSync(tar, copy); // another file system
    }
    return copy;
  });
}

const numbered = (out: string, count: number): string[] =>
  Array.from({ length: count }, (_, i) => layerImage(out, i));
/** What `veneer index TAR` writes, beside it. */
const indexOf = (tar: string): string => `${tar}.erofs`;

export function indexContests(lab: BenchLab): Contest[] {
  return lab.images.map((image) => {
    const count = image.tars.length;
    const tars = image.tars.map((tar) => lab.path(`ours/${basename(tar)}`));
    return {
      name: 'index',
      title: `Metadata images of all uncompressed layer tars: ${image.name}`,
      notes: 'veneer: one process for all. mkfs.erofs: one process a tar, as it takes only one.',
      contestants: [
        {
          key: 'ours',
          title: 'veneer index',
          argv: veneer('index', ...tars, '--quiet'),
          before: () => {
            placeTars(image, lab.fresh('ours'));
            warm(image.tars);
          },
          bytes: () => sizeOf(tars.map(indexOf)),
          after: () => lab.remove('ours'),
        },
        {
          key: 'mkfs',
          title: 'mkfs.erofs --tar=i',
          argv: shell(...mkfsLayers(image.tars, lab.path('peer'), '--tar=i')),
          before: () => {
            lab.fresh('peer');
            warm(image.tars);
          },
          bytes: () => sizeOf(numbered(lab.path('peer'), count)),
          after: () => lab.remove('peer'),
        },
      ],
      targets: [
        { text: 'time', ours: 'ours', peer: 'mkfs', metric: 'wall', factor: 1 },
        { text: 'size', ours: 'ours', peer: 'mkfs', metric: 'bytes', factor: 1 },
        { text: 'peak memory', ours: 'ours', metric: 'memory', plus: 300e6 },
      ],
    };
  });
}

export function mergeContests(lab: BenchLab): Contest[] {
  return lab.images.map((image) => {
    const count = image.tars.length;
    const tars = image.tars.map((tar) => lab.path(`ours/${basename(tar)}`));
    const fsmeta = lab.path('ours/merged.erofs');
    let placed = false;
    return {
      name: 'merge',
      title: `Merge of the metadata images to one: ${image.name}`,
      notes: 'Each merges the metadata images that it made itself, over the raw tars.',
      contestants: [
        {
          key: 'ours',
          title: 'veneer merge',
          argv: veneer('merge', ...tars.map(indexOf), '-o', fsmeta, '--quiet'),
          before: () => {
            if (placed) return;
            placed = true;
            placeTars(image, lab.fresh('ours'));
            runVeneer('index', ...tars, '--quiet');
          },
          bytes: () => sizeOf([fsmeta]),
          after: () => lab.remove('ours/merged.erofs'),
        },
        {
          key: 'mkfs',
          title: 'mkfs.erofs, rebuild',
          argv: mkfsMerge(count, lab.path('peer-merged'), lab.path('peer')),
          before: () => {
            lab.fresh('peer-merged');
            lab.fresh('peer');
            for (const command of mkfsLayers(image.tars, lab.path('peer'), '--tar=i')) run(command);
          },
          bytes: () => sizeOf([mergedImage(lab.path('peer-merged'))]),
          after: () => {
            lab.remove('peer-merged');
            lab.remove('peer');
          },
        },
      ],
      targets: [
        { text: 'time', ours: 'ours', peer: 'mkfs', metric: 'wall', factor: 1 },
        { text: 'size', ours: 'ours', peer: 'mkfs', metric: 'bytes', factor: 1 },
        { text: 'peak memory', ours: 'ours', metric: 'memory', plus: 300e6 },
      ],
      close: () => lab.remove('ours'),
    };
  });
}

export function convertContests(lab: BenchLab): Contest[] {
  return lab.images.map((image) => {
    const count = image.tars.length;
    const results = image.tars.map((tar) => lab.path(`ours/${basename(tar)}.erofs`));
    return {
      name: 'convert',
      title: `Self-contained images of all uncompressed layer tars: ${image.name}`,
      notes: 'veneer: one process for all. mkfs.erofs: one process a tar.',
      contestants: [
        {
          key: 'ours',
          title: 'veneer convert',
          argv: veneer('convert', ...image.tars, '-o', lab.path('ours'), '--quiet'),
          before: () => {
            lab.fresh('ours');
            warm(image.tars);
          },
          bytes: () => sizeOf(results),
          after: () => lab.remove('ours'),
        },
        {
          key: 'mkfs',
          title: 'mkfs.erofs --tar=f -Enoinline_data',
          argv: shell(...mkfsLayers(image.tars, lab.path('peer'), '--tar=f', '-Enoinline_data')),
          before: () => {
            lab.fresh('peer');
            warm(image.tars);
          },
          bytes: () => sizeOf(numbered(lab.path('peer'), count)),
          after: () => lab.remove('peer'),
        },
      ],
      targets: [
        { text: 'time', ours: 'ours', peer: 'mkfs', metric: 'wall', factor: 0.8 },
        { text: 'size', ours: 'ours', peer: 'mkfs', metric: 'bytes', factor: 1 },
        { text: 'peak memory', ours: 'ours', metric: 'memory', plus: 300e6 },
      ],
    };
  });
}
