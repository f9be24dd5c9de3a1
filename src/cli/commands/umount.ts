/** `veneer umount` */
import { join } from 'node:path';
import { defineCommand, manyOf } from '../command.ts';
import { storeRoot } from '../root.ts';

export default defineCommand<{ readonly lazy: boolean }, string[]>({
  name: 'umount',
  brief: 'Unmount and release all that the mount took',
  usage: ['umount [-l] DIR...'],
  description: `Takes back loop devices, layer mounts and the record as well. The changes of a mount with --rw=UPPER stay in
UPPER; those of one with --rw alone are thrown away. After --lazy do not mount UPPER again before its last user ended:
nobody can see any more that it is in use.`,
  examples: [
    ['umount /mnt', 'unmount'],
    ['umount --lazy /mnt', 'detach at once, release when the last user ends'],
  ],
  parameters: {
    flags: {
      lazy: {
        kind: 'boolean',
        brief: 'Detach now even if files are in use',
        withNegated: false,
        default: false,
      },
    },
    aliases: { l: 'lazy' },
    positional: manyOf('DIR', 'Where it is mounted'),
  },
  completes: ['folder'],
  async run(context, flags, ...targets) {
    const { unmount } = await import('../../mount/unmount.ts');
    const runDir = join(storeRoot(flags, context.env), 'run');
    let failed = false;
    for (const target of targets) {
      try {
        const report = unmount(target, runDir, { lazy: flags.lazy });
        context.out.result(report, () => {
          if (report.keptUpper !== null)
            return `unmounted ${report.target}; its changes are in ${report.keptUpper}`;
          return `unmounted ${report.target}${report.removedUpper === null ? '' : '; its changes are gone'}`;
        });
      } catch (error) {
        failed = true;
        context.out.error(error);
      }
    }
    return failed ? 1 : 0;
  },
});
