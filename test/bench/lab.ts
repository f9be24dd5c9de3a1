/** What all contests share: the images, a folder to work in, mounting by our own means. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { MountLab } from '../support/kernel-mount.ts';
import { Oracle } from '../support/oracle.ts';
import { type BenchImage, PROJECT } from './inputs.ts';

export class BenchLab {
  readonly directory: string;
  readonly images: readonly BenchImage[];
  readonly oracle = new Oracle();
  readonly mounts = new MountLab(this.oracle);

  constructor(directory: string, images: readonly BenchImage[]) {
    this.directory = directory;
    this.images = images;
  }

  /** A folder that is empty now. */
  fresh(name: string): string {
    const path = join(this.directory, name);
    rmSync(path, { recursive: true, force: true });
    mkdirSync(path, { recursive: true });
    return path;
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  remove(name: string): void {
    rmSync(join(this.directory, name), { recursive: true, force: true });
  }

  async close(): Promise<void> {
    await this.mounts.close();
    await this.oracle.close();
  }
}

const LAUNCHER = join(PROJECT, 'bin/veneer.js');

/** Our own command line, as a user runs it. */
export function veneer(...words: readonly string[]): string[] {
  return [process.execPath, LAUNCHER, ...words];
}

/** Runs it without measuring. */
export function runVeneer(...words: readonly string[]): void {
  execFileSync(process.execPath, [LAUNCHER, ...words], { stdio: ['ignore', 'ignore', 'inherit'] });
}

export function run(argv: readonly string[]): void {
  execFileSync(argv[0]!, argv.slice(1), { stdio: ['ignore', 'ignore', 'inherit'] });
}
