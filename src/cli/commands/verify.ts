/** `veneer verify` */
import { formatBytes, formatCount } from '../../progress/units.ts';
import { asText, defineCommand } from '../command.ts';
import { PROGRESS_FLAG, type ProgressFlags, withProgress } from '../progress.ts';
import { withStore } from '../with-store.ts';

export default defineCommand<ProgressFlags, [image?: string]>({
  name: 'verify',
  brief: 'Re-hash everything in the store',
  usage: ['verify [IMAGE]'],
  description: `Reads every layer, merged image and document again and compares it with its digest. Changes nothing.
Exit code 1 when something is damaged.`,
  examples: [
    ['verify', 'the whole store'],
    ['verify debian:12', 'only what one image needs'],
  ],
  parameters: {
    flags: PROGRESS_FLAG,
    positional: {
      kind: 'tuple',
      parameters: [{ brief: 'An image', placeholder: 'IMAGE', parse: asText, optional: true }],
    },
  },
  completes: ['image', 'none'],
  async run(context, flags, image) {
    const { verify } = await import('../../store/verify.ts');
    const { resolveImage } = await import('../../store/images.ts');
    return withStore(context, flags, async (store) => {
      const only = image === undefined ? {} : { image: resolveImage(store, image) };
      const report = await withProgress(context, flags, ({ onProgress }) =>
        verify(store, { ...only, onProgress, signal: context.signal }),
      );
      context.out.result(report, () => [
        ...report.problems.map(({ message }) => `damaged: ${message}`),
        `${formatCount(report.files, 'file')}, ${formatBytes(report.bytes)}: ${report.problems.length === 0 ? 'all as their digests say' : `${report.problems.length} damaged`}`,
      ]);
      return report.problems.length === 0 ? 0 : 1;
    });
  },
});
