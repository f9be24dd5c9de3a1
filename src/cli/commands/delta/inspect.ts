/** `veneer delta inspect` */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FindTar } from '../../../delta/rebuild.ts';
import type { LayerSpending } from '../../../delta-image/inspect.ts';
import type { TarFile } from '../../../delta-image/tar-file.ts';
import { formatBytes } from '../../../progress/units.ts';
import { asText, defineCommand, oneOf } from '../../command.ts';
import type { CliContext, CommonFlags } from '../../context.ts';
import { type OpenedDelta, openDelta } from '../../delta/open-delta.ts';
import { openTars } from '../../delta/open-tars.ts';
import { jsonName } from '../../output.ts';
import { storeRoot } from '../../root.ts';
import { alignColumns } from '../../table.ts';

type Flags = { readonly from?: string; readonly all: boolean };

/** Files that are shown without --all. */
const SHOWN = 20;

export default defineCommand<Flags, [delta: string]>({
  name: 'delta inspect',
  brief: 'Tell what is in a delta and where its bytes went',
  usage: ['delta inspect [--from IMAGE] [--all] oci:DIR[:TAG]'],
  description: `Files are told where the layers that the delta was made from are at hand: in the store, or in the image --from.
COST is what a file takes of the delta: its share of the compressed columns. Of its bytes some are KEPT as a source has
them, some are CHANGED, and LITERAL ones stand in the delta. With --json one object a layer, with all files.`,
  examples: [
    ['delta inspect oci:deltas', 'the twenty files that cost most'],
    ['delta inspect --from oci:app:1 --json oci:deltas', 'everything, for a program'],
  ],
  parameters: {
    flags: {
      from: {
        kind: 'parsed',
        parse: asText,
        optional: true,
        placeholder: 'IMAGE',
        brief: 'The image that the delta was made from, if the store does not have it',
      },
      all: {
        kind: 'boolean',
        default: false,
        withNegated: false,
        brief: 'Show all files that cost something',
      },
    },
    positional: { kind: 'tuple', parameters: [oneOf('oci:DIR[:TAG]', 'The delta')] },
  },
  completes: ['folder'],
  async run(context, flags, place) {
    const opened = await openDelta(place);
    const { inspectDelta } = await import('../../../delta-image/inspect.ts');
    const layers = await withSources(context, flags, opened, (findTar) =>
      inspectDelta(opened.delta, opened.locate, findTar),
    );
    show(context, flags, opened, layers);
    return undefined;
  },
});

/** Opens the sources, from --from or the store; null where one of them is not there. */
async function withSources<T>(
  context: CliContext,
  flags: Flags & CommonFlags,
  { delta }: OpenedDelta,
  work: (findTar: FindTar | null) => Promise<T>,
): Promise<T> {
  const { OpenTars } = await import('../../../delta-image/tar-file.ts');
  const folder = mkdtempSync(join(tmpdir(), 'veneer-'));
  const tars = new OpenTars();
  try {
    const found =
      flags.from === undefined
        ? await storedSources(context, flags, delta.config.sources)
        : await sourcesOf(context, flags, flags.from, folder);
    const complete = delta.config.sources.every(({ diffId }) => found.has(diffId));
    return await work(complete ? (diffId) => tars.open(found.get(diffId)!) : null);
  } finally {
    tars.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function sourcesOf(
  context: CliContext,
  flags: CommonFlags,
  image: string,
  folder: string,
): Promise<Map<string, TarFile>> {
  let count = 0;
  const from = await openTars(context, flags, image, {
    workFile: () => join(folder, String(count++)),
    signal: context.signal,
  });
  try {
    const tars = await Promise.all(from.layers.map((_, index) => from.tar(index)));
    return new Map(tars.map((tar) => [tar.diffId, tar]));
  } finally {
    await from.close();
  }
}

async function storedSources(
  context: CliContext,
  flags: CommonFlags,
  sources: readonly { readonly diffId: string }[],
): Promise<Map<string, TarFile>> {
  const { locateLayerTar } = await import('../../../store/layer-tar.ts');
  const { hasLayer } = await import('../../../store/layers.ts');
  const { Store } = await import('../../../store/store.ts');
  const store = Store.open(storeRoot(flags, context.env));
  try {
    const there = sources.filter(({ diffId }) => store.exists() && hasLayer(store, diffId));
    return new Map(there.map(({ diffId }) => [diffId, locateLayerTar(store, diffId)]));
  } finally {
    store.close();
  }
}

function show(
  { out }: CliContext,
  { all }: Flags,
  { delta, dir, tag }: OpenedDelta,
  layers: readonly LayerSpending[],
): void {
  if (out.json) {
    const { config, manifest, digest, size } = delta;
    const facts = {
      layout: dir,
      tag,
      digest,
      artifactSize: size,
      source: config.source,
      target: manifest.subject.digest,
    };
    for (const layer of layers) {
      const files = layer.files?.map(({ path, ...file }) => ({ ...jsonName('path', path), ...file })) ?? null;
      out.result({ ...facts, ...layer, files }, () => []);
    }
    return;
  }
  if (out.quiet) return;
  out.lines([
    `${dir}:${tag}: ${formatBytes(delta.size)}, to ${delta.manifest.subject.digest}`,
    `made from the image with the ID ${delta.config.source}`,
  ]);
  for (const layer of layers) out.lines(layerLines(layer, all, (name) => out.nameBytes(name)));
}

function layerLines(layer: LayerSpending, all: boolean, shown: (name: string) => string): string[] {
  const { diffId, size, total, deltaSize, compressor, files } = layer;
  if (total === null) return [`layer ${diffId}, ${formatBytes(size)}: as in the source`];
  const lines = [
    `layer ${diffId}, ${formatBytes(size)}: ${formatBytes(deltaSize)}`,
    `  ${formatBytes(total.copied)} copied, ${formatBytes(total.patched + total.changed)} patched (${formatBytes(total.changed)} changed), ${formatBytes(total.literal)} literal`,
    `  compressed blob: ${compressor === null ? 'cannot be made again' : compressor.name}`,
  ];
  if (files === null) return [...lines, '  files: not told, the layers that it is made from are not here'];
  const costly = files.filter(({ cost }) => cost >= 0.5).sort((a, b) => b.cost - a.cost);
  const chosen = all ? costly : costly.slice(0, SHOWN);
  const rows = chosen.map((file) => [
    formatBytes(Math.round(file.cost)),
    formatBytes(file.size),
    formatBytes(file.copied + file.patched),
    formatBytes(file.changed),
    formatBytes(file.literal),
    Buffer.from(shown(file.path), 'latin1').toString(),
  ]);
  const table = alignColumns(
    [['COST', 'SIZE', 'KEPT', 'CHANGED', 'LITERAL', 'PATH'], ...rows],
    [0, 1, 2, 3, 4],
  );
  const rest = costly.length - chosen.length;
  return [...lines, ...table.map((row) => `  ${row}`), ...(rest > 0 ? [`  and ${rest} more (--all)`] : [])];
}
