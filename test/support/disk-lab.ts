/** Small disks for tests: a file system in a file, mounted through a loop device by mount(8). */
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { libc } from '../../src/sys/libc.ts';
import { missing, requireTool } from './require-tool.ts';

/** EXT4_IOC_SHUTDOWN, `_IOR('X', 125, __u32)` of fs/ext4/ext4.h. */
const EXT4_IOC_SHUTDOWN = 0x8004587d;
/** EXT4_GOING_FLAGS_NOLOGFLUSH: not even the journal is written any more. */
const NO_LOG_FLUSH = 2;

/** One every 50 ms. */
const UNMOUNT_TRIES = 100;

/** Programs that make file systems, and their arguments. */
const MAKERS = {
  ext4: ['mkfs.ext4', '-q', '-F', '-m', '0'],
  btrfs: ['mkfs.btrfs', '-q', '-f'],
  xfs: ['mkfs.xfs', '-q', '-f'],
} as const;

/** btrfs wants 128 MB at least, XFS 300 MB. */
export type DiskType = keyof typeof MAKERS;

export class SmallDisk {
  /** Where it is mounted. */
  readonly directory: string;
  readonly #place: string;
  readonly #file: string;
  #mounted = false;

  constructor(bytes: number, type: DiskType = 'ext4') {
    this.#place = mkdtempSync(join(tmpdir(), 'veneer-disk-'));
    this.directory = join(this.#place, 'disk');
    this.#file = join(this.#place, 'disk.img');
    mkdirSync(this.directory);
    writeFileSync(this.#file, '');
    truncateSync(this.#file, bytes);
    const [program, ...options] = MAKERS[type];
    execFileSync(program, [...options, this.#file]);
    this.mount();
  }

  mount(): void {
    execFileSync('mount', ['-o', 'loop', this.#file, this.directory]);
    this.#mounted = true;
  }

  unmount(): void {
    if (!this.#mounted) return;
    for (let tries = 1; ; tries++) {
      try {
        execFileSync('umount', [this.directory], { stdio: 'pipe' });
        break;
      } catch (error) {
        // The kernel closes the files behind a mount a moment after it was unmounted.
        if (tries === UNMOUNT_TRIES) throw error;
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
      }
    }
    this.#mounted = false;
  }

  /** Unmounts, even when a failed test left files open, and removes everything. */
  remove(): void {
    if (this.#mounted) execFileSync('umount', ['-l', this.directory]);
    this.#mounted = false;
    rmSync(this.#place, { recursive: true, force: true });
  }

  /** As if the power went: nothing is written any more, not even what the kernel has in memory already. */
  cutPower(): void {
    const fd = openSync(this.directory, 'r');
    const flags = Buffer.alloc(4);
    flags.writeUInt32LE(NO_LOG_FLUSH);
    const result = libc('ioctlPointer')(fd, EXT4_IOC_SHUTDOWN, flags);
    closeSync(fd);
    if (result !== 0) throw new Error('the file system cannot be shut down');
  }

  /** Mounts again what {@link cutPower} left; no file may be open there. */
  restorePower(): void {
    this.unmount();
    this.mount();
  }
}

/** A disk that goes with the test, or null when there is nothing to make one with: the test is skipped then. */
export function makeSmallDisk(t: TestContext, bytes: number, type: DiskType = 'ext4'): SmallDisk | null {
  if (process.getuid?.() !== 0) {
    missing(t, 'mounting a disk needs root');
    return null;
  }
  for (const tool of [MAKERS[type][0], 'mount', 'umount']) if (requireTool(t, tool) === null) return null;
  const disk = new SmallDisk(bytes, type);
  t.after(() => disk.remove());
  return disk;
}
