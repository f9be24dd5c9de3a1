/** `veneer image raw runtime-config` */
import { writeFileSync } from 'node:fs';
import type { ContainerUser } from '../../../../bundle/container-user.ts';
import { VeneerError } from '../../../../errors.ts';
import type { CliContext } from '../../../context.ts';
import { defineImageCommand, IMAGE_FLAG, imageOf, tell } from '../../../image/define.ts';
import { idMapsOf, MAP_FLAGS, type MapFlags } from '../../../image/map-flags.ts';

type Flags = MapFlags & { readonly image?: string; readonly rootfs?: string };

const NAME = 'image raw runtime-config';

export default defineImageCommand<Flags>({
  name: NAME,
  brief: "Write a container's config.json for an image",
  usage: ['image raw runtime-config --image DIR[:TAG] [--rootfs DIR] [FLAGS] FILE'],
  description: `FILE is for runc or crun (OCI runtime spec 1.2); one that is there is overwritten. Users and groups that the image names
are looked up in --rootfs; without it only numbers are known, and a name becomes root. Also: veneer image raw config.`,
  examples: [
    [
      'image raw runtime-config --image images:mine --rootfs bundle/rootfs bundle/config.json',
      'for a bundle',
    ],
    ['image raw runtime-config --image images:mine --rootless config.json', 'for a user without privileges'],
  ],
  flags: {
    rootfs: { brief: "The image's unpacked tree, to look up users in", placeholder: 'DIR' },
    ...MAP_FLAGS,
    ...IMAGE_FLAG,
  },
  arguments: ['FILE'],
  completes: ['file'],
  async run(context, flags, [file]) {
    const { dir, tag } = imageOf(NAME, flags);
    const maps = idMapsOf(flags);
    const { openLayoutFolder } = await import('../../../../bundle/layout-folder.ts');
    const { resolveReference } = await import('../../../../bundle/references.ts');
    const { readImage } = await import('../../../../bundle/image-documents.ts');
    const { rootPathOf, runtimeSpec } = await import('../../../../bundle/runtime-spec.ts');
    const { rootlessHost } = await import('../../../../bundle/rootless-host.ts');
    const { encodeIndented } = await import('../../../../oci/encode-json.ts');
    const layout = await openLayoutFolder(dir);
    const { document } = await readImage(layout, await resolveReference(layout, tag));
    const rootfs = flags.rootfs ?? '';
    const spec = runtimeSpec(document, {
      rootPath: rootPathOf(rootfs),
      user: await lookUpUser(context, document.config?.User ?? '', rootfs),
      ...maps,
      rootless: flags.rootless ? rootlessHost() : null,
    });
    // In place, as umoci does: FILE may be a pipe. A crash leaves a part of it.
    writeFileSync(file!, `${encodeIndented(spec)}\n`);
    tell(context, flags, { layout: dir, tag, file }, `wrote ${file}`);
  },
});

async function lookUpUser({ out }: CliContext, user: string, rootfs: string): Promise<ContainerUser> {
  const { findUser, ROOT_USER } = await import('../../../../bundle/container-user.ts');
  if (rootfs !== '') {
    const { readRootfsFile } = await import('../../../../bundle/rootfs-file.ts');
    return findUser(user, readRootfsFile(rootfs, '/etc/passwd'), readRootfsFile(rootfs, '/etc/group'));
  }
  try {
    return findUser(user, '', '');
  } catch (error) {
    if (!(error instanceof VeneerError)) throw error;
    out.note(`${error.message}; without --rootfs the container runs as root`);
    return ROOT_USER;
  }
}
