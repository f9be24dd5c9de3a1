/** `veneer merge` */
import { fittingBlockSize, planImage, writeImage } from '../../erofs/index.ts';
import { VeneerError } from '../../errors.ts';
import { formatBytes, formatCount } from '../../progress/units.ts';
import { hashSource } from '../../store/plain-tar.ts';
import { type DataSource, mergeLayers, usedSources } from '../../tree/index.ts';
import { asText, defineCommand, manyOf } from '../command.ts';
import type { CliContext } from '../context.ts';
import { type OpenImage, openImageFile } from '../open-image.ts';
import { FORCE_FLAG, withOutputs } from '../output-file.ts';
import { usageError } from '../parse.ts';
import { alignColumns } from '../table.ts';

type Flags = {
  readonly output?: string;
  readonly force: boolean;
};

export default defineCommand<Flags, string[]>({
  name: 'merge',
  brief: 'Merge layer images into one metadata image',
  usage: ['merge -o FSMETA IMAGE...'],
  description: `IMAGE... are the layers, lowest first: metadata images (veneer index) and self-contained ones (veneer convert),
in any mix. FSMETA shows all of them as one, whiteouts resolved, and holds no file data: its devices are the tars
of the metadata images and the self-contained images themselves. They are printed in the order in which a mount
has to name them; the device table carries their digests.`,
  examples: [
    ['merge -o fsmeta.erofs 00.tar.erofs 01.tar.erofs', 'two layers over their tars'],
    ['merge -o fsmeta.erofs base.erofs 01.tar.erofs', 'a self-contained base and a tar on it'],
    ['ls -l fsmeta.erofs:/etc', 'reads the result'],
  ],
  parameters: {
    flags: {
      output: {
        kind: 'parsed',
        parse: asText,
        optional: true,
        placeholder: 'FSMETA',
        brief: 'Name of the merged image',
      },
      ...FORCE_FLAG,
    },
    aliases: { o: 'output', f: 'force' },
    positional: manyOf('IMAGE', 'Layer images, lowest first'),
  },
  noRoot: true,
  completes: ['file'],
  async run(context, flags, ...paths) {
    const { output } = flags;
    if (output === undefined) throw usageError('merge', '-o FSMETA is missing');
    const images: OpenImage[] = [];
    try {
      for (const path of paths) images.push(await openImageFile(path, []));
      await withOutputs([output], { force: flags.force, signal: context.signal }, async ([file]) => {
        const owners = new Map<DataSource, OpenImage>();
        for (const image of images) nameOwnData(image, owners, context.signal);
        const merged = mergeLayers(images.map(({ tree }) => tree));
        const plan = planImage(merged, { blockSize: fittingBlockSize(usedSources(merged)) });
        writeImage(plan, file!, (source, at, length) => {
          const owner = owners.get(merged.sources[source]!);
          if (owner === undefined)
            throw new VeneerError(
              'erofs/unsupported',
              `Cannot merge: data at ${at} of device ${source} is not aligned to the blocks of the result`,
            );
          return owner.data(0).read(at, length);
        });
        const devices = plan.devices.map(({ source }, index) => {
          const { digest, size } = merged.sources[source]!;
          return {
            device: index + 1,
            file: owners.get(merged.sources[source]!)?.name ?? null,
            digest: digest || null,
            size,
          };
        });
        context.out.findings(merged.findings);
        report(context, output, plan.size, paths.length, devices);
      });
    } finally {
      for (const image of images) image.close();
    }
    return undefined;
  },
});

/** An image that holds data itself becomes a device: its slot carries the digest of the file. */
function nameOwnData(image: OpenImage, owners: Map<DataSource, OpenImage>, signal: AbortSignal): void {
  const own = image.tree.sources[0]!;
  if (!usedSources(image.tree).includes(own)) return;
  own.digest = hashSource(image.data(0), signal);
  owners.set(own, image);
}

interface Device {
  readonly device: number;
  readonly file: string | null;
  readonly digest: string | null;
  readonly size: number;
}

function report(
  { out }: CliContext,
  image: string,
  size: number,
  layers: number,
  devices: readonly Device[],
): void {
  out.result({ image, size, layers, devices }, () => [
    `${image}: ${formatCount(layers, 'layer')}, ${formatBytes(size)} of metadata over ${formatCount(devices.length, 'device')}`,
    ...alignColumns(
      devices.map(({ device, file, digest, size: bytes }) => [
        `  ${device}`,
        formatBytes(bytes),
        digest ?? '(no digest)',
        file ?? 'tar',
      ]),
      [0, 1],
    ),
  ]);
}
