/**
 * A disk whose power can be cut: ext4 on a loop device over a file. What was written but never reached the device (it is
 * still in the page cache of the file system on it) is lost, just as it would be.
 *
 * The file stands on XFS, which clones it in one moment, however much is being written to it.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { requireTool } from './require-tool.ts';

const SIZE = '2G';

export class CutDisk {
  /** Where it is mounted, shared with other mount namespaces. */
  readonly path: string;
  readonly #directory: string;
  readonly #outer: string;

  private constructor() {
    this.#directory = mkdtempSync(join(tmpdir(), 'veneer-disk-'));
    this.path = join(this.#directory, 'disk');
    this.#outer = join(this.#directory, 'outer');
    mkdirSync(this.path);
    mkdirSync(this.#outer);
    const image = `${this.#outer}.img`;
    execFileSync('truncate', ['-s', SIZE, image]);
    execFileSync('mkfs.xfs', ['-q', '-m', 'reflink=1', image]);
    execFileSync('mount', ['-o', 'loop', image, this.#outer]);
    execFileSync('truncate', ['-s', SIZE, this.#file]);
    execFileSync('mkfs.ext4', ['-q', this.#file]);
    this.#mount();
  }

  /** Null, and the test skipped, where it cannot be made. */
  static make(t: TestContext): CutDisk | null {
    if (requireTool(t, 'mkfs.xfs') === null || requireTool(t, 'mkfs.ext4') === null) return null;
    return new CutDisk();
  }

  /** The disk as it is at this moment; after `kill`, which ends everybody who uses it, it is mounted again like that. */
  async cut(kill: () => Promise<void>): Promise<void> {
    const kept = join(this.#outer, 'kept');
    execFileSync('cp', ['--reflink=always', this.#file, kept]);
    await kill();
    this.#unmount();
    renameSync(kept, this.#file);
    this.#mount();
  }

  close(): void {
    this.#unmount();
    execFileSync('umount', ['--lazy', this.#outer]);
    rmSync(this.#directory, { recursive: true, force: true });
  }

  get #file(): string {
    return join(this.#outer, 'file');
  }

  #mount(): void {
    execFileSync('mount', ['-o', 'loop,commit=300', this.#file, this.path]);
    execFileSync('mount', ['--make-rshared', this.path]);
  }

  #unmount(): void {
    execFileSync('umount', ['--recursive', '--lazy', this.path]);
  }
}
