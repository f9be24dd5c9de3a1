/** One layer to one image file: what `index` and `convert` do with each input, in any thread. */
import { createHash } from 'node:crypto';
import { closeSync, statSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import type { ByteSource } from '../bytes/io.ts';
import { DETECT_BYTES, decompress } from '../compress/index.ts';
import { planImage, SelfContainedWriter, writeImage } from '../erofs/index.ts';
import type { Finding } from '../errors.ts';
import type { OnProgress } from '../progress/events.ts';
import { fileSource } from '../store/data-files.ts';
import { checkPlainTar, hashSource } from '../store/plain-tar.ts';
import { fastestInflater } from '../sys/isal.ts';
import { scanSource, TarScanner } from '../tar/index.ts';
import { type FileTree, TreeBuilder } from '../tree/index.ts';
import { readInput } from './input-stream.ts';
import { openRegular } from './open-regular.ts';
import { type OutputFile, withOutputs } from './output-file.ts';

/** `index`: the metadata image of a plain tar. `convert`: a self-contained image of any layer. */
export type LayerJob = {
  /** File name; for `convert` also "-". */
  readonly input: string;
  readonly image: string;
  readonly force: boolean;
  /** Of its unfinished file (see output-file.ts). */
  readonly mark: string;
  /** Tell the diffID. */
  readonly digest: boolean;
} & ({ readonly kind: 'index' } | { readonly kind: 'convert'; readonly blockSize: number });

export interface LayerImage {
  /** Members of the tar. */
  readonly entries: number;
  /** Bytes of the image, and of the tar. */
  readonly size: number;
  readonly tarSize: number;
  readonly diffId: string | null;
  readonly findings: readonly Finding[];
}

/** A tar's own record size: with blocks of it every file's bytes can stay where they are. */
const RECORD = 512;

/** Makes the image; the file has its name only when all went well. */
export function makeLayerImage(
  job: LayerJob,
  signal: AbortSignal,
  onProgress: OnProgress,
): Promise<LayerImage> {
  return job.kind === 'index' ? indexFile(job, signal) : convertFile(job, signal, onProgress);
}

async function indexFile(
  { input, image, force, mark, digest }: LayerJob,
  signal: AbortSignal,
): Promise<LayerImage> {
  const fd = openRegular(input);
  try {
    const source = fileSource(fd, input);
    checkPlainTar(source.read(0, Math.min(DETECT_BYTES, source.size)), input);
    return await withOutputs([image], { force, signal, mark }, async ([file]) => {
      const builder = new TreeBuilder();
      const { entries, findings } = scanSource(source, { onEntry: (entry) => builder.add(entry) });
      const tree = builder.finish();
      tree.sources[0]!.size = source.size;
      if (digest) tree.sources[0]!.digest = hashSource(source, signal);
      return writeMetadata(tree, { entries, findings }, file!, source);
    });
  } finally {
    closeSync(fd);
  }
}

/** Writes the metadata image over a raw tar. */
export function writeMetadata(
  tree: FileTree,
  scanned: { readonly entries: number; readonly findings: readonly Finding[] },
  file: OutputFile,
  tar: ByteSource,
): LayerImage {
  const plan = planImage(tree, { blockSize: RECORD });
  writeImage(plan, file, (_source, at, length) => tar.read(at, length));
  const { size, digest } = tree.sources[0]!;
  return {
    entries: scanned.entries,
    size: plan.size,
    tarSize: size,
    diffId: digest || null,
    findings: [...scanned.findings, ...tree.findings],
  };
}

async function convertFile(
  { input, image, force, mark, digest, blockSize }: Extract<LayerJob, { kind: 'convert' }>,
  signal: AbortSignal,
  onProgress: OnProgress,
): Promise<LayerImage> {
  onProgress({ type: 'start', id: input, what: input, total: input === '-' ? 0 : statSync(input).size });
  const made = await withOutputs([image], { force, signal, mark }, async ([file]) => {
    const writer = new SelfContainedWriter(blockSize, file!);
    const scanner = new TarScanner({ onEntry: writer.onEntry, onPayload: writer.onPayload });
    const hash = digest ? createHash('sha256') : null;
    let checksum = 0;
    let tarSize = 0;
    const read = counted(readInput(input, signal), (done) =>
      onProgress({ type: 'advance', id: input, done }),
    );
    for await (const chunk of decompress(read, fastestInflater)) {
      hash?.update(chunk);
      checksum = crc32(chunk, checksum);
      tarSize += chunk.length;
      scanner.write(chunk);
    }
    scanner.end();
    // the checksum is for the image's UUID only: another tar, another UUID
    const { tree, size } = writer.finish(`crc32:${checksum}`, (_source, at, length) =>
      file!.read(at, length),
    );
    return {
      entries: scanner.entries,
      size,
      tarSize,
      diffId: hash === null ? null : `sha256:${hash.digest('hex')}`,
      findings: [...scanner.findings, ...tree.findings],
    };
  });
  onProgress({ type: 'end', id: input, outcome: 'done' });
  return made;
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
