/** `veneer layers` */
import { formatBytes, formatCount } from '../../progress/units.ts';
import type { LayerUse } from '../../store/layers.ts';
import { shortDigest } from '../../store/layout.ts';
import { asText, defineCommand, type NoFlags } from '../command.ts';
import { remnantNote } from '../remnant-note.ts';
import { alignColumns } from '../table.ts';
import { withStore } from '../with-store.ts';

export default defineCommand<NoFlags, [image?: string]>({
  name: 'layers',
  brief: 'List the layers in the store, or of one image',
  usage: ['layers [IMAGE]'],
  description: `A layer is named by its diffID, the digest of its uncompressed tar. Layers that images share are stored once.
STORED is what the layer's own files take: less than its tar when it shares data with others (pull --dedupe).
With IMAGE: only its layers, bottom first. What gc --compact kept of layers that are gone is told below; with --json as
objects with "remnant", a digest, in place of "diffId".`,
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
    const { listRemnants } = await import('../../store/remnants.ts');
    return withStore(context, flags, async (store) => {
      const all = listLayers(store, { onFinding: (finding) => context.out.findings([finding]) });
      const wanted =
        image === undefined ? null : resolveImage(store, image).layers.map((layer) => layer.diffId);
      const byId = new Map(all.map((layer) => [layer.diffId, layer]));
      const layers = wanted === null ? all : wanted.flatMap((diffId) => byId.get(diffId) ?? []);
      const remnants = image === undefined ? listRemnants(store) : [];
      if (context.out.json) {
        for (const one of [...layers, ...remnants]) context.out.result(one, () => '');
      } else if (layers.length === 0) {
        context.out.note(`the store ${store.layout.root} has no layers`);
      } else {
        const rows = layers.map((layer) => [
          shortDigest(layer.diffId),
          String(layer.entries),
          formatBytes(layer.tarSize),
          formatBytes(layer.storedBytes),
          formatBytes(layer.image.size),
          layer.images.join(', ') || withoutImage(layer),
        ]);
        context.out.result({}, () =>
          alignColumns([['DIFFID', 'ENTRIES', 'TAR', 'STORED', 'METADATA', 'IMAGES'], ...rows], [1, 2, 3, 4]),
        );
        const note = remnantNote(remnants);
        if (note !== null) context.out.note(note);
      }
      return undefined;
    });
  },
});

function withoutImage({ sharedBy }: LayerUse): string {
  return sharedBy.length === 0
    ? '(no image; gc removes it)'
    : `(no image; shared by ${formatCount(sharedBy.length, 'layer')})`;
}
