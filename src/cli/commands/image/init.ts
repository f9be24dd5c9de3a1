/** `veneer image init` */
import { defineImageCommand, LAYOUT_FLAG, layoutOf, tell } from '../../image/define.ts';

export default defineImageCommand<{ readonly layout?: string }>({
  name: 'image init',
  brief: 'Make an empty OCI layout',
  usage: ['image init --layout DIR'],
  description: 'DIR must not exist; folders above it are made.',
  examples: [['image init --layout images', 'then: veneer image new --image images:TAG']],
  flags: LAYOUT_FLAG,
  async run(context, flags) {
    const layout = layoutOf('image init', flags);
    const { createLayout } = await import('../../../bundle/change-layout.ts');
    createLayout(layout);
    tell(context, flags, { layout }, `made the layout ${layout}`);
  },
});
