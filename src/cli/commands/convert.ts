/** `veneer convert` */
import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { decompress } from '../../compress/index.ts';
import { SelfContainedWriter } from '../../erofs/index.ts';
import { formatBytes, formatCount } from '../../progress/units.ts';
import { fastestInflater } from '../../sys/isal.ts';
import { TarScanner } from '../../tar/index.ts';
import { asText, defineCommand, manyOf } from '../command.ts';
import type { CliContext } from '../context.ts';
import { readInput } from '../input-stream.ts';
import { FORCE_FLAG, imageNames, type OutputFile, withOutputs } from '../output-file.ts';
import { usageError } from '../parse.ts';
import { PROGRESS_FLAG, type ProgressFlags, withProgress } from '../progress.ts';

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
    for (const [index, blob] of blobs.entries()) await convertOne(context, flags, blob, images[index]!);
    return undefined;
  },
});

async function convertOne(context: CliContext, flags: Flags, blob: string, image: string): Promise<void> {
  const { out, signal } = context;
  const total = blob === '-' ? 0 : statSync(blob).size;
  const result = await withOutputs([image], { force: flags.force, signal }, ([file]) =>
    withProgress(context, flags, async ({ onProgress }) => {
      onProgress({ type: 'start', id: blob, what: blob, total });
      const converted = await convert(blob, Number(flags.blockSize), file!, flags.digest, signal, (done) =>
        onProgress({ type: 'advance', id: blob, done }),
      );
      onProgress({ type: 'end', id: blob, outcome: 'done' });
      return converted;
    }),
  );
  out.findings(result.findings);
  out.result({ blob, image, ...result, findings: result.findings.length }, () => [
    `${image}: ${formatCount(result.entries, 'entry')}, ${formatBytes(result.size)}`,
  ]);
}

async function convert(
  blob: string,
  blockSize: number,
  file: OutputFile,
  digest: boolean,
  signal: AbortSignal,
  onRead: (bytes: number) => void,
) {
  const writer = new SelfContainedWriter(blockSize, file);
  const scanner = new TarScanner({ onEntry: writer.onEntry, onPayload: writer.onPayload });
  const hash = digest ? createHash('sha256') : null;
  let checksum = 0;
  for await (const chunk of decompress(counted(readInput(blob, signal), onRead), fastestInflater)) {
    hash?.update(chunk);
    checksum = crc32(chunk, checksum);
    scanner.write(chunk);
  }
  scanner.end();
  // the checksum is for the image's UUID only: another tar, another UUID
  const { tree, size } = writer.finish(`crc32:${checksum}`, (_source, at, length) => file.read(at, length));
  return {
    entries: scanner.entries,
    size,
    diffId: hash === null ? null : `sha256:${hash.digest('hex')}`,
    findings: [...scanner.findings, ...tree.findings],
  };
}

async function* counted(
  input: AsyncIterable<Buffer>,
  onRead: (bytes: number) => void,
): AsyncGenerator<Buffer> {
  let bytes = 0;
  for await (const chunk of input) {
    yield chunk;
    bytes += chunk.length;
    onRead(bytes);
  }
}
