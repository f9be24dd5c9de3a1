/** `veneer gc` */
import { formatBytes, formatCount } from '../../progress/units.ts';
import { defineCommand } from '../command.ts';
import { withStore } from '../with-store.ts';

export default defineCommand<{ readonly dryRun: boolean; readonly compact: boolean }, []>({
  name: 'gc',
  brief: 'Delete what no image needs',
  usage: ['gc [--dry-run] [--compact]'],
  description: `Deletes layers, merged images and documents that no image, running pull or mount needs, files that no checkout
links to any more, and what killed processes left behind. Safe beside running pulls and mounts.

Layers may share their data (pull --dedupe). What others need of a layer stays when its image is removed; with --compact
just those blocks, and the rest is given back.`,
  examples: [
    ['gc', 'give the space back'],
    ['gc --dry-run', 'only tell what would go'],
    ['gc --compact', 'also of layers that only others need data of'],
  ],
  parameters: {
    flags: {
      dryRun: { kind: 'boolean', brief: 'Delete nothing', withNegated: false, default: false },
      compact: {
        kind: 'boolean',
        brief: 'Of layers that are there for others only, keep the blocks that those need',
        withNegated: false,
        default: false,
      },
    },
    positional: { kind: 'tuple', parameters: [] },
  },
  async run(context, flags) {
    const { gc } = await import('../../store/gc.ts');
    const { compact } = await import('../../store/compact.ts');
    const { mountedFiles } = await import('../../mount/mounted-files.ts');
    const { sweepCheckouts } = await import('../../checkout/sweep.ts');
    return withStore(context, flags, async (store) => {
      const options = {
        dryRun: flags.dryRun,
        mountedFiles: () => mountedFiles(store.layout.run),
        signal: context.signal,
      };
      const report = await gc(store, options);
      const compacted = flags.compact ? await compact(store, options) : null;
      // what only a compacted layer pointed into
      const more = flags.compact && !flags.dryRun ? await gc(store, options) : null;
      const checkouts = sweepCheckouts(store, { dryRun: flags.dryRun });
      const verb = flags.dryRun ? 'would delete' : 'deleted';
      context.out.result(
        { dryRun: flags.dryRun, ...report, checkouts, compacted, afterCompaction: more },
        () => [
          ...(flags.dryRun
            ? [...report.layers.map((id) => `layer ${id}`), ...report.chains.map((id) => `chain ${id}`)]
            : []),
          `${verb} ${formatCount(report.layers.length, 'layer')}, ${formatCount(report.chains.length, 'merged image')}, ${formatCount(report.blobs.length, 'document')}` +
            `${report.debris.length > 0 ? `, ${formatCount(report.debris.length, 'leftover')}` : ''}: ${formatBytes(report.bytes)}`,
          ...(compacted !== null
            ? [
                `${flags.dryRun ? 'would keep' : 'kept'} only what others need of ${formatCount(compacted.files.length, 'layer')}: ${formatBytes(compacted.bytes + (more?.bytes ?? 0))}`,
              ]
            : report.shared.length > 0
              ? [
                  `still there for the data that others share: ${formatCount(report.shared.length, 'layer')} (gc --compact keeps only that data)`,
                ]
              : []),
          ...(checkouts.objects + checkouts.checkouts.length === 0
            ? []
            : [
                `${verb} what ${formatCount(checkouts.checkouts.length, 'checkout')} left, ${formatCount(checkouts.objects, 'shared file')}: ${formatBytes(checkouts.bytes)}`,
              ]),
        ],
      );
      return undefined;
    });
  },
});
