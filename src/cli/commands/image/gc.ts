/** `veneer image gc` */
import { formatBytes, formatCount } from '../../../progress/units.ts';
import { defineImageCommand, LAYOUT_FLAG, layoutOf, tell } from '../../image/define.ts';

export default defineImageCommand<{ readonly layout?: string }>({
  name: 'image gc',
  brief: 'Delete blobs that no tag of a layout needs',
  usage: ['image gc --layout DIR'],
  description: `Entries of index.json without a tag keep their blobs too. Nothing is deleted when a manifest on the way is damaged.
What is no blob stays where it is, and is told.`,
  examples: [
    ['image gc --layout images', 'says nothing, as umoci'],
    ['image gc --layout images --verbose', 'says how much there was'],
  ],
  flags: LAYOUT_FLAG,
  async run(context, flags) {
    const layout = layoutOf('image gc', flags);
    const { collectGarbage } = await import('../../../bundle/collect-garbage.ts');
    const { findings, ...collected } = await collectGarbage(layout);
    context.out.findings(findings);
    const bytes = collected.removed.reduce((sum, { size }) => sum + size, 0);
    const count = formatCount(collected.removed.length, 'blob');
    tell(context, flags, { layout, ...collected, bytes }, `deleted ${count}, ${formatBytes(bytes)}`);
  },
});
