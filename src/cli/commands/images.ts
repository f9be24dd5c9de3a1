/** `veneer images` */

import { formatBytes, formatTime } from '../../progress/units.ts';
import type { LayerUse } from '../../store/layers.ts';
import { shortDigest } from '../../store/layout.ts';
import type { ImageRecord } from '../../store/records.ts';
import { defineCommand } from '../command.ts';
import { remnantNote } from '../remnant-note.ts';
import { alignColumns } from '../table.ts';
import { withStore } from '../with-store.ts';

export default defineCommand<{ readonly names: boolean }, []>({
  name: 'images',
  brief: 'List the images in the store',
  usage: ['images [--names]'],
  description: `BLOBS is what the layers were as they came, TARS what they are unpacked, STORED what their own files take here: less
than their tars for layers that share data with others (pull --dedupe). What gc --compact kept of layers that are gone is
told below; with --json "remnantBytes" is what an image needs of that.`,
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
    const { listLayers } = await import('../../store/layers.ts');
    const { listRemnants } = await import('../../store/remnants.ts');
    return withStore(context, flags, async (store) => {
      const images = listImages(store, { onFinding: (finding) => context.out.findings([finding]) });
      const layers = new Map(flags.names ? [] : listLayers(store).map((layer) => [layer.diffId, layer]));
      /** Of each layer once. */
      const sum = (image: ImageRecord, bytes: (layer: LayerUse) => number): number =>
        [...new Set(image.layers.map(({ diffId }) => layers.get(diffId)))].reduce(
          (total, layer) => total + (layer === undefined ? 0 : bytes(layer)),
          0,
        );
      const remnants = listRemnants(store);
      /** Of layers that are gone. */
      const needed = (image: ImageRecord): number => {
        const sources = image.layers.flatMap(({ diffId }) => layers.get(diffId)?.deduped?.sources ?? []);
        const digests = new Set(sources.map((source) => source.digest ?? source.diffId));
        return remnants.reduce(
          (total, { remnant, storedBytes }) => total + (digests.has(remnant) ? storedBytes : 0),
          0,
        );
      };
      if (context.out.json) {
        for (const image of images) {
          const tarBytes = sum(image, (layer) => layer.tarSize);
          const storedBytes = sum(image, (layer) => layer.storedBytes);
          context.out.result({ ...image, tarBytes, storedBytes, remnantBytes: needed(image) }, () => '');
        }
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
          formatBytes(sum(image, (layer) => layer.tarSize)),
          formatBytes(sum(image, (layer) => layer.storedBytes)),
          formatTime(Date.parse(image.pulledAt) / 1000),
        ]);
        context.out.result({}, () =>
          alignColumns(
            [['NAME', 'DIGEST', 'PLATFORM', 'LAYERS', 'BLOBS', 'TARS', 'STORED', 'PULLED'], ...rows],
            [3, 4, 5, 6],
          ),
        );
        const note = remnantNote(remnants);
        if (note !== null) context.out.note(note);
      }
      return undefined;
    });
  },
});
