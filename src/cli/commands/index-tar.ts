/** `veneer index` */
import { formatBytes, formatCount } from '../../progress/units.ts';
import { asText, defineCommand, manyOf } from '../command.ts';
import type { CliContext } from '../context.ts';
import { indexUdf, stripUdf, udfOutput } from '../index-udf.ts';
import { readInput } from '../input-stream.ts';
import { keepTar } from '../keep-tar.ts';
import { type LayerImage, type LayerJob, writeMetadata } from '../layer-image.ts';
import { FORCE_FLAG, imageNames, newMark, withOutputs } from '../output-file.ts';
import { usageError } from '../parse.ts';
import { sideBySide } from '../side-by-side.ts';

type Flags = {
  readonly output?: string;
  readonly tar?: string;
  readonly digest: boolean;
  readonly force: boolean;
  readonly format: 'erofs' | 'udf';
  readonly whiteouts?: 'sidecar' | 'literal';
  readonly names?: 'bytes' | 'unicode';
  readonly strip: boolean;
};

export default defineCommand<Flags, string[]>({
  name: 'index',
  brief: 'Write the metadata image of a tar',
  usage: [
    'index [--digest] [-o IMAGE] TAR...',
    'index --tar FILE [-o IMAGE] -',
    'index --format udf [--whiteouts sidecar|literal] [--names bytes|unicode] [-o FILE] TAR...',
    'index --strip TAR...',
  ],
  description: `Writes TAR.erofs beside each TAR: an EROFS image without file data, whose data device is the tar as it is.
Mounted together they show the tar's content: veneer reads both, and so does
"mount -t erofs -o device=TAR TAR.erofs DIR" with a loop device for each (512-byte blocks: Linux 6.4 or 6.1.113).
"-" reads standard input and needs --tar FILE to keep the tar in. TAR must not be compressed.
File data is not read. With --digest it is: the device slot then names the tar by its digest, which lets
"veneer merge" and every mount through the store tell tars apart.

--format udf appends a trailer to TAR itself (with -o, to a copy of it; "-" needs -o): it stays a tar, and the stock
udf.ko mounts it with the options that are printed. --strip takes the trailer off again. What UDF cannot hold is
listed, and goes to TAR.attributes.erofs and TAR.whiteouts.erofs, for overlayfs to lay above and below it.`,
  examples: [
    ['index layer.tar', 'makes layer.tar.erofs'],
    ['index -o layer.erofs layer.tar', 'under another name'],
    ['index -o images/ 00.tar 01.tar', 'several, into a folder'],
    ['index --tar layer.tar - < layer.tar.part', 'from a pipe, keeping a copy'],
    ['index --format udf layer.tar', 'appends a UDF trailer to layer.tar'],
    ['zcat layer.tar.gz | veneer index --format udf - -o layer.tar', 'the same from a pipe'],
    ['index --strip layer.tar', 'layer.tar as it was before'],
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
      tar: {
        kind: 'parsed',
        parse: asText,
        optional: true,
        placeholder: 'FILE',
        brief: 'With "-": where the tar is kept',
      },
      digest: {
        kind: 'boolean',
        default: false,
        withNegated: false,
        brief: 'Hash the tar and put its digest into the image',
      },
      format: {
        kind: 'enum',
        values: ['erofs', 'udf'],
        default: 'erofs',
        brief: 'An EROFS image beside the tar, or a UDF trailer behind it',
      },
      whiteouts: {
        kind: 'enum',
        values: ['sidecar', 'literal'],
        optional: true,
        brief: 'UDF: deleted names in a file for overlayfs, or as .wh. files for fuse-overlayfs',
      },
      names: {
        kind: 'enum',
        values: ['bytes', 'unicode'],
        optional: true,
        brief: 'UDF: names as any bytes (iocharset=iso8859-1), or as Unicode',
      },
      strip: {
        kind: 'boolean',
        default: false,
        withNegated: false,
        brief: 'Take a UDF trailer off again',
      },
      ...FORCE_FLAG,
    },
    aliases: { o: 'output', f: 'force' },
    positional: manyOf('TAR', 'Uncompressed tar'),
  },
  noRoot: true,
  completes: ['file'],
  async run(context, flags, ...tars) {
    if (flags.strip || flags.format === 'udf') return runUdf(context, flags, tars);
    if (flags.whiteouts !== undefined || flags.names !== undefined)
      throw usageError('index', '--whiteouts and --names go with --format udf only');
    if (tars.includes('-') && (flags.tar === undefined || tars.length > 1)) {
      throw usageError('index', '"-" goes alone and needs --tar FILE to keep the tar in');
    }
    if (flags.tar !== undefined && tars[0] !== '-') throw usageError('index', '--tar goes with "-" only');
    const kept = tars.map((tar) => (tar === '-' ? flags.tar! : tar));
    const images = imageNames('index', kept, flags.output);
    if (tars[0] === '-') await indexStream(context, flags, kept[0]!, images[0]!);
    else await indexFiles(context, flags, tars, images);
    return undefined;
  },
});

async function runUdf(context: CliContext, flags: Flags, tars: readonly string[]): Promise<undefined> {
  if (flags.tar !== undefined || flags.digest) {
    throw usageError(
      'index',
      '--tar and --digest are for EROFS: a trailer always holds the digest of its tar',
    );
  }
  if (flags.strip) {
    if (tars.includes('-') || flags.output !== undefined) {
      throw usageError('index', '--strip works on files in place: neither "-" nor -o goes with it');
    }
    for (const tar of tars) await stripUdf(context, tar);
    return undefined;
  }
  if (tars.includes('-') && tars.length > 1) throw usageError('index', '"-" goes alone');
  const { names = 'bytes', whiteouts = 'sidecar', force, output } = flags;
  const outputs = tars.map((tar) => udfOutput(tar, output, tars.length > 1));
  const twice = outputs.find((path, index) => outputs.indexOf(path) < index);
  if (twice !== undefined) throw usageError('index', `two inputs would both become ${twice}`);
  for (const [index, tar] of tars.entries()) {
    await indexUdf(context, { names, whiteouts, force, output }, tar, outputs[index]!);
  }
  return undefined;
}

async function indexFiles(
  context: CliContext,
  { force, digest }: Flags,
  tars: readonly string[],
  images: readonly string[],
): Promise<void> {
  const jobs = tars.map(
    (input, i): LayerJob => ({ kind: 'index', input, image: images[i]!, force, mark: newMark(), digest }),
  );
  await sideBySide(jobs, {
    signal: context.signal,
    onProgress: () => {},
    onDone: (made, { input, image }) => report(context, input, image, made),
  });
}

/** Standard input: kept, hashed and scanned in one pass. */
async function indexStream(context: CliContext, flags: Flags, tar: string, image: string): Promise<void> {
  const { signal } = context;
  const made = await withOutputs([tar, image], { force: flags.force, signal }, async ([kept, file]) => {
    const { tree, entries, size, findings } = await keepTar(readInput('-', signal), kept!, 'standard input');
    const source = { size, read: (at: number, length: number) => kept!.read(at, length) };
    return writeMetadata(tree, { entries, findings }, file!, source);
  });
  report(context, tar, image, made);
}

function report(
  { out }: CliContext,
  tar: string,
  image: string,
  { size, entries, tarSize, diffId, findings }: LayerImage,
): void {
  out.findings(findings);
  out.result({ tar, image, size, entries, tarSize, diffId, findings: findings.length }, () => [
    `${image}: ${formatCount(entries, 'entry')}, ${formatBytes(size)} of metadata for ${formatBytes(tarSize)} of tar`,
  ]);
}
