/** `veneer image stat` */
import { defineImageCommand, IMAGE_FLAG, imageOf } from '../../image/define.ts';

export default defineImageCommand<{ readonly image?: string }>({
  name: 'image stat',
  brief: 'Show what a layout says of an image',
  usage: ['image stat --image DIR[:TAG] [--json]'],
  description:
    'For programs there is --json: one object with the manifest, the config, and a history that names layers.',
  examples: [
    ['image stat --image images:mine', 'manifest, config and history'],
    ['image stat --image images:mine --json', 'with both documents as they are'],
  ],
  flags: IMAGE_FLAG,
  async run({ out }, flags) {
    const { dir, tag } = imageOf('image stat', flags);
    const { openLayoutFolder } = await import('../../../bundle/layout-folder.ts');
    const { statImage, statJson } = await import('../../../bundle/stat-image.ts');
    const image = await statImage(await openLayoutFolder(dir), tag);
    if (out.json) out.lines(statJson(image));
    else {
      const { statLines } = await import('../../image/stat-lines.ts');
      out.result({}, () => statLines(image));
    }
  },
});
