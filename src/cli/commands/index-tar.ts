/** `veneer index` */
import { createHash } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import type { ByteSource } from '../../bytes/io.ts';
import { DETECT_BYTES, detectCompression } from '../../compress/index.ts';
import { planImage, writeImage } from '../../erofs/index.ts';
import { type Finding, VeneerError } from '../../errors.ts';
import { formatBytes, formatCount } from '../../progress/units.ts';
import { fileSource } from '../../store/data-files.ts';
import { scanSource, TarScanner } from '../../tar/index.ts';
import { type FileTree, TreeBuilder } from '../../tree/index.ts';
import { asText, defineCommand, manyOf } from '../command.ts';
import type { CliContext } from '../context.ts';
import { readInput } from '../input-stream.ts';
import { FORCE_FLAG, imageNames, type OutputFile, withOutputs } from '../output-file.ts';
import { usageError } from '../parse.ts';

type Flags = {
  readonly output?: string;
  readonly tar?: string;
  readonly digest: boolean;
  readonly force: boolean;
};

interface Indexed {
  readonly tree: FileTree;
  readonly entries: number;
  readonly findings: readonly Finding[];
}

/** A tar's own record size: with blocks of it every file's bytes can stay where they are. */
const BLOCK_SIZE = 512;
const HASH_CHUNK = 4 << 20;

export default defineCommand<Flags, string[]>({
  name: 'index',
  brief: 'Write the metadata image of a tar',
  usage: ['index [--digest] [-o IMAGE] TAR...', 'index --tar FILE [-o IMAGE] -'],
  description: `Writes TAR.erofs beside each TAR: an EROFS image without file data, whose data device is the tar as it is.
Mounted together they show the tar's content: veneer reads both, and so does
"mount -t erofs -o device=TAR TAR.erofs DIR" with a loop device for each (512-byte blocks: Linux 6.4).
"-" reads standard input and needs --tar FILE to keep the tar in. TAR must not be compressed.
File data is not read. With --digest it is: the device slot then names the tar by its digest, which lets
"veneer merge" and every mount through the store tell tars apart.`,
  examples: [
    ['index layer.tar', 'makes layer.tar.erofs'],
    ['index -o layer.erofs layer.tar', 'under another name'],
    ['index -o images/ 00.tar 01.tar', 'several, into a folder'],
    ['index --tar layer.tar - < layer.tar.part', 'from a pipe, keeping a copy'],
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
      ...FORCE_FLAG,
    },
    aliases: { o: 'output', f: 'force' },
    positional: manyOf('TAR', 'Uncompressed tar'),
  },
  noRoot: true,
  completes: ['file'],
  async run(context, flags, ...tars) {
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

async function indexFile(context: CliContext, flags: Flags, tar: string, image: string): Promise<void> {
  const { signal } = context;
  const fd = openSync(tar, 'r');
  try {
    const source = fileSource(fd, tar);
    checkPlain(source.read(0, Math.min(DETECT_BYTES, source.size)), tar);
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
    const builder = new TreeBuilder();
    const scanner = new TarScanner({ onEntry: (entry) => builder.add(entry) });
    const hash = createHash('sha256');
    let size = 0;
    for await (const chunk of readInput('-', signal)) {
      if (size === 0) checkPlain(chunk, 'standard input');
      kept!.write(chunk, size);
      size += chunk.length;
      hash.update(chunk);
      scanner.write(chunk);
    }
    scanner.end();
    const tree = builder.finish();
    tree.sources[0]!.size = size;
    tree.sources[0]!.digest = `sha256:${hash.digest('hex')}`;
    const written = writeTree(tree, file!, { size, read: (at, length) => kept!.read(at, length) });
    report(context, tar, image, written, {
      tree,
      entries: scanner.entries,
      findings: [...scanner.findings, ...tree.findings],
    });
  });
}

/** Returns the image's size in bytes. */
function writeTree(tree: FileTree, file: OutputFile, tar: ByteSource): number {
  const plan = planImage(tree, { blockSize: BLOCK_SIZE });
  writeImage(plan, file, (_source, at, length) => tar.read(at, length));
  return plan.size;
}

function hashSource(source: ByteSource, signal: AbortSignal): string {
  const hash = createHash('sha256');
  for (let at = 0; at < source.size; at += HASH_CHUNK) {
    signal.throwIfAborted();
    hash.update(source.read(at, Math.min(HASH_CHUNK, source.size - at)));
  }
  return `sha256:${hash.digest('hex')}`;
}

function checkPlain(head: Buffer, name: string): void {
  const kind = detectCompression(head);
  if (kind === 'none') return;
  throw new VeneerError('cli/compressed', `Cannot index ${name}: it is compressed (${kind})`, {
    hint: 'uncompress it first, or make a self-contained image of it: veneer convert BLOB -o FILE',
  });
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
