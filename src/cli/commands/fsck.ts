/** `veneer fsck` */
import { formatCount } from '../../progress/units.ts';
import { defineCommand } from '../command.ts';
import { withStore } from '../with-store.ts';

type Flags = { readonly repair: boolean; readonly rebuild: boolean };

export default defineCommand<Flags, []>({
  name: 'fsck',
  brief: 'Check that the store is consistent; rebuild its index',
  usage: ['fsck [--repair] [--rebuild]'],
  description: `Looks at every record, file and size; "veneer verify" also reads all bytes. The database is an index of the files
and can always be made anew from them. Exit code 1 when something is wrong and was not repaired.`,
  examples: [
    ['fsck', 'only look'],
    ['fsck --repair', 'remove what is broken, so that a pull can fetch it again'],
    ['fsck --rebuild', 'make the database anew'],
  ],
  parameters: {
    flags: {
      repair: {
        kind: 'boolean',
        brief: 'Remove what is broken, and what killed processes left',
        withNegated: false,
        default: false,
      },
      rebuild: {
        kind: 'boolean',
        brief: 'Make the database anew from the files',
        withNegated: false,
        default: false,
      },
    },
    positional: { kind: 'tuple', parameters: [] },
  },
  async run(context, flags) {
    const { fsck } = await import('../../store/fsck.ts');
    return withStore(context, flags, async (store) => {
      const report = await fsck(store, {
        repair: flags.repair,
        rebuild: flags.rebuild,
        signal: context.signal,
      });
      context.out.result(report, () => {
        const counts = `${formatCount(report.images, 'image')}, ${formatCount(report.layers, 'layer')}, ${formatCount(report.chains, 'merged image')}`;
        const lines = report.problems.map(
          ({ severity, path, message, repaired }) =>
            `${repaired ? 'repaired' : severity}: ${message.includes(path) ? '' : `${path}: `}${message}`,
        );
        for (const name of report.droppedImages) lines.push(`removed: ${name}; pull it again`);
        return [
          ...lines,
          `${counts}: ${report.ok ? 'consistent' : 'not consistent; "veneer fsck --repair" repairs it'}`,
        ];
      });
      return report.ok ? 0 : 1;
    });
  },
});
