/** Opens a virtual disk for reading: raw files and VMDKs, ours and others'. */
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { VeneerError } from '../errors.ts';
import { SECTOR } from './segments.ts';
import { type DiskRun, DiskSource } from './source.ts';
import { isSparse, SparseExtent } from './sparse.ts';
import { isVmdk, type ReadExtent, type ReadVmdk, readVmdk } from './vmdk.ts';

export interface OpenDisk {
  readonly path: string;
  readonly format: 'raw' | 'vmdk';
  readonly sectors: number;
  readonly runs: readonly DiskRun[];
  readonly source: DiskSource;
  readonly vmdk: ReadVmdk | null;
  /** What keeps parts of it from being read: files that are missing or short, extents of other types. */
  readonly problems: readonly string[];
}

/** How disks begin that are neither raw nor VMDKs of VMware's desktop products. */
const OTHERS: readonly (readonly [magic: string, name: string])[] = [
  ['COWD', 'an ESX sparse disk'],
  ['QFI\xfb', 'a QCOW disk'],
  ['conectix', 'a VHD'],
  ['vhdxfile', 'a VHDX'],
  ['<<< ', 'a VDI'],
];
const MAX_DESCRIPTOR = 1 << 20;
const HEAD = 4096;
const NO_PARENT = 'ffffffff';

/** Opens the disk; the caller closes `source`. Throws `disk/corrupt` and `disk/unsupported`. */
export function openDisk(path: string): OpenDisk {
  // Looked at first: to open a FIFO would wait for somebody who writes.
  if (!statSync(path).isFile())
    throw new VeneerError('disk/unsupported', `Cannot read ${path} as a disk: it is no regular file`);
  const fd = openSync(path, 'r');
  try {
    const { size } = fstatSync(fd);
    const head = readHead(fd, Math.min(HEAD, size));
    const other = OTHERS.find(([magic]) => head.toString('latin1', 0, magic.length) === magic);
    if (other !== undefined) {
      throw new VeneerError('disk/unsupported', `Cannot read ${path}: it is ${other[1]}`, {
        hint: 'qemu-img convert -O raw makes a raw disk of it.',
      });
    }
    if (isSparse(head)) return openSparse(path);
    if (!isVmdk(head)) {
      const sectors = Math.floor(size / SECTOR);
      const runs = [{ sectors, path, at: 0 }];
      return { path, format: 'raw', sectors, runs, source: new DiskSource(runs), vmdk: null, problems: [] };
    }
    if (size > MAX_DESCRIPTOR)
      throw new VeneerError('disk/corrupt', `Cannot read ${path}: a descriptor of ${size} bytes`);
    return openVmdk(path, readVmdk(readHead(fd, size)));
  } finally {
    closeSync(fd);
  }
}

/** Opens the file of a hash tree; what fills no sector is left out. The caller closes it. */
export function openTreeFile(path: string): DiskSource {
  const stat = statSync(path);
  if (!stat.isFile())
    throw new VeneerError('disk/unsupported', `Cannot read ${path} as a hash tree: it is no regular file`);
  return new DiskSource([{ sectors: Math.floor(stat.size / SECTOR), path, at: 0 }]);
}

function readHead(fd: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  const count = readSync(fd, bytes, 0, length, 0);
  return bytes.subarray(0, count);
}

/** A disk in one file: its descriptor stands inside and names that file, whatever it is called by now. */
function openSparse(path: string): OpenDisk {
  const extent = new SparseExtent(path);
  try {
    if (extent.descriptor === null) {
      throw new VeneerError('disk/unsupported', `Cannot read ${path}: it is one extent of a VMDK`, {
        hint: 'Name the descriptor, the file that lists the extents.',
      });
    }
    const vmdk = readVmdk(extent.descriptor);
    const { sectors } = extent;
    const runs: DiskRun[] = [{ sectors, path, at: 0, sparse: true }];
    const source = new DiskSource(runs, new Map([[path, extent]]));
    return { path, format: 'vmdk', sectors, runs, source, vmdk, problems: parentProblems(vmdk) };
  } catch (error) {
    extent.close();
    throw error;
  }
}

/** What a snapshot does not hold stands in another disk. */
const parentProblems = ({ parentCid }: ReadVmdk): string[] =>
  parentCid === '' || parentCid === NO_PARENT
    ? []
    : [`it holds only differences to another disk, of CID ${parentCid}`];

function openVmdk(path: string, vmdk: ReadVmdk): OpenDisk {
  const problems = parentProblems(vmdk);
  const sparse = new Map<string, SparseExtent>();
  const told = new Set<string>();
  const tell = (file: string, problem: string | null): void => {
    if (problem !== null && !told.has(file)) problems.push(problem);
    if (problem !== null) told.add(file);
  };
  const runs = vmdk.extents.map((extent): DiskRun => {
    const { type, file, sectors, offset, access } = extent;
    if (type === 'ZERO') return { sectors, path: null, at: 0 };
    if ((type !== 'FLAT' && type !== 'SPARSE') || file === null) {
      problems.push(`an extent of type ${type} cannot be read`);
      return { sectors, path: null, at: 0 };
    }
    if (access !== 'RW') problems.push(`QEMU skips the extent of ${file}: its access is ${access}`);
    const target = resolve(dirname(path), file);
    if (type === 'FLAT') {
      tell(target, extentProblem(target, (offset + sectors) * SECTOR));
      return { sectors, path: target, at: offset * SECTOR };
    }
    const problem = openExtent(target, extent, sparse);
    tell(target, problem);
    return problem === null ? { sectors, path: target, at: 0, sparse: true } : { sectors, path: null, at: 0 };
  });
  const sectors = runs.reduce((sum, run) => sum + run.sectors, 0);
  return { path, format: 'vmdk', sectors, runs, source: new DiskSource(runs, sparse), vmdk, problems };
}

/** Opens a sparse extent into `open`; what is wrong with it, or null. */
function openExtent(path: string, { sectors }: ReadExtent, open: Map<string, SparseExtent>): string | null {
  const problem = extentProblem(path, SECTOR);
  if (problem !== null) return problem;
  try {
    const extent = open.get(path) ?? new SparseExtent(path);
    open.set(path, extent);
    return extent.sectors < sectors
      ? `${path} shows ${extent.sectors} sectors, the disk has ${sectors} of it`
      : null;
  } catch (error) {
    if (error instanceof VeneerError) return error.message;
    throw error;
  }
}

function extentProblem(path: string, end: number): string | null {
  let size: number | undefined;
  try {
    size = statSync(path, { throwIfNoEntry: false })?.size;
  } catch (error) {
    return `${path} cannot be looked at: ${(error as Error).message}`;
  }
  if (size === undefined) return `${path} is missing`;
  return size < end ? `${path} has ${size} bytes, the disk reads up to ${end}` : null;
}
