/** Chains as virtual disks: a VMDK descriptor each, over the files of the store. For runtimes that start virtual machines. */
import { createHash } from 'node:crypto';
import { closeSync, fsyncSync, ftruncateSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { basename, join } from 'node:path';
import { diskExtents, type ExtraFile, placeExtra, writeExtra } from '../disk/extra.ts';
import { planFlat } from '../disk/image.ts';
import { readDiskImage } from '../disk/open-image.ts';
import { writeVmdk } from '../disk/vmdk.ts';
import { writeFileAtomic } from '../store/atomic.ts';
import { listDirectory } from '../store/catalog.ts';
import { digestHex } from '../store/layout.ts';
import type { MountableImage } from '../store/mountable.ts';
import type { Store } from '../store/store.ts';

const NAME = /^([0-9a-f]{64})\.vmdk(?:\.extra)?$/;

export class ChainDisks {
  readonly #store: Store;
  readonly directory: string;

  constructor(store: Store, directory: string) {
    this.#store = store;
    this.directory = directory;
  }

  pathOf(chainId: string): string {
    return join(this.directory, `${digestHex(chainId)}.vmdk`);
  }

  /**
   * Writes the descriptor, also where there is one: while the chain was not mounted, its files may have gone elsewhere.
   * It gets its name last: a crash leaves a whole disk or none.
   */
  async write(chainId: string, files: MountableImage): Promise<void> {
    const path = this.pathOf(chainId);
    const devices = files.devices.map((device) => device.path);
    const { image } = readDiskImage(files.primary, devices);
    const plan = planFlat(image, null, readTail);
    const extra = placeExtra(plan);
    const extraPath = `${path}.extra`;
    if (extra.size > 0) this.#writeExtra(extraPath, extra);
    const nameOf = (file: string | null): string => file ?? `./${basename(extraPath)}`;
    const extents = diskExtents(plan, extra, image.primary.path, nameOf);
    const cid = createHash('sha256').update(files.digest).digest().readUInt32BE() & 0x7fffffff;
    const text = writeVmdk({ extents, cid, notes: { fsmeta: files.digest } });
    await writeFileAtomic(path, text, { work: this.#store.work(), fsync: this.#store.fsync });
  }

  release(chainId: string): void {
    for (const suffix of ['', '.extra']) rmSync(this.pathOf(chainId) + suffix, { force: true });
  }

  /** Removes the disks of every chain but those that `keep` names. */
  sweep(keep: ReadonlySet<string>): void {
    for (const name of listDirectory(this.directory)) {
      const hex = NAME.exec(name)?.[1];
      if (hex !== undefined && !keep.has(`sha256:${hex}`)) this.release(`sha256:${hex}`);
    }
  }

  #writeExtra(path: string, extra: ExtraFile): void {
    rmSync(path, { force: true });
    const fd = openSync(path, 'wx', 0o444);
    try {
      ftruncateSync(fd, extra.size);
      writeExtra(extra, {
        write(chunk, at) {
          for (let done = 0; done < chunk.length; )
            done += writeSync(fd, chunk, done, chunk.length - done, at + done);
        },
      });
      if (this.#store.fsync) fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }
}

function readTail(path: string, at: number, length: number): Buffer {
  const fd = openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(length);
    readSync(fd, bytes, 0, length, at);
    return bytes;
  } finally {
    closeSync(fd);
  }
}
