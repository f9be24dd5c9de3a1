/** `veneer image rm` */
import { defineImageCommand, IMAGE_FLAG, imageOf, tell } from '../../image/define.ts';

export default defineImageCommand<{ readonly image?: string }>({
  name: 'image rm',
  brief: 'Take a tag out of a layout',
  usage: ['image rm --image DIR[:TAG]'],
  description: `The image's blobs stay until "veneer image gc". A tag that is not there is none that has to go: no error.
Also: veneer image remove.`,
  examples: [['image rm --image images:old', 'then: veneer image gc --layout images']],
  flags: IMAGE_FLAG,
  async run(context, flags) {
    const { dir, tag } = imageOf('image rm', flags);
    const { changeLayout } = await import('../../../bundle/change-layout.ts');
    const { removeReference } = await import('../../../bundle/references.ts');
    const removed = await changeLayout(dir, async (layout) => removeReference(layout, tag));
    tell(context, flags, { layout: dir, tag, removed }, `took ${tag} out of ${removed} entries`);
  },
});
