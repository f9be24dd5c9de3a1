/** `veneer image new` */
import { defineImageCommand, IMAGE_FLAG, imageOf, tell } from '../../image/define.ts';

export default defineImageCommand<{ readonly image?: string }>({
  name: 'image new',
  brief: 'Put an image without layers into a layout',
  usage: ['image new --image DIR[:TAG]'],
  description: `The image is for this machine's platform. An image that had the tag loses it.
Its time of creation is now, or $SOURCE_DATE_EPOCH.`,
  examples: [['image new --image images:mine', 'an image to add layers to']],
  flags: IMAGE_FLAG,
  async run(context, flags) {
    const { dir, tag } = imageOf('image new', flags);
    const { changeLayout } = await import('../../../bundle/change-layout.ts');
    const { putNewImage } = await import('../../../bundle/new-image.ts');
    const { sourceDate } = await import('../../../bundle/source-date.ts');
    const created = sourceDate(context.env);
    const manifest = await changeLayout(dir, async (layout) => putNewImage(layout, tag, created));
    tell(context, flags, { layout: dir, tag, manifest }, `made the image ${tag}: ${manifest.digest}`);
  },
});
