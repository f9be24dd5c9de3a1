/** `veneer image insert` */
import { checkTag, defineImageCommand, IMAGE_FLAG, imageOf, tell } from '../../image/define.ts';
import { HISTORY_FLAGS, type HistoryFlags, historyOf } from '../../image/history-flags.ts';
import { compressionOf, LAYER_FLAGS, type LayerFlags, latestTime } from '../../image/layer-flags.ts';
import { idMapsOf, MAP_FLAGS, type MapFlags } from '../../image/map-flags.ts';
import { usageError } from '../../parse.ts';

type Flags = HistoryFlags &
  LayerFlags &
  MapFlags & {
    readonly image?: string;
    readonly tag?: string;
    readonly whiteout: boolean;
    readonly opaque: boolean;
  };

const NAME = 'image insert';

export default defineImageCommand<Flags>({
  name: NAME,
  brief: 'Put files into an image, or a deletion',
  usage: [
    'image insert --image DIR[:TAG] [--opaque] [FLAGS] SOURCE TARGET',
    'image insert --image DIR[:TAG] --whiteout [FLAGS] TARGET',
  ],
  description: `The image gets one more layer: SOURCE, a file or directory, stands at TARGET in it, on top of what is there. With --opaque
nothing that was in the directory TARGET is seen any more; with --whiteout TARGET itself is gone. Lower layers keep what
they have: a secret is not taken out of an image in this way.`,
  examples: [
    ['image insert --image images:mine program /usr/bin/program', 'one file'],
    [
      'image insert --image images:mine --tag new --opaque conf /etc/conf',
      "all of a directory, and nothing else's",
    ],
    ['image insert --image images:mine --whiteout /var/cache', 'delete'],
  ],
  flags: {
    whiteout: { brief: 'Delete TARGET' },
    opaque: { brief: 'Hide what lower layers have in TARGET' },
    tag: { brief: 'Tag of the changed image', placeholder: 'NEW-TAG' },
    ...LAYER_FLAGS,
    ...HISTORY_FLAGS,
    ...MAP_FLAGS,
    ...IMAGE_FLAG,
  },
  arguments: ['SOURCE', 'TARGET'],
  optionalArguments: 1,
  completes: ['file'],
  async run(context, flags, args) {
    const { dir, tag } = imageOf(NAME, flags);
    const newTag = flags.tag === undefined ? tag : checkTag(NAME, flags.tag);
    const wanted = flags.whiteout ? 1 : 2;
    if (args.length !== wanted) {
      throw usageError(
        NAME,
        flags.whiteout ? 'with --whiteout there is only TARGET' : 'SOURCE and TARGET are wanted',
      );
    }
    if (flags.whiteout && flags.opaque) throw usageError(NAME, '--whiteout and --opaque do not go together');
    const { insertIntoImage } = await import('../../../bundle/insert.ts');
    const source = flags.whiteout ? null : args[0]!;
    const target = args.at(-1)!;
    const { digest, size, findings } = await insertIntoImage(
      dir,
      tag,
      newTag,
      { source, target: context.bytesOf(target), opaque: flags.opaque },
      {
        compression: compressionOf(NAME, flags),
        history: await historyOf(NAME, context.env, flags),
        maps: { ...idMapsOf(flags), rootless: flags.rootless },
        latest: await latestTime(context.env),
        signal: context.signal,
      },
    );
    context.out.findings(findings);
    tell(
      context,
      flags,
      { layout: dir, tag: newTag, manifest: { digest, size }, source, target },
      `${newTag} is ${digest} now`,
    );
  },
});
