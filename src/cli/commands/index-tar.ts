/** `veneer index` */
import { closeSync } from 'node:fs';
import type { ByteSource } from '../../bytes/io.ts';
import { DETECT_BYTES } from '../../compress/index.ts';
import { planImage, writeImage } from '../../erofs/index.ts';
import type { Finding } from '../../errors.ts';
import { formatBytes, formatCount } from '../../progress/units.ts';
import { fileSource } from '../../store/data-files.ts';
import { checkPlainTar, hashSource } from '../../store/plain-tar.ts';
import { scanSource } from '../../tar/index.ts';
import { type FileTree, TreeBuilder } from '../../tree/index.ts';
import { asText, defineCommand, manyOf } from '../command.ts';
import type { CliContext } from '../context.ts';
import { indexUdf, stripUdf, udfOutput } from '../index-udf.ts';
import { readInput } from '../input-stream.ts';
import { keepTar } from '../keep-tar.ts';
import { openRegular } from '../open-regular.ts';
import { FORCE_FLAG, imageNames, type OutputFile, withOutputs } from '../output-file.ts';
import { usageError } from '../parse.ts';

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

interface Indexed {
  readonly tree: FileTree;
  readonly entries: number;
  readonly findings: readonly Finding[];
}

/** A tar's own record size: with blocks of it every file's bytes can stay where they are. */
const BLOCK_SIZE = 512;

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
    for (const [index, tar] of tars.entries()) {
      if (tar === '-') await indexStream(context, flags, kept[index]!, images[index]!);
      else await indexFile(context, flags, tar, images[index]!);
    }
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

async function indexFile(context: CliContext, flags: Flags, tar: string, image: string): Promise<void> {
  const { signal } = context;
  const fd = openRegular(tar);
  try {
    const source = fileSource(fd, tar);
    checkPlainTar(source.read(0, Math.min(DETECT_BYTES, source.size)), tar);
    await withOutputs([image], { force: flags.force, signal }, async ([file]) => {
      const builder = new TreeBuilder();
      const scanner = scanSource(source, { onEntry: (entry) => builder.add(entry) });
      const tree = builder.finish();
      tree.sources[0]!.size = source.size;
      if (flags.digest) tree.sources[0]!.digest = hashSource(source, signal);
      const size = writeTree(tree, file!, source);
      report(context, tar, image, size, {
        tree,
        entries: scanner.entries,
        findings: [...scanner.findings, ...tree.findings],
      });
    });
  } finally {
    closeSync(fd);
  }
}

/** Standard input: kept, hashed and scanned in one pass. */
async function indexStream(context: CliContext, flags: Flags, tar: string, image: string): Promise<void> {
  const { signal } = context;
  await withOutputs([tar, image], { force: flags.force, signal }, async ([kept, file]) => {
    const { tree, entries, size, findings } = await keepTar(readInput('-', signal), kept!, 'standard input');
    const written = writeTree(tree, file!, { size, read: (at, length) => kept!.read(at, length) });
    report(context, tar, image, written, {
      tree,
      entries,
      findings: [...findings, ...tree.findings],
    });
  });
}

/** Returns the image's size in bytes. */
function writeTree(tree: FileTree, file: OutputFile, tar: ByteSource): number {
  const plan = planImage(tree, { blockSize: BLOCK_SIZE });
  writeImage(plan, file, (_source, at, length) => tar.read(at, length));
  return plan.size;
}

function report(
  { out }: CliContext,
  tar: string,
  image: string,
  size: number,
  { tree, entries, findings }: Indexed,
): void {
  const source = tree.sources[0]!;
  out.findings(findings);
  out.result(
    {
      tar,
      image,
      size,
      entries,
      tarSize: source.size,
      diffId: source.digest || null,
      findings: findings.length,
    },
    () => [
      `${image}: ${formatCount(entries, 'entry')}, ${formatBytes(size)} of metadata for ${formatBytes(source.size)} of tar`,
    ],
  );
}
