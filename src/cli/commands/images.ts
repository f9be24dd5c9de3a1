/** `veneer images` */

import { formatBytes, formatTime } from '../../progress/units.ts';
import { shortDigest } from '../../store/layout.ts';
import { defineCommand } from '../command.ts';
import { alignColumns } from '../table.ts';
import { withStore } from '../with-store.ts';

export default defineCommand<{ readonly names: boolean }, []>({
  name: 'images',
  brief: 'List the images in the store',
  usage: ['images [--names]'],
  examples: [
    ['images', 'names, digests, platforms, layers, sizes'],
    ['images --names', 'names only, one a line'],
    ['images --json', 'one JSON object an image'],
  ],
  parameters: {
    flags: { names: { kind: 'boolean', brief: 'Print names only', withNegated: false, default: false } },
    positional: { kind: 'tuple', parameters: [] },
  },
  async run(context, flags) {
    const { listImages } = await import('../../store/images.ts');
    return withStore(context, flags, async (store) => {
      const images = listImages(store, { onFinding: (finding) => context.out.findings([finding]) });
      if (context.out.json) {
        for (const image of images) context.out.result(image, () => '');
      } else if (flags.names) {
        context.out.result({}, () => images.map(({ name }) => name));
      } else if (images.length === 0) {
        context.out.note(`the store ${store.layout.root} has no images`);
      } else {
        const rows = images.map((image) => [
          image.name,
          shortDigest(image.manifest.digest),
          image.platform,
          String(image.layers.length),
          formatBytes(image.layers.reduce((sum, layer) => sum + layer.blob.size, 0)),
          formatTime(Date.parse(image.pulledAt) / 1000),
        ]);
        context.out.result({}, () =>
          alignColumns([['NAME', 'DIGEST', 'PLATFORM', 'LAYERS', 'BLOBS', 'PULLED'], ...rows], [3, 4]),
        );
      }
      return undefined;
    });
  },
});
