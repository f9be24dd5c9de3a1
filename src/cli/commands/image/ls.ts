/** `veneer image ls` */
import { defineImageCommand, LAYOUT_FLAG, layoutOf } from '../../image/define.ts';

export default defineImageCommand<{ readonly layout?: string }>({
  name: 'image ls',
  brief: 'List the tags of a layout',
  usage: ['image ls --layout DIR'],
  description:
    'One a line. A tag that several entries of index.json have comes as often. Also: veneer image list.',
  examples: [
    ['image ls --layout images', 'the tags'],
    ['image ls --layout images --json', 'as one JSON object'],
  ],
  flags: LAYOUT_FLAG,
  async run(context, flags) {
    const place = layoutOf('image ls', flags);
    const { openLayoutFolder } = await import('../../../bundle/layout-folder.ts');
    const { listReferences } = await import('../../../bundle/references.ts');
    const { displayByteString } = await import('../../../bytes/byte-string.ts');
    const tags = listReferences(await openLayoutFolder(place));
    // Nothing keeps an index.json from holding control characters.
    const shown = (tag: string): string => displayByteString(Buffer.from(tag).toString('latin1'));
    context.out.result({ layout: place, tags }, () => tags.map(shown));
  },
});
