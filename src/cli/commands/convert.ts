/** `veneer convert` */
import { formatBytes, formatCount } from '../../progress/units.ts';
import { asText, defineCommand, manyOf } from '../command.ts';
import type { CliContext } from '../context.ts';
import type { LayerImage, LayerJob } from '../layer-image.ts';
import { FORCE_FLAG, imageNames, newMark } from '../output-file.ts';
import { usageError } from '../parse.ts';
import { PROGRESS_FLAG, type ProgressFlags, withProgress } from '../progress.ts';
import { sideBySide } from '../side-by-side.ts';

const BLOCK_SIZES = ['512', '1024', '2048', '4096'] as const;

type Flags = ProgressFlags & {
  readonly output?: string;
  readonly blockSize: (typeof BLOCK_SIZES)[number];
  readonly digest: boolean;
  readonly force: boolean;
};

export default defineCommand<Flags, string[]>({
  name: 'convert',
  brief: 'Turn one layer into one self-contained image',
  usage: ['convert [--block-size BYTES] [-o IMAGE] BLOB...'],
  description: `BLOB is a layer: a tar, plain or compressed with gzip or zstd; "-" is standard input and needs -o.
The image holds metadata and file data, needs no other file, and any tool can mount it: mount -t erofs IMAGE DIR.
Without -o it is BLOB.erofs; a folder behind -o takes any number.`,
  examples: [
    ['convert layer.tar.gz -o layer.erofs', 'one image'],
    ['convert --block-size 512 layer.tar -o layer.erofs', 'smaller blocks, for many small files (Linux 6.4)'],
    ['convert - -o layer.erofs < layer.tar.zst', 'from a pipe'],
  ],
  parameters: {
    flags: {
      output: {
        kind: 'parsed',
        parse: asText,
        optional: true,
        placeholder: 'IMAGE',
        brief: 'Name of the image, or a folder',
      },
      blockSize: { kind: 'enum', values: BLOCK_SIZES, default: '4096', brief: 'Block size in bytes' },
      digest: {
        kind: 'boolean',
        default: false,
        withNegated: false,
        brief: 'Hash the tar and tell its diffID',
      },
      ...FORCE_FLAG,
      ...PROGRESS_FLAG,
    },
    aliases: { o: 'output', f: 'force' },
    positional: manyOf('BLOB', 'Layer'),
  },
  noRoot: true,
  completes: ['file'],
  async run(context, flags, ...blobs) {
    if (blobs.includes('-') && (flags.output === undefined || blobs.length > 1))
      throw usageError('convert', '"-" goes alone and needs -o IMAGE');
    const images = imageNames('convert', blobs, flags.output);
    const { force, digest } = flags;
    const blockSize = Number(flags.blockSize);
    const jobs = blobs.map(
      (input, i): LayerJob => ({
        kind: 'convert',
        input,
        image: images[i]!,
        force,
        mark: newMark(),
        digest,
        blockSize,
      }),
    );
    await withProgress(context, flags, ({ onProgress }) =>
      sideBySide(jobs, {
        signal: context.signal,
        onProgress,
        onDone: (made, { input, image }) => report(context, input, image, made),
      }),
    );
    return undefined;
  },
});

function report(
  { out }: CliContext,
  blob: string,
  image: string,
  { size, entries, diffId, findings }: LayerImage,
): void {
  out.beforeStderr();
  out.findings(findings);
  out.result({ blob, image, entries, size, diffId, findings: findings.length }, () => [
    `${image}: ${formatCount(entries, 'entry')}, ${formatBytes(size)}`,
  ]);
}
