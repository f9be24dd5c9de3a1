/** `veneer image raw add-layer` */
import { checkTag, defineImageCommand, IMAGE_FLAG, imageOf, tell } from '../../../image/define.ts';
import { HISTORY_FLAGS, type HistoryFlags, historyOf } from '../../../image/history-flags.ts';
import { compressionOf, LAYER_FLAGS, type LayerFlags } from '../../../image/layer-flags.ts';

type Flags = HistoryFlags & LayerFlags & { readonly image?: string; readonly tag?: string };

const NAME = 'image raw add-layer';

export default defineImageCommand<Flags>({
  name: NAME,
  brief: 'Put a tar on an image as a layer, as it is',
  usage: ['image raw add-layer --image DIR[:TAG] [FLAGS] TAR'],
  description: `TAR is not compressed; what it says is not looked at. Without --tag the new image takes the old one's tag.`,
  examples: [
    ['image raw add-layer --image images:mine more.tar', 'on top of what it has'],
    [
      'image raw add-layer --image images:mine --tag new --compress zstd more.tar',
      'keep the old one as "mine"',
    ],
  ],
  flags: {
    tag: { brief: 'Tag of the changed image', placeholder: 'NEW-TAG' },
    ...LAYER_FLAGS,
    ...HISTORY_FLAGS,
    ...IMAGE_FLAG,
  },
  arguments: ['TAR'],
  completes: ['file'],
  async run(context, flags, [tar]) {
    const { dir, tag } = imageOf(NAME, flags);
    const newTag = flags.tag === undefined ? tag : checkTag(NAME, flags.tag);
    const history = await historyOf(NAME, context.env, flags);
    const { addArchive } = await import('../../../../bundle/add-archive.ts');
    const manifest = await addArchive(dir, tag, newTag, tar!, compressionOf(NAME, flags), history);
    tell(context, flags, { layout: dir, tag: newTag, manifest, tar }, `${newTag} is ${manifest.digest} now`);
  },
});
