/** `veneer rm` */
import { defineCommand, manyOf } from '../command.ts';
import { filesInUse, withStore } from '../with-store.ts';

export default defineCommand<{ readonly force: boolean }, string[]>({
  name: 'rm',
  brief: "Take an image's name out of the store",
  usage: ['rm [--force] IMAGE...'],
  description: `The name is gone at once; what no other image needs goes with the next "veneer gc".
An image that is mounted is refused unless another name leads to it; with --force the mount goes on working.`,
  examples: [
    ['rm debian:12', 'one name'],
    ['rm debian:12 app:latest && veneer gc', 'two, and the space they took'],
  ],
  parameters: {
    flags: {
      force: {
        kind: 'boolean',
        brief: 'Also when it is mounted; by digest: all its names',
        withNegated: false,
        default: false,
      },
    },
    aliases: { f: 'force' },
    positional: manyOf('IMAGE', 'Which image'),
  },
  completes: ['image'],
  async run(context, flags, ...images) {
    const { removeImage } = await import('../../store/rm.ts');
    return withStore(context, flags, async (store) => {
      const mountedFiles = await filesInUse(store);
      let failed = false;
      for (const image of images) {
        try {
          for (const { name, manifest } of removeImage(store, image, { force: flags.force, mountedFiles })) {
            context.out.result({ removed: name, digest: manifest.digest }, () => `removed ${name}`);
          }
        } catch (error) {
          failed = true;
          context.out.error(error);
        }
      }
      return failed ? 1 : 0;
    });
  },
});
