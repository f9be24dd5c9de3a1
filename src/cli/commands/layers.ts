/** `veneer layers` */
import { formatBytes } from '../../progress/units.ts';
import { shortDigest } from '../../store/layout.ts';
import { asText, defineCommand, type NoFlags } from '../command.ts';
import { alignColumns } from '../table.ts';
import { withStore } from '../with-store.ts';

export default defineCommand<NoFlags, [image?: string]>({
  name: 'layers',
  brief: 'List the layers in the store, or of one image',
  usage: ['layers [IMAGE]'],
  description: `A layer is named by its diffID, the digest of its uncompressed tar. Layers that images share are stored once.
With IMAGE: only its layers, bottom first.`,
  examples: [
    ['layers', 'every layer, with the images that use it'],
    ['layers debian:12', 'the layers of one image, bottom first'],
    ['layers --json', 'with full digests'],
  ],
  parameters: {
    positional: {
      kind: 'tuple',
      parameters: [{ brief: 'An image', placeholder: 'IMAGE', parse: asText, optional: true }],
    },
  },
  completes: ['image'],
  async run(context, flags, image) {
    const { listLayers } = await import('../../store/layers.ts');
    const { resolveImage } = await import('../../store/images.ts');
    return withStore(context, flags, async (store) => {
      const all = listLayers(store, { onFinding: (finding) => context.out.findings([finding]) });
      const wanted =
        image === undefined ? null : resolveImage(store, image).layers.map((layer) => layer.diffId);
      const byId = new Map(all.map((layer) => [layer.diffId, layer]));
      const layers = wanted === null ? all : wanted.flatMap((diffId) => byId.get(diffId) ?? []);
      if (context.out.json) {
        for (const layer of layers) context.out.result(layer, () => '');
      } else if (layers.length === 0) {
        context.out.note(`the store ${store.layout.root} has no layers`);
      } else {
        const rows = layers.map((layer) => [
          shortDigest(layer.diffId),
          String(layer.entries),
          formatBytes(layer.tarSize),
          formatBytes(layer.image.size),
          layer.images.join(', ') || '(no image; gc removes it)',
        ]);
        context.out.result({}, () =>
          alignColumns([['DIFFID', 'ENTRIES', 'TAR', 'METADATA', 'IMAGES'], ...rows], [1, 2, 3]),
        );
      }
      return undefined;
    });
  },
});
