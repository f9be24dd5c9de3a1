/** From the bytes of one tar to the plan of its trailer, and trailers compared with what is on disk. */
import { alignUp } from '../bytes/align.ts';
import type { ByteSink, ByteSource } from '../bytes/io.ts';
import { DETECT_BYTES } from '../compress/index.ts';
import type { Finding } from '../errors.ts';
import { scanSource } from '../tar/index.ts';
import { type FileTree, TreeBuilder } from '../tree/index.ts';
import { type NameEncoding, planUdf, UDF_BLOCK, type UdfPlan, writeUdf } from '../udf/index.ts';
import { checkPlainTar, hashSource } from './plain-tar.ts';

export interface TrailerOptions {
  readonly names: NameEncoding;
  readonly whiteouts: 'sidecar' | 'literal';
}

/** A tar and the trailer that belongs behind it. */
export interface BuiltTrailer {
  readonly tree: FileTree;
  readonly plan: UdfPlan;
  /** `sha256:…` of the tar. */
  readonly digest: string;
  readonly tarLength: number;
  /** Members of the tar. */
  readonly entries: number;
  /** What was odd in the tar, and what UDF cannot hold of it. */
  readonly findings: readonly Finding[];
}

/** The first `length` bytes of `source`. */
export function prefixOf(source: ByteSource, length: number): ByteSource {
  return {
    size: length,
    read(offset, count) {
      if (offset + count > length)
        throw new RangeError(`Cannot read at ${offset}: ${length} bytes are there`);
      return source.read(offset, count);
    },
  };
}

/** Reads a tar twice: its headers for the tree, all of it for the digest. Throws what scan and tree throw. */
export function buildTrailer(
  tar: ByteSource,
  name: string,
  options: TrailerOptions,
  signal: AbortSignal,
): BuiltTrailer {
  checkPlainTar(tar.read(0, Math.min(DETECT_BYTES, tar.size)), name);
  const builder = new TreeBuilder();
  const scanner = scanSource(tar, { onEntry: (entry) => builder.add(entry) });
  const digest = hashSource(tar, signal);
  return planTrailer(
    builder.finish(),
    { length: tar.size, digest, entries: scanner.entries },
    scanner.findings,
    options,
  );
}

/** Plans the trailer of a tree that was scanned already. */
export function planTrailer(
  tree: FileTree,
  tar: { readonly length: number; readonly digest: string; readonly entries: number },
  findings: readonly Finding[],
  options: TrailerOptions,
): BuiltTrailer {
  tree.sources[0]!.size = tar.length;
  tree.sources[0]!.digest = tar.digest;
  const firstBlock = Math.ceil(tar.length / UDF_BLOCK);
  const plan = planUdf(tree, { ...options, bases: [0], firstBlock, header: false });
  return {
    tree,
    plan,
    digest: tar.digest,
    tarLength: tar.length,
    entries: tar.entries,
    findings: [...findings, ...tree.findings, ...plan.unheld.findings],
  };
}

/** Writes padding and trailer behind a tar; `commit` is called right before the last block, the anchor. */
export function writeTrailer(
  built: BuiltTrailer,
  sink: ByteSink,
  tar: ByteSource,
  commit?: () => void,
): void {
  const { tarLength, digest } = built;
  const padding = alignUp(tarLength, UDF_BLOCK) - tarLength;
  if (padding > 0) sink.write(Buffer.alloc(padding), tarLength);
  const read = (_source: number, at: number, length: number): Buffer => tar.read(at, length);
  writeUdf(built.plan, { tarLength, digest }, sink, read, commit);
}

/** How far what stands behind a tar is the trailer that belongs there. */
export type TailState =
  /** All of it, and nothing else. */
  | 'whole'
  /** Some of it: blocks of the trailer, blocks of zeros, nothing else and not more. */
  | 'partial'
  | 'foreign';

/** Compares the bytes of `file` behind the tar with the trailer; reads them all. */
export function compareTail(built: BuiltTrailer, file: ByteSource): TailState {
  const end = built.plan.blocks * UDF_BLOCK;
  if (file.size > end) return 'foreign';
  let state: TailState = file.size === end ? 'whole' : 'partial';
  const compare = (chunk: Buffer, at: number): void => {
    const there = file.read(at, Math.max(0, Math.min(chunk.length, file.size - at)));
    if (state === 'foreign' || there.equals(chunk.subarray(0, there.length))) return;
    state = isPartOf(there, chunk) ? 'partial' : 'foreign';
  };
  writeTrailer(
    built,
    { write: (chunk, at) => at < file.size && compare(chunk, at) },
    prefixOf(file, built.tarLength),
  );
  return state;
}

/** Is every block of `there` the one of `chunk`, or nothing but zeros? What a crash lost reads as zeros. */
function isPartOf(there: Buffer, chunk: Buffer): boolean {
  for (let at = 0; at < there.length; at += UDF_BLOCK) {
    const block = there.subarray(at, at + UDF_BLOCK);
    if (!block.equals(chunk.subarray(at, at + block.length)) && block.some((byte) => byte !== 0))
      return false;
  }
  return true;
}
