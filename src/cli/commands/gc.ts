/** `veneer gc` */
import { formatBytes, formatCount } from '../../progress/units.ts';
import { defineCommand } from '../command.ts';
import { mountedFiles, withStore } from '../with-store.ts';

export default defineCommand<{ readonly dryRun: boolean }, []>({
  name: 'gc',
  brief: 'Delete what no image needs',
  usage: ['gc [--dry-run]'],
  description: `Deletes layers, merged images and documents that no image, running pull or mount needs, and what killed
processes left behind. Safe beside running pulls and mounts.`,
  examples: [
    ['gc', 'give the space back'],
    ['gc --dry-run', 'only tell what would go'],
  ],
  parameters: {
    flags: { dryRun: { kind: 'boolean', brief: 'Delete nothing', withNegated: false, default: false } },
    positional: { kind: 'tuple', parameters: [] },
  },
  async run(context, flags) {
    const { gc } = await import('../../store/gc.ts');
    const mounts = await import('../../mount/unmount.ts');
    return withStore(context, flags, async (store) => {
      const report = await gc(store, {
        dryRun: flags.dryRun,
        mountedFiles: () => mountedFiles(mounts, store),
        signal: context.signal,
      });
      const verb = flags.dryRun ? 'would delete' : 'deleted';
      context.out.result({ dryRun: flags.dryRun, ...report }, () => [
        ...(flags.dryRun
          ? [...report.layers.map((id) => `layer ${id}`), ...report.chains.map((id) => `chain ${id}`)]
          : []),
        `${verb} ${formatCount(report.layers.length, 'layer')}, ${formatCount(report.chains.length, 'merged image')}, ${formatCount(report.blobs.length, 'document')}` +
          `${report.debris.length > 0 ? `, ${formatCount(report.debris.length, 'leftover')}` : ''}: ${formatBytes(report.bytes)}`,
      ]);
      return undefined;
    });
  },
});
