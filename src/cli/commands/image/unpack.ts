/** `veneer image unpack` */
import { formatBytes, formatCount } from '../../../progress/units.ts';
import { defineImageCommand, IMAGE_FLAG, imageOf, tell } from '../../image/define.ts';
import {
  HOOK_FLAGS,
  type HookFlags,
  openHooks,
  openStoredFiles,
  STORAGE_FLAG,
} from '../../image/hook-flags.ts';
import { countingFiles, IMAGE_PROGRESS_FLAG, type ImageProgressFlags } from '../../image/progress-flag.ts';
import { UNPACK_FLAGS, type UnpackFlags, unpackOptions } from '../../image/unpack-flags.ts';
import { usageError } from '../../parse.ts';

const NAME = 'image unpack';

export default defineImageCommand<UnpackFlags & HookFlags & ImageProgressFlags>({
  name: NAME,
  brief: 'Unpack an image into a bundle, to run it or change it',
  usage: ['image unpack --image DIR[:TAG] [FLAGS] BUNDLE'],
  description: `BUNDLE gets the tree in rootfs, a config.json for runc or crun, and what "veneer image repack" needs to find out what
was changed. It is for its owner alone (mode 0700). Nothing is unpacked over a rootfs or config.json that is there, and
nothing stays after an error.

--rootless is for a user without privileges: owners that cannot be given are kept in attributes
(user.rootlesscontainers), and empty files stand for devices.

--storage overlay takes the layers from veneer's store: rootfs is the mounted image, and what is written to it is kept in
BUNDLE/overlay, which is all that repack looks at. There is no mtree file in it, so umoci itself cannot repack it.
"veneer umount BUNDLE/rootfs" takes it down. --storage reflink writes
all files, from the store's data: nothing is decompressed, and data shares its blocks with the store where both are on
one XFS or btrfs and it starts on a block's boundary. auto tries overlay, then reflink, and unpacks where the store does
not have the image. Sites have other ways: hooks, see docs/hooks.md.`,
  examples: [
    ['image unpack --image images:mine bundle', 'then: sudo runc run -b bundle name'],
    ['image unpack --image images:mine --rootless bundle', 'as yourself'],
    [
      'image unpack --image images:mine --uid-map 0:100000:65536 --gid-map 0:100000:65536 bundle',
      'other ids on the host',
    ],
    ['image unpack --image images:mine --storage overlay bundle', 'mounted from the store, in no time'],
    ['image unpack --image images:mine --storage reflink bundle', 'files of its own, from the store'],
  ],
  flags: { ...UNPACK_FLAGS, ...IMAGE_FLAG, ...STORAGE_FLAG, ...HOOK_FLAGS, ...IMAGE_PROGRESS_FLAG },
  arguments: ['BUNDLE'],
  completes: ['folder'],
  async run(context, flags, [bundle]) {
    const { dir, tag } = imageOf(NAME, flags);
    if (flags.storage === 'overlay' && flags['keep-dirlinks']) {
      throw usageError(
        NAME,
        '--keep-dirlinks does not go with --storage overlay: a mount shows what overlayfs shows',
      );
    }
    const { unpackBundle } = await import('../../../bundle/unpack.ts');
    const openStored = openStoredFiles(context, NAME, flags);
    const options = {
      ...unpackOptions(context, flags),
      ...(openStored === undefined ? {} : { openStored }),
      openHooks: await openHooks(context, NAME, flags, [dir, bundle!]),
    };
    const { image, findings, shared, hooked } = await countingFiles(
      context,
      NAME,
      flags,
      `unpack ${dir}:${tag}`,
      (onFiles) => unpackBundle(dir, tag, bundle!, { ...options, onFiles }),
    );
    context.out.findings(findings);
    const manifest = image.path.manifest.digest;
    const layers = image.manifest.layers.length;
    const skipped = hooked?.skipped ?? [];
    const unpacked = formatCount(layers - skipped.length, 'layer');
    tell(
      context,
      flags,
      { layout: dir, tag, manifest, bundle, layers, skipped, shared },
      skipped.length === layers
        ? `took ${formatCount(layers, 'layer')} from ${skipped[0]?.hook ?? 'nowhere'} for ${bundle}`
        : shared === null
          ? `unpacked ${unpacked} into ${bundle}`
          : `unpacked ${unpacked} from the store into ${bundle}, ${formatBytes(shared)} shared`,
    );
  },
});
