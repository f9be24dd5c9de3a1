/** `veneer image tag` */
import { checkTag, defineImageCommand, IMAGE_FLAG, imageOf, tell } from '../../image/define.ts';

export default defineImageCommand<{ readonly image?: string }>({
  name: 'image tag',
  brief: 'Give an image of a layout one more tag',
  usage: ['image tag --image DIR[:TAG] NEW-TAG'],
  description: 'Another image that had NEW-TAG loses it.',
  examples: [['image tag --image images:1.2 latest', '1.2 is latest too']],
  flags: IMAGE_FLAG,
  arguments: ['NEW-TAG'],
  async run(context, flags, [newTag]) {
    const { dir, tag } = imageOf('image tag', flags);
    const name = checkTag('image tag', newTag!);
    const { changeLayout } = await import('../../../bundle/change-layout.ts');
    const { putReference, resolveReference } = await import('../../../bundle/references.ts');
    const digest = await changeLayout(dir, async (layout) => {
      const { steps, manifest } = await resolveReference(layout, tag);
      putReference(layout, name, steps.at(-1)!.raw);
      return manifest.digest;
    });
    tell(context, flags, { layout: dir, tag: name, digest }, `${name} is ${tag}: ${digest}`);
  },
});
