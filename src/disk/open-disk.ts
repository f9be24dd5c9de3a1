/** Opens a virtual disk for reading: raw files and VMDKs of flat extents, ours and others'. */
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { VeneerError } from '../errors.ts';
import { SECTOR } from './segments.ts';
import { type DiskRun, DiskSource } from './source.ts';
import { isVmdk, type ReadVmdk, readVmdk } from './vmdk.ts';

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

/** `SPARSE_MAGICNUMBER` and `COWD_MAGIC`: disks with a grain table, which are not read. */
const SPARSE = ['KDMV', 'COWD'];
const MAX_DESCRIPTOR = 1 << 20;
const HEAD = 4096;

/** Opens the disk; the caller closes `source`. Throws `disk/corrupt` and `disk/unsupported`. */
export function openDisk(path: string): OpenDisk {
  const fd = openSync(path, 'r');
  try {
    const { size } = fstatSync(fd);
    const head = readHead(fd, Math.min(HEAD, size));
    if (SPARSE.includes(head.toString('latin1', 0, 4))) {
      throw new VeneerError('disk/unsupported', `Cannot read ${path}: it is a sparse VMDK`, {
        hint: 'qemu-img convert -O raw makes a raw disk of it.',
      });
    }
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

function readHead(fd: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  const count = readSync(fd, bytes, 0, length, 0);
  return bytes.subarray(0, count);
}

function openVmdk(path: string, vmdk: ReadVmdk): OpenDisk {
  const problems: string[] = [];
  const checked = new Set<string>();
  const runs = vmdk.extents.map(({ type, file, sectors, offset, access }): DiskRun => {
    if (type === 'ZERO') return { sectors, path: null, at: 0 };
    if (type !== 'FLAT' || file === null) {
      problems.push(`an extent of type ${type} cannot be read`);
      return { sectors, path: null, at: 0 };
    }
    if (access !== 'RW') problems.push(`QEMU skips the extent of ${file}: its access is ${access}`);
    const target = resolve(dirname(path), file);
    const problem = extentProblem(target, (offset + sectors) * SECTOR);
    if (problem !== null && !checked.has(target)) problems.push(problem);
    if (problem !== null) checked.add(target);
    return { sectors, path: target, at: offset * SECTOR };
  });
  const sectors = runs.reduce((sum, run) => sum + run.sectors, 0);
  return { path, format: 'vmdk', sectors, runs, source: new DiskSource(runs), vmdk, problems };
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
