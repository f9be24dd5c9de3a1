/** `veneer index --format udf`: a trailer behind the tar itself, or behind a copy of it. */
import { readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { ByteSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import { formatBytes, formatCount } from '../progress/units.ts';
import { appendTrailer, ownTrailer, stripTrailer } from '../store/udf-append.ts';
import {
  type BuiltTrailer,
  buildTrailer,
  planTrailer,
  prefixOf,
  type TrailerOptions,
  writeTrailer,
} from '../store/udf-build.ts';
import { sidecarsOf, writeSidecar } from '../store/udf-sidecar.ts';
import type { FileTree } from '../tree/index.ts';
import { mountOptions, UDF_BLOCK } from '../udf/index.ts';
import type { CliContext } from './context.ts';
import { readInput } from './input-stream.ts';
import { keepTar } from './keep-tar.ts';
import { withOutputs } from './output-file.ts';
import { usageError } from './parse.ts';

export interface UdfFlags extends TrailerOptions {
  readonly output: string | undefined;
  readonly force: boolean;
}

/** Files beside the tar that an overlay needs too. */
export interface SidecarFiles {
  readonly attributes: string | null;
  readonly whiteouts: string | null;
}

/** Where `tar` with its trailer goes; `tar` itself when it stays in place. */
export function udfOutput(tar: string, output: string | undefined, several: boolean): string {
  if (output === undefined) {
    if (tar === '-') throw usageError('index', '"-" needs -o FILE: where the tar is kept');
    return tar;
  }
  if (statSync(output, { throwIfNoEntry: false })?.isDirectory()) {
    if (tar === '-') throw usageError('index', `-o has to name a file for "-", and ${output} is a folder`);
    return join(output, basename(tar));
  }
  if (several) throw usageError('index', `-o has to be a folder for several inputs, and ${output} is none`);
  return output;
}

export async function indexUdf(
  context: CliContext,
  flags: UdfFlags,
  tar: string,
  output: string,
): Promise<void> {
  const { signal } = context;
  if (tar === output) {
    let sidecars: SidecarFiles = { attributes: null, whiteouts: null };
    const built = await appendTrailer(tar, {
      ...flags,
      signal,
      asIs: flags.force,
      onPlanned: async (planned, source) => {
        sidecars = await writeSidecars(context, flags, output, planned, source);
      },
    });
    report(context, tar, output, built, sidecars, built.appended);
    return;
  }
  const { built, sidecars } = await withOutputs([output], { force: flags.force, signal }, async ([file]) => {
    const kept = await keepTar(readInput(tar, signal), file!, tar === '-' ? 'standard input' : tar);
    const { size, digest, entries, findings } = kept;
    const source = { size, read: (at: number, length: number) => file!.read(at, length) };
    const own = ownTrailer(source, tar, 'index', { signal, asIs: flags.force });
    let planned = planTrailer(kept.tree, { length: size, digest, entries }, findings, flags);
    if (own !== null) {
      // what came is a tar with its trailer: this one takes its place
      planned = buildTrailer(prefixOf(source, own.built.tarLength), tar, flags, signal);
      file!.truncate(planned.tarLength);
    }
    const written = await writeSidecars(context, flags, output, planned, source);
    writeTrailer(planned, file!, source);
    return { built: planned, sidecars: written };
  });
  report(context, tar, output, built, sidecars, true);
}

/** Writes the sidecars that are needed, beside the output; those that are there and the same stay. */
async function writeSidecars(
  { signal }: CliContext,
  { force }: UdfFlags,
  output: string,
  built: BuiltTrailer,
  tar: ByteSource,
): Promise<SidecarFiles> {
  const sidecars = sidecarsOf(built.tree, built.plan);
  const write = async (tree: FileTree | null, kind: string): Promise<string | null> => {
    if (tree === null) return null;
    const path = `${output}.${kind}.erofs`;
    const there = force ? null : readExisting(path);
    await withOutputs([path], { force: force || there !== null, signal }, async ([file]) => {
      const size = writeSidecar(tree, file!, (_source, at, length) => tar.read(at, length));
      if (there !== null && !(there.length === size && there.equals(file!.read(0, size)))) {
        throw new VeneerError('cli/exists', `Cannot write ${path}: it is there already`, {
          hint: '--force replaces it',
        });
      }
    });
    return path;
  };
  return {
    attributes: await write(sidecars.attributes, 'attributes'),
    whiteouts: await write(sidecars.whiteouts, 'whiteouts'),
  };
}

function readExisting(path: string): Buffer | null {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ? readFileSync(path) : null;
}

function report(
  { out }: CliContext,
  tar: string,
  output: string,
  built: BuiltTrailer,
  sidecars: SidecarFiles,
  appended: boolean,
): void {
  const { plan, tarLength, digest, entries, findings } = built;
  const size = plan.blocks * UDF_BLOCK - tarLength;
  const options = [
    'ro',
    'loop',
    ...mountOptions({ anchorSector: plan.anchorBlock, names: plan.options.names }),
  ];
  out.findings(findings);
  out.result(
    {
      tar,
      image: output,
      format: 'udf',
      size,
      entries,
      tarSize: tarLength,
      diffId: digest,
      anchor: plan.anchorBlock,
      mountOptions: options,
      attributes: sidecars.attributes,
      whiteouts: sidecars.whiteouts,
      appended,
      findings: findings.length,
    },
    () => [
      appended
        ? `${output}: ${formatCount(entries, 'entry')}, a trailer of ${formatBytes(size)} behind ${formatBytes(tarLength)} of tar`
        : `${output}: has its trailer already`,
      `  mount -t udf -o ${options.join(',')} ${output} DIR`,
      ...(sidecars.attributes === null ? [] : [`  above it in an overlay: ${sidecars.attributes}`]),
      ...(sidecars.whiteouts === null ? [] : [`  below it in an overlay: ${sidecars.whiteouts}`]),
    ],
  );
}

export async function stripUdf({ out, signal }: CliContext, tar: string): Promise<void> {
  const { tarLength, digest, removed } = await stripTrailer(tar, { signal });
  out.result(
    { tar, tarSize: tarLength, diffId: digest, removed },
    () => `${tar}: ${formatBytes(tarLength)} of tar again, ${digest}`,
  );
}
