/** `veneer delta apply` */
import { availableParallelism } from 'node:os';
import { VeneerError } from '../../../errors.ts';
import { formatCount } from '../../../progress/units.ts';
import type { IngestPool } from '../../../store/ingest-pool.ts';
import { asText, defineCommand, oneOf } from '../../command.ts';
import type { CliContext, CommonFlags } from '../../context.ts';
import { parseLayoutArgument } from '../../delta/layout-argument.ts';
import { type OpenedDelta, openDelta } from '../../delta/open-delta.ts';
import { openTars } from '../../delta/open-tars.ts';
import { PROGRESS_FLAG, type ProgressFlags, withProgress } from '../../progress.ts';
import { withStore } from '../../with-store.ts';

type Flags = ProgressFlags & {
  readonly name?: string;
  readonly from?: string;
  readonly output?: string;
  readonly fsync: boolean;
};

const text = (placeholder: string, brief: string) =>
  ({ kind: 'parsed', parse: asText, optional: true, placeholder, brief }) as const;

export default defineCommand<Flags, [delta: string]>({
  name: 'delta apply',
  brief: 'Make an image of another one and a delta',
  usage: ['delta apply --name NAME oci:DIR[:TAG]', 'delta apply --from IMAGE -o oci:DIR[:TAG] oci:DIR[:TAG]'],
  description: `With --name the image comes into the store, made of layers that the store has.
With --from and -o it is written into a layout; --from is an image of the store, oci:DIR[:TAG] or docker-archive:FILE.
Every layer is hashed before the image gets its name. The image ID is that of the original in any case; compressed
layers are made again where the delta says how, else they are stored as plain tars under a manifest of their own.
An image of the layout that had the tag loses it.`,
  examples: [
    ['delta apply --name app:2 oci:deltas', 'into the store, which has app:1'],
    ['delta apply --from oci:app:1 -o oci:app:2 oci:deltas', 'from one layout into another, or the same'],
  ],
  parameters: {
    flags: {
      name: text('NAME', 'Name in the store'),
      from: text('IMAGE', 'The image that the delta was made from'),
      output: text('oci:DIR[:TAG]', 'Where the image goes (tag: latest)'),
      fsync: {
        kind: 'boolean',
        default: true,
        brief: 'With --name: do not wait for the disk: faster, but a power cut may damage what was made',
      },
      ...PROGRESS_FLAG,
    },
    aliases: { o: 'output' },
    positional: { kind: 'tuple', parameters: [oneOf('oci:DIR[:TAG]', 'The delta')] },
  },
  completes: ['folder'],
  async run(context, flags, place) {
    const { name, from, output } = flags;
    if ((name === undefined) === (output === undefined) || (output === undefined) !== (from === undefined)) {
      throw new VeneerError('cli/usage', 'Cannot apply the delta: give --name, or --from and --output', {
        hint: 'veneer delta apply --help shows both',
      });
    }
    if (name !== undefined) await applyToStore(context, flags, place, name);
    else await applyToLayout(context, flags, await openDelta(place), from!, output!);
    return undefined;
  },
});

async function applyToStore(
  context: CliContext,
  flags: Flags & CommonFlags,
  place: string,
  name: string,
): Promise<void> {
  const { IngestPool } = await import('../../../store/ingest-pool.ts');
  const pool = new IngestPool(availableParallelism());
  // starting takes a while, and there is something to do meanwhile
  pool.start(1);
  try {
    await pullDelta(context, flags, await openDelta(place), name, pool);
  } finally {
    await pool.close();
  }
}

async function pullDelta(
  context: CliContext,
  flags: Flags & CommonFlags,
  { delta, dir, tag, locate }: OpenedDelta,
  name: string,
  pool: IngestPool,
): Promise<void> {
  const { deltaSource, layersOf, missingLayers, rebuildStored } = await import(
    '../../../delta-image/rebuild-stored.ts'
  );
  const { pullImage } = await import('../../../store/pull.ts');
  const { NO_NEEDS, takeLease } = await import('../../../store/leases.ts');
  await withStore(context, flags, async (store) => {
    store.prepare();
    const lease = takeLease(store, `delta of ${name}`, { ...NO_NEEDS, layers: layersOf(delta) });
    try {
      const [missing] = missingLayers(store, delta);
      if (missing !== undefined) {
        throw new VeneerError(
          'delta/base',
          `Cannot apply ${dir}:${tag}: the store lacks the layer ${missing}`,
          {
            hint: `pull the image that it was made from, its ID is ${delta.config.source}`,
          },
        );
      }
      const record = await withProgress(context, flags, ({ onProgress }) =>
        pullImage(store, deltaSource(delta, name), {
          name,
          pool,
          rebuild: rebuildStored(store, delta, locate),
          rebuildOnly: true,
          onProgress,
          onFinding: (finding) => context.out.findings([finding]),
          signal: context.signal,
        }),
      );
      context.out.result(record, () => `made ${name} (${formatCount(record.layers.length, 'layer')})`);
    } finally {
      lease.release();
    }
  });
}

async function applyToLayout(
  context: CliContext,
  flags: Flags & CommonFlags,
  { delta, locate }: OpenedDelta,
  source: string,
  output: string,
): Promise<void> {
  const { dir, tag = 'latest' } = parseLayoutArgument(output, 'the output');
  const { withLayout } = await import('../../delta/with-layout.ts');
  const { applyImageDelta } = await import('../../../delta-image/apply-image.ts');
  const { signal } = context;
  const made = await withProgress(context, flags, ({ onProgress }) =>
    withLayout(dir, signal, async (layout) => {
      const from = await openTars(context, flags, source, { workFile: layout.workFile, signal });
      try {
        return await applyImageDelta(delta, from, layout, { tag, locate, signal, onProgress });
      } finally {
        await from.close();
      }
    }),
  );
  context.out.result({ layout: dir, tag, ...made }, () => {
    const lines = [`${dir}:${tag}: image ID ${made.config}`];
    if (made.exact) lines.push(`manifest ${made.digest}, as it was`);
    else {
      const plain = made.layers.filter(({ exact }) => !exact).length;
      lines.push(
        `manifest ${made.digest}, a new one: ${formatCount(plain, 'layer')} could not be compressed as before and is a plain tar`,
      );
    }
    return lines;
  });
}
