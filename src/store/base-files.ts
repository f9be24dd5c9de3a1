/** The files of the store that a new layer is compared with, and the index of what they hold. */
import { closeSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { ByteSource } from '../bytes/io.ts';
import { decodeUnits, FIRST_BASE, type FileRange, indexFiles, UnitTable } from '../dedupe/index.ts';
import { ErofsReader } from '../erofs/reader.ts';
import { fileExtents } from '../tree/file-data.ts';
import { fileSource, openStored } from './data-files.ts';
import { LAYER_IMAGE, LAYER_UNITS } from './layout.ts';
import type { DeviceRecord } from './records.ts';

/** A layer.tar or layer.data; plain data, for it goes to the thread that ingests. */
export interface BaseFile {
  readonly path: string;
  readonly device: DeviceRecord & { readonly digest: string };
}

/** What is known of all files together, at most: 2^22 units are 16 GiB of data and 80 MiB of memory. */
const MAX_UNITS = 1 << 22;

/**
 * Base files, each opened when it is first compared. One object serves many layers, one after the other.
 * Files behind the limit are not looked at.
 */
export class BaseFiles {
  readonly devices: readonly BaseFile['device'][];
  readonly sources: readonly ByteSource[];
  readonly #files: readonly BaseFile[];
  readonly #fds = new Set<number>();
  #table: { readonly without: string; readonly units: UnitTable } | null = null;

  constructor(files: readonly BaseFile[]) {
    this.#files = files;
    this.devices = files.map(({ device }) => device);
    this.sources = files.map((file) => this.#openLater(file));
  }

  /** How records name base `i`. */
  record(i: number): DeviceRecord {
    const { diffId, file, size, digest } = this.devices[i]!;
    return file === 'layer.data' ? { diffId, file, size, digest } : { diffId, file, size };
  }

  /** All units of all files but those with the numbers `without`. */
  table(without: readonly number[] = []): UnitTable {
    const key = without.join();
    if (this.#table?.without === key) return this.#table.units;
    const table = new UnitTable();
    for (const [i, file] of this.#files.entries()) {
      if (without.includes(i)) continue;
      const units = readUnits(file, this.sources[i]!);
      if (table.count + units.length / 2 > MAX_UNITS) break;
      for (let at = 0; at < units.length; at += 2) table.add(units[at]!, i + FIRST_BASE, units[at + 1]!);
    }
    this.#table = { without: key, units: table };
    return table;
  }

  close(): void {
    for (const fd of this.#fds) closeSync(fd);
    this.#fds.clear();
  }

  #openLater({ path, device }: BaseFile): ByteSource {
    let open: ByteSource | null = null;
    return {
      size: device.size,
      read: (offset, length, scratch) => {
        if (open === null) {
          const fd = openStored(path);
          this.#fds.add(fd);
          open = fileSource(fd, path);
        }
        return open.read(offset, length, scratch);
      },
    };
  }
}

const NO_UNITS = new Uint32Array(0);

/** The index beside the file, made when it is missing. */
function readUnits({ path, device }: BaseFile, source: ByteSource): Uint32Array {
  const index = join(dirname(path), LAYER_UNITS);
  try {
    const units = decodeUnits(readFileSync(index));
    if (units !== null) return units;
  } catch {
    // made below
  }
  const encoded = indexFiles(source, dataRanges(join(dirname(path), LAYER_IMAGE), device.digest)).encode();
  try {
    writeFileSync(index, encoded, { mode: 0o444, flag: 'wx' });
  } catch {
    // A store that cannot be written, or another thread was first: it is made again when it is needed.
  }
  return decodeUnits(encoded) ?? NO_UNITS;
}

/** Where the data of files stands in the file of this digest, as the metadata image of its layer says. */
function dataRanges(image: string, digest: string): FileRange[] {
  const fd = openStored(image);
  try {
    const tree = new ErofsReader(fileSource(fd, image)).readTree();
    const source = tree.sources.findIndex((one) => one.digest === digest);
    const ranges: FileRange[] = [];
    const pending = [tree.root];
    for (let dir = pending.pop(); dir !== undefined; dir = pending.pop()) {
      for (const node of dir.children!.values()) {
        if (node.children !== null) pending.push(node);
        else
          for (const extent of fileExtents(node))
            if (extent.source === source) ranges.push({ at: extent.at, size: extent.length });
      }
    }
    return ranges;
  } finally {
    closeSync(fd);
  }
}
