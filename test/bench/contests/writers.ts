/** The writers alone, on uncompressed tars: metadata images, the merge, self-contained images. */
import { basename, join } from 'node:path';
import type { Contest } from '../contest.ts';
import { type BenchImage, sizeOf, warm } from '../inputs.ts';
import { type BenchLab, run, runVeneer, veneer } from '../lab.ts';
import { layerImage, mergedImage, mkfsLayers, mkfsMerge, shell } from '../peers.ts';

const numbered = (out: string, count: number): string[] =>
  Array.from({ length: count }, (_, i) => layerImage(out, i));
/** What veneer makes of the tars when it writes into a folder. */
const resultsIn = (folder: string, image: BenchImage): string[] =>
  image.tars.map((tar) => join(folder, `${basename(tar)}.erofs`));

export function indexContests(lab: BenchLab): Contest[] {
  return lab.images.map((image) => {
    const count = image.tars.length;
    const results = resultsIn(lab.path('ours'), image);
    return {
      name: 'index',
      title: `Metadata images of all uncompressed layer tars: ${image.name}`,
      notes: 'veneer: one process for all. mkfs.erofs: one process a tar, as it takes only one.',
      contestants: [
        {
          key: 'ours',
          title: 'veneer index',
          argv: veneer('index', '-o', lab.path('ours'), ...image.tars, '--quiet'),
          before: () => {
            lab.fresh('ours');
            warm(image.tars);
          },
          bytes: () => sizeOf(results),
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
    const results = resultsIn(lab.path('ours'), image);
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
          argv: veneer('merge', '-o', fsmeta, ...results, '--quiet'),
          before: () => {
            if (placed) return;
            placed = true;
            runVeneer('index', '-o', lab.fresh('ours'), ...image.tars, '--quiet');
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
    const results = resultsIn(lab.path('ours'), image);
    return {
      name: 'convert',
      title: `Self-contained images of all uncompressed layer tars: ${image.name}`,
      notes: 'veneer: one process for all. mkfs.erofs: one process a tar.',
      contestants: [
        {
          key: 'ours',
          title: 'veneer convert',
          argv: veneer('convert', '-o', lab.path('ours'), ...image.tars, '--quiet'),
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
