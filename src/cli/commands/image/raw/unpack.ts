/** `veneer image raw unpack` */
import { formatCount } from '../../../../progress/units.ts';
import { defineImageCommand, IMAGE_FLAG, imageOf, tell } from '../../../image/define.ts';
import { countingFiles, IMAGE_PROGRESS_FLAG, type ImageProgressFlags } from '../../../image/progress-flag.ts';
import { UNPACK_FLAGS, type UnpackFlags, unpackOptions } from '../../../image/unpack-flags.ts';

const NAME = 'image raw unpack';

export default defineImageCommand<UnpackFlags & ImageProgressFlags>({
  name: NAME,
  brief: "Unpack an image's tree, and nothing else",
  usage: ['image raw unpack --image DIR[:TAG] [FLAGS] ROOTFS'],
  description: `As "veneer image unpack", without config.json and what "veneer image repack" needs. ROOTFS may be a directory that
is there: the image goes over what is in it, as one more layer would, and stays there in part after an error. It is open to whoever the image says: keep it where others cannot run its setuid programs.`,
  examples: [
    ['image raw unpack --image images:mine rootfs', 'all layers in one tree'],
    ['image raw unpack --image images:mine --rootless rootfs', 'as yourself'],
  ],
  flags: { ...UNPACK_FLAGS, ...IMAGE_FLAG, ...IMAGE_PROGRESS_FLAG },
  arguments: ['ROOTFS'],
  completes: ['folder'],
  async run(context, flags, [rootfs]) {
    const { dir, tag } = imageOf(NAME, flags);
    const { findImage } = await import('../../../../bundle/find-image.ts');
    const { unpackRootfs } = await import('../../../../bundle/unpack-rootfs.ts');
    const blobs = await findImage(dir, tag);
    const { findings } = await countingFiles(context, NAME, flags, `unpack ${dir}:${tag}`, (onFiles) =>
      unpackRootfs(blobs, rootfs!, { ...unpackOptions(context, flags), onFiles }),
    );
    context.out.findings(findings);
    const manifest = blobs.image.path.manifest.digest;
    const layers = blobs.layers.length;
    tell(
      context,
      flags,
      { layout: dir, tag, manifest, rootfs, layers },
      `unpacked ${formatCount(layers, 'layer')} into ${rootfs}`,
    );
  },
});
