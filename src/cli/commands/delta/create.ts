/** `veneer delta create` */
import { VeneerError } from '../../../errors.ts';
import { formatBytes, formatCount } from '../../../progress/units.ts';
import { asText, defineCommand } from '../../command.ts';
import { parseLayoutArgument } from '../../delta/layout-argument.ts';
import { openTars } from '../../delta/open-tars.ts';
import { PROGRESS_FLAG, type ProgressFlags, withProgress } from '../../progress.ts';

type Flags = ProgressFlags & {
  readonly from: string;
  readonly to: string;
  readonly output: string;
  readonly platform?: string;
  readonly fast: boolean;
  readonly best: boolean;
};

const IMAGE = { kind: 'parsed', parse: asText, placeholder: 'IMAGE' } as const;

export default defineCommand<Flags, []>({
  name: 'delta create',
  brief: 'Write what it takes to make one image of another',
  usage: ['delta create [--fast|--best] --from IMAGE --to IMAGE -o oci:DIR[:TAG]'],
  description: `IMAGE is an image of the store, oci:DIR[:TAG] or docker-archive:FILE[:NAME].
The delta is an OCI artifact that refers to the image it leads to: pushed beside it, "pull --delta-from" finds it.
Whoever has the layers of the one image gets the other from it, bit by bit.
The layout is made if it is not there; without a TAG the delta is called "delta".
How a compressed layer is made of its tar is looked for where --to is a layout: only there are the blobs at hand.`,
  examples: [
    ['delta create --from app:1 --to app:2 -o oci:deltas', 'between two images of the store'],
    ['delta create --best --from oci:app:1 --to oci:app:2 -o oci:app:1-to-2', 'as small as it gets'],
  ],
  parameters: {
    flags: {
      from: { ...IMAGE, brief: 'The image that is there' },
      to: { ...IMAGE, brief: 'The image that is wanted' },
      output: { kind: 'parsed', parse: asText, placeholder: 'oci:DIR[:TAG]', brief: 'Where the delta goes' },
      platform: {
        kind: 'parsed',
        parse: asText,
        optional: true,
        placeholder: 'OS/ARCH',
        brief: "Default: this machine's",
      },
      fast: { kind: 'boolean', default: false, withNegated: false, brief: 'Less work, a larger delta' },
      best: { kind: 'boolean', default: false, withNegated: false, brief: 'More work, a smaller delta' },
      ...PROGRESS_FLAG,
    },
    aliases: { o: 'output' },
    positional: { kind: 'tuple', parameters: [] },
  },
  completes: ['none'],
  async run(context, flags) {
    if (flags.fast && flags.best) {
      throw new VeneerError('cli/usage', 'Cannot make a delta both --fast and --best');
    }
    const { dir, tag } = parseLayoutArgument(flags.output, 'the output');
    const { withLayout } = await import('../../delta/with-layout.ts');
    const { createImageDelta } = await import('../../../delta-image/create-image.ts');
    const { DELTA_LEVELS } = await import('../../../delta/level.ts');
    const { parsePlatform } = await import('../../../oci/platform.ts');
    const platform = flags.platform === undefined ? {} : { platform: parsePlatform(flags.platform) };
    const { signal } = context;
    const made = await withProgress(context, flags, ({ onProgress }) =>
      withLayout(dir, signal, async (layout) => {
        const options = { workFile: layout.workFile, signal, ...platform };
        const from = await openTars(context, flags, flags.from, options);
        try {
          const to = await openTars(context, flags, flags.to, options);
          try {
            return await createImageDelta(from, to, layout, {
              level: DELTA_LEVELS[flags.best ? 'best' : flags.fast ? 'fast' : 'default'],
              tag: tag ?? 'delta',
              signal,
              onProgress,
            });
          } finally {
            await to.close();
          }
        } finally {
          await from.close();
        }
      }),
    );
    context.out.result({ layout: dir, tag: tag ?? 'delta', ...made }, () => {
      const full = made.layers.reduce((sum, layer) => sum + (layer.delta === null ? 0 : layer.blobSize), 0);
      const lines = [
        `${dir}:${tag ?? 'delta'}: ${formatBytes(made.size)} instead of ${formatBytes(full)} (${made.digest})`,
      ];
      const lost = made.layers.filter((layer) => layer.delta !== null && layer.compressor === null).length;
      if (lost > 0) {
        lines.push(
          `no way was found to make the blob of ${formatCount(lost, 'layer')} again: only the tar comes out the same`,
        );
      }
      return lines;
    });
    return undefined;
  },
});
