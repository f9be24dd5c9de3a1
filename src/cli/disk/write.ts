/** Writes a disk in one of its forms. */
import { createHash } from 'node:crypto';
import { ftruncateSync, realpathSync } from 'node:fs';
import { basename, dirname, relative, resolve } from 'node:path';
import { type DiskExtent, diskExtents, placeExtra, writeExtra } from '../../disk/extra.ts';
import { planFlat } from '../../disk/image.ts';
import type { PlacedPartition } from '../../disk/partitioned.ts';
import type { RawReport } from '../../disk/raw.ts';
import { type DiskPlan, SECTOR, SegmentList } from '../../disk/segments.ts';
import { DiskSource } from '../../disk/source.ts';
import { writeVmdk } from '../../disk/vmdk.ts';
import type { OnProgress } from '../../progress/events.ts';
import { OutputFile } from '../output-file.ts';
import { type DiskInput, readTail } from './input.ts';
import type { MadeTree, TreeRoom } from './trees.ts';
import type { UdfDisk } from './udf.ts';

export type DiskFormat = 'vmdk' | 'raw' | 'dm-table';

export interface DiskRequest {
  readonly output: string;
  readonly format: DiskFormat;
  readonly gpt: boolean;
  readonly verity: boolean;
  /** Whether hash trees have a superblock in front. */
  readonly superblock: boolean;
  /** The hash tree goes to this file instead of behind the data. */
  readonly hashFile: string | null;
  /** The disk is this volume instead of the EROFS image. */
  readonly udf: UdfDisk | null;
  /** VMDK: name files relative to the descriptor. */
  readonly relative: boolean;
  readonly force: boolean;
  readonly signal: AbortSignal;
  readonly onProgress: OnProgress;
}

export interface WrittenDisk {
  readonly output: string;
  readonly format: DiskFormat;
  /** Bytes. */
  readonly size: number;
  /** File beside the output that it needs; null when it needs none. */
  readonly extra: string | null;
  /** Of the flat disk, or one a partition; empty without verity. */
  readonly trees: readonly MadeTree[];
  readonly partitions: readonly PlacedPartition[];
  /** Of raw disks. */
  readonly raw: RawReport | null;
}

/** What a disk needs beside it has this name. */
export const extraName = (output: string): string => `${output}.extra`;

/**
 * Writes the disk. Output files get their names when all is there; a crash leaves `.NAME.XXXX.unfinished` files.
 */
export async function writeDisk(input: DiskInput, request: DiskRequest): Promise<WrittenDisk> {
  const files: OutputFile[] = [];
  const open = (path: string): OutputFile => {
    const file = new OutputFile(path, request.force);
    files.push(file);
    return file;
  };
  try {
    const output = open(request.output);
    let extra: OutputFile | null = null;
    const openExtra = (): OutputFile => (extra ??= open(extraName(request.output)));
    let hashFile: OutputFile | null = null;
    const { plan, trees, partitions, room } = await planDisk(input, request, {
      extra: openExtra,
      hashFile: () => (hashFile = open(request.hashFile!)),
    });
    const written = {
      output: request.output,
      format: request.format,
      size: plan.sectors * SECTOR,
      trees,
      partitions,
    };
    if (request.format === 'raw') {
      const { writeRaw } = await import('../../disk/raw.ts');
      const raw = await progress(request, `write ${request.output}`, written.size, (onProgress) =>
        writeRaw(output.fd, plan, { signal: request.signal, onProgress }),
      );
      // The extra file, where a tree may have been on its way to the disk, goes away.
      for (const file of [hashFile, output]) file?.commit();
      return { ...written, extra: null, raw };
    }
    const placed = placeExtra(plan, room?.size ?? 0);
    if (placed.size > 0) {
      ftruncateSync(openExtra().fd, placed.size);
      writeExtra(placed, openExtra());
    }
    const nameOf = fileNames(request, room);
    const extents = diskExtents(plan, placed, input.image.primary.path, nameOf);
    const text =
      request.format === 'vmdk'
        ? vmdkText(request, input, plan, extents, trees)
        : (await import('../../disk/dm-table.ts')).linearScript(extents);
    output.write(Buffer.from(text), 0);
    await new Promise((done) => setImmediate(done));
    request.signal.throwIfAborted();
    // The extra file first: a crash in between leaves a disk that is whole, or none.
    for (const file of files.reverse()) file.commit();
    return { ...written, extra: placed.size > 0 ? extraName(request.output) : null, raw: null };
  } finally {
    for (const file of files) file.discard();
  }
}

interface PlannedDisk {
  readonly plan: DiskPlan;
  readonly trees: readonly MadeTree[];
  readonly partitions: readonly PlacedPartition[];
  readonly room: TreeRoom | null;
}

async function planDisk(
  input: DiskInput,
  request: DiskRequest,
  open: { extra: () => OutputFile; hashFile: () => OutputFile },
): Promise<PlannedDisk> {
  if (request.udf !== null) return { plan: planVolume(request.udf), trees: [], partitions: [], room: null };
  let room: TreeRoom | null = null;
  let trees: MadeTree[] = [];
  if (request.verity) {
    const beside = request.hashFile === null ? null : open.hashFile();
    if (input.stored === null) {
      const { fd } = beside ?? open.extra();
      room = { fd, path: `/proc/self/fd/${fd}`, size: 0 };
    }
    const { fileTrees, flatTree } = await import('./trees.ts');
    const total = planFlat(input.image, null, readTail).sectors * SECTOR;
    trees = await progress(request, `hash ${input.name}`, total, async (onProgress) => {
      const options = { signal: request.signal, superblock: request.superblock, onProgress };
      return request.gpt ? fileTrees(input, room, options) : [await flatTree(input, room, options)];
    });
    if (beside !== null) {
      if (input.stored !== null) copyFile(trees[0]!, beside);
      return { plan: planFlat(input.image, null, readTail), trees, partitions: [], room: null };
    }
  }
  if (!request.gpt)
    return { plan: planFlat(input.image, trees[0] ?? null, readTail), trees, partitions: [], room };
  const identity = Buffer.from(input.digest.slice(input.digest.indexOf(':') + 1), 'hex');
  const { planPartitioned } = await import('../../disk/partitioned.ts');
  const options = { identity, trees: request.verity ? trees : null };
  return { ...planPartitioned(input.image, options, readTail), trees, room };
}

/** Copies a tree of the store. */
function copyFile({ path, size, at = 0 }: MadeTree, to: OutputFile): void {
  const source = new DiskSource([{ sectors: size / SECTOR, path, at }]);
  const buffer = Buffer.allocUnsafe(Math.min(1 << 20, size));
  try {
    for (let done = 0; done < size; done += buffer.length) {
      const piece = buffer.subarray(0, Math.min(buffer.length, size - done));
      source.readInto(piece, done);
      to.write(piece, done);
    }
  } finally {
    source.close();
  }
}

function planVolume({ header, parts, trailer }: UdfDisk): DiskPlan {
  const list = new SegmentList(readTail);
  list.addBytes('UDF header', header);
  for (const [i, part] of parts.entries()) list.addFile(`layer ${i + 1}`, part, part.size / SECTOR);
  list.addBytes('UDF trailer', trailer);
  return list.finish();
}

/** How the output calls the files that it points to; null is the extra file. */
function fileNames(request: DiskRequest, room: TreeRoom | null): (path: string | null) => string {
  const extra = extraName(request.output);
  const isExtra = (path: string | null): path is null => path === null || path === room?.path;
  if (request.format !== 'vmdk') return (path) => resolve(isExtra(path) ? extra : path);
  // Symlinks on the way to the output would lead relative names astray.
  const directory = realpathSync(dirname(resolve(request.output)));
  return (path) => {
    if (isExtra(path)) return `./${basename(extra)}`;
    const absolute = resolve(path);
    if (!request.relative) return absolute;
    const name = relative(directory, realpathSync(absolute));
    // QEMU takes what stands before a colon for a protocol, unless a slash comes first.
    return name.startsWith('../') ? name : `./${name}`;
  };
}

function vmdkText(
  request: DiskRequest,
  input: DiskInput,
  plan: DiskPlan,
  extents: readonly DiskExtent[],
  trees: readonly MadeTree[],
): string {
  const notes: Record<string, string> =
    request.udf === null ? { fsmeta: input.digest } : { 'udf.parts': volumeDigests(request.udf) };
  if (input.stored !== null) notes.manifest = input.stored.record.manifest.digest;
  if (trees.length > 0) notes['verity.roothash'] = trees.map(({ rootHash }) => rootHash).join(',');
  const cid = createHash('sha256')
    .update(JSON.stringify([notes, plan.sectors, plan.parts]))
    .digest()
    .readUInt32BE();
  // all ones and all ones but the last have meanings of their own
  return writeVmdk({ extents, cid: cid & 0x7fffffff, notes });
}

/** Lengths and digests of all that stands on a UDF disk, for `veneer verify`. */
function volumeDigests({ header, parts, trailer }: UdfDisk): string {
  const digested = (bytes: Buffer): { size: number; digest: string } => ({
    size: bytes.length,
    digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}`,
  });
  return [digested(header), ...parts, digested(trailer)]
    .map(({ size, digest }) => `${size / SECTOR}@${digest}`)
    .join(',');
}

async function progress<T>(
  { onProgress }: DiskRequest,
  what: string,
  total: number,
  work: (onProgress: (done: number) => void) => Promise<T>,
): Promise<T> {
  const id = 'disk';
  onProgress({ type: 'start', id, what, total });
  try {
    const result = await work((done) => onProgress({ type: 'advance', id, done: Math.min(done, total) }));
    onProgress({ type: 'end', id, outcome: 'done' });
    return result;
  } catch (error) {
    onProgress({ type: 'end', id, outcome: 'failed' });
    throw error;
  }
}
