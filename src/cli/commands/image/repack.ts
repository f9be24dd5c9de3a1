/** `veneer image repack` */
import { formatCount } from '../../../progress/units.ts';
import { defineImageCommand, IMAGE_FLAG, imageOf, tell } from '../../image/define.ts';
import { HISTORY_FLAGS, type HistoryFlags, historyOf } from '../../image/history-flags.ts';
import { HOOK_FLAGS, type HookFlags, openHooks } from '../../image/hook-flags.ts';
import { compressionOf, LAYER_FLAGS, type LayerFlags, latestTime } from '../../image/layer-flags.ts';
import {
  IMAGE_PROGRESS_FLAG,
  type ImageProgressFlags,
  withImageProgress,
} from '../../image/progress-flag.ts';

type Flags = HistoryFlags &
  LayerFlags &
  HookFlags &
  ImageProgressFlags & {
    readonly image?: string;
    readonly 'mask-path': readonly string[];
    readonly 'no-mask-volumes': boolean;
    readonly 'refresh-bundle': boolean;
  };

const NAME = 'image repack';

export default defineImageCommand<Flags>({
  name: NAME,
  brief: 'Make a layer of what was changed in a bundle',
  usage: ['image repack --image DIR[:NEW-TAG] [FLAGS] BUNDLE'],
  description: `DIR is the layout that BUNDLE was unpacked from. The new image has its layers and one more, with what was changed,
added and deleted in BUNDLE/rootfs since; volumes of the image and what --mask-path names are left out. Without changes
there is only a new entry in the history.

Files that were not touched are not read, and of a bundle over veneer's store only what was written. Times later than $SOURCE_DATE_EPOCH become that, so that the same changes
make the same layer.`,
  examples: [
    ['image repack --image images:new bundle', 'the changed image is images:new'],
    ['image repack --image images:mine --refresh-bundle bundle', 'and go on with the same bundle'],
    [
      'image repack --image images:new --mask-path /var/cache --compress zstd bundle',
      'nothing of /var/cache',
    ],
  ],
  flags: {
    'mask-path': { brief: 'Leave out changes to this and below', placeholder: 'PATH', many: true },
    'no-mask-volumes': { brief: 'Take changes in volumes of the image too' },
    'refresh-bundle': { brief: 'The bundle is one of the new image then' },
    ...LAYER_FLAGS,
    ...HISTORY_FLAGS,
    ...IMAGE_FLAG,
    ...HOOK_FLAGS,
    ...IMAGE_PROGRESS_FLAG,
  },
  arguments: ['BUNDLE'],
  completes: ['folder'],
  async run(context, flags, [bundle]) {
    const { dir, tag } = imageOf(NAME, flags);
    const { repackBundle } = await import('../../../bundle/repack.ts');
    const options = {
      compression: compressionOf(NAME, flags),
      history: await historyOf(NAME, context.env, flags),
      maskedPaths: flags['mask-path'].map((path) => context.bytesOf(path)),
      maskVolumes: !flags['no-mask-volumes'],
      refresh: flags['refresh-bundle'],
      latest: await latestTime(context.env),
      openHooks: await openHooks(context, NAME, flags, [dir, bundle!]),
      signal: context.signal,
    };
    const { digest, size, changes, findings } = await withImageProgress(context, NAME, flags, (onProgress) =>
      repackBundle(dir, tag, bundle!, { ...options, onProgress }),
    );
    context.out.findings(findings);
    const counts = { modified: 0, extra: 0, missing: 0 };
    for (const change of changes.values()) counts[change]++;
    tell(
      context,
      flags,
      { layout: dir, tag, manifest: { digest, size }, bundle, changes: counts },
      `${tag} is ${digest} now, with ${formatCount(changes.size, 'change')}`,
    );
  },
});
