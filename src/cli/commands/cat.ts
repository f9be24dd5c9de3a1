/** `veneer cat` */
import { displayByteString } from '../../bytes/byte-string.ts';
import { VeneerError } from '../../errors.ts';
import { S_IFDIR, S_IFREG } from '../../tree/node.ts';
import { defineCommand, manyOf } from '../command.ts';
import { findNode } from '../find-node.ts';
import { IMAGE_FLAGS, IMAGE_HELP, type ImageFlags } from '../image-flags.ts';
import { parseImageFile } from '../image-path.ts';
import { isType, typeName } from '../node-facts.ts';
import { withImages } from '../open-image.ts';

export default defineCommand<ImageFlags, string[]>({
  name: 'cat',
  brief: 'Print files of an image',
  usage: ['cat IMAGE:PATH...'],
  description: `${IMAGE_HELP}
Symlinks are followed inside the image, never out of it. When one file cannot be printed the others still are.`,
  examples: [
    ['cat debian:12:/etc/os-release', 'one file'],
    ['cat app:/etc/passwd app:/etc/group', 'two, one after the other'],
    ['cat ./layer.erofs:/etc/motd --device layer.tar', 'from an image file'],
  ],
  parameters: { flags: IMAGE_FLAGS, positional: manyOf('IMAGE:PATH', 'What to print') },
  completes: ['image'],
  async run(context, flags, ...targets) {
    const paths = targets.map(parseImageFile);
    let failed = false;
    await withImages(context, flags, paths, async (images) => {
      for (const [index, target] of paths.entries()) {
        const image = images[index]!;
        try {
          const path = context.bytesOf(target.path);
          const name = `${displayByteString(path)} of ${image.name}`;
          const node = findNode(image, path, true);
          if (!isType(node, S_IFREG)) {
            throw new VeneerError('cli/not-a-file', `Cannot print ${name}: it is a ${typeName(node)}`, {
              ...(isType(node, S_IFDIR) ? { hint: `veneer ls ${targets[index]} lists it` } : {}),
            });
          }
          for await (const bytes of image.readFile(node)) await context.out.bytes(bytes);
        } catch (error) {
          if (!(error instanceof VeneerError)) throw error;
          failed = true;
          context.out.error(error);
        }
      }
    });
    return failed ? 1 : 0;
  },
});
