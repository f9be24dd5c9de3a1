/** Mounts by the kernel, independent of veneer's own mount room; everything is released again. */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Oracle } from './oracle.ts';

/** A working folder whose mounts are undone, last first, when it is closed. */
export class MountLab {
  readonly oracle: Oracle;
  readonly directory: string;
  private readonly mounted: string[] = [];
  private counter = 0;

  constructor(oracle: Oracle) {
    this.oracle = oracle;
    this.directory = mkdtempSync(join(process.env.VENEER_TEST_TMP ?? tmpdir(), 'veneer-lab-'));
  }

  /** A fresh empty folder. */
  folder(name: string): string {
    const path = join(this.directory, `${this.counter++}-${name}`);
    mkdirSync(path);
    return path;
  }

  private async mountAt(
    target: string,
    type: string,
    source: string,
    options: ReadonlyArray<readonly [string, string | null]>,
    readonly = true,
  ): Promise<string> {
    await this.oracle.ask({ do: 'mount', type, source, target, options, readonly });
    this.mounted.push(target);
    return target;
  }

  /** An EROFS image file and the files of its device table in order; returns the mount point. */
  mountErofs(image: string, devices: readonly string[] = []): Promise<string> {
    return this.mountErofsAt(this.folder('erofs'), image, devices);
  }

  mountErofsAt(target: string, image: string, devices: readonly string[]): Promise<string> {
    const options = devices.map((file) => ['device', file] as const);
    return this.mountAt(target, 'erofs', image, options);
  }

  /** A read-only overlay of directories, lowest first; returns the mount point. */
  mountOverlay(lowest: readonly string[]): Promise<string> {
    // overlayfs wants at least two lower directories, or an upper one.
    const lowers = lowest.length === 1 ? [this.folder('empty'), ...lowest] : lowest;
    const options = lowers.toReversed().map((path) => ['lowerdir+', path] as const);
    return this.mountAt(this.folder('overlay'), 'overlay', 'overlay', options);
  }

  /** Memory to unpack into: it keeps every time stamp and large xattrs, which ext4 does not. */
  mountMemory(): Promise<string> {
    return this.mountAt(this.folder('memory'), 'tmpfs', 'tmpfs', [['mode', '0755']], false);
  }

  /** Undoes all mounts made so far. */
  async release(): Promise<void> {
    for (let target = this.mounted.pop(); target !== undefined; target = this.mounted.pop()) {
      await this.oracle.ask({ do: 'umount', target });
    }
  }

  /** Undoes the mounts and removes the folder. */
  async close(): Promise<void> {
    await this.release();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Why the kernel cannot be asked here, or null when it can. In CI that is a failure, not a skip. */
export function whyNoKernel(): string | null {
  if (process.getuid?.() !== 0) return 'mounting needs root';
  if (!existsSync('/proc/filesystems')) return 'no /proc';
  return null;
}
