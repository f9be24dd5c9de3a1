/** `veneer image stat` */
import type { ImageStat } from '../../../bundle/stat-image.ts';
import { defineImageCommand, IMAGE_FLAG, imageOf, ROOT_FLAG } from '../../image/define.ts';
import { usageError } from '../../parse.ts';
import { withStore } from '../../with-store.ts';

export default defineImageCommand<{ readonly image?: string; readonly store?: string }>({
  name: 'image stat',
  brief: 'Show what a layout, or the store, says of an image',
  usage: ['image stat --image DIR[:TAG] [--json]', 'image stat --store IMAGE [--json]'],
  description:
    'For programs there is --json: one object with the manifest, the config, and a history that names layers.',
  examples: [
    ['image stat --image images:mine', 'manifest, config and history'],
    ['image stat --image images:mine --json', 'with both documents as they are'],
    ['image stat --store debian:12', 'of an image in the store'],
  ],
  flags: {
    ...IMAGE_FLAG,
    store: { brief: 'An image in the store instead', placeholder: 'IMAGE' },
    ...ROOT_FLAG,
  },
  async run(context, flags) {
    const { out } = context;
    const { statDocuments, statImage, statJson } = await import('../../../bundle/stat-image.ts');
    const { store: name } = flags;
    if (name !== undefined && flags.image !== undefined)
      throw usageError('image stat', '--image and --store do not go together');
    const image = name === undefined ? await ofLayout() : await ofStore(name);
    async function ofLayout(): Promise<ImageStat> {
      const { dir, tag } = imageOf('image stat', flags);
      const { openLayoutFolder } = await import('../../../bundle/layout-folder.ts');
      return statImage(await openLayoutFolder(dir), tag);
    }
    async function ofStore(image: string): Promise<ImageStat> {
      const { readStoredImage } = await import('../../../bundle/stored-image.ts');
      return withStore(context, flags, async (store) => statDocuments(readStoredImage(store, image), image));
    }
    if (out.json) out.lines(statJson(image));
    else {
      const { statLines } = await import('../../image/stat-lines.ts');
      out.result({}, () => statLines(image));
    }
  },
});
