/** Runs the real program, as a user would. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildImage, type LayerInput, writeLayout } from '../support/image-builder.ts';

export const LAUNCHER = fileURLToPath(new URL('../../bin/veneer.js', import.meta.url));

export interface Ran {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: Buffer;
  readonly stderr: string;
  /** stdout as text. */
  readonly text: string;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  readonly input?: Buffer | string;
  /** Runs as this user; needs root. */
  readonly uid?: number;
}

/**
 * The environment of a clean run: nothing of the caller's that changes what veneer does.
 * `npm test` builds first and says so; a test file that is run alone takes the sources as they are.
 */
export function cleanEnv(more: RunOptions['env'] = {}): NodeJS.ProcessEnv {
  const { PATH, HOME, LANG, VENEER_BUILT } = process.env;
  return { PATH, HOME, LANG, TZ: 'UTC', VENEER_FROM_SOURCE: VENEER_BUILT === '1' ? '0' : '1', ...more };
}

export function runVeneer(words: readonly string[], options: RunOptions = {}): Promise<Ran> {
  return run(process.execPath, [LAUNCHER, ...words], options);
}

export function run(program: string, words: readonly string[], options: RunOptions = {}): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, words, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: cleanEnv(options.env),
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.on('error', reject);
    child.stdin.on('error', () => {});
    child.stdin.end(options.input);
    child.on('close', (code, signal) => {
      const bytes = Buffer.concat(stdout);
      resolve({
        code,
        signal,
        stdout: bytes,
        text: bytes.toString('utf8'),
        stderr: Buffer.concat(stderr).toString('utf8'),
      });
    });
  });
}

/** A scratch folder with a store in it, both gone after the test. */
export class CliLab {
  readonly directory: string;
  readonly root: string;

  constructor(t: { after(work: () => void): void }) {
    this.directory = mkdtempSync(join(tmpdir(), 'veneer-cli-'));
    this.root = join(this.directory, 'store');
    t.after(() => {
      // Copies out of images may hold directories that not even their owner may write to.
      if (process.getuid?.() !== 0) spawnSync('chmod', ['-R', 'u+rwX', this.directory]);
      rmSync(this.directory, { recursive: true, force: true });
    });
  }

  path(...parts: string[]): string {
    return join(this.directory, ...parts);
  }

  /** Runs veneer on this store, in the scratch folder. */
  veneer(words: readonly string[], options: RunOptions = {}): Promise<Ran> {
    return runVeneer(words, {
      cwd: this.directory,
      ...options,
      env: { VENEER_ROOT: this.root, ...options.env },
    });
  }

  /** Makes an OCI layout and pulls it under `name`. */
  async pull(name: string, layers: readonly (Buffer | LayerInput)[]): Promise<Ran> {
    const layout = this.path(`layout-${name.replaceAll(/[^\w]/g, '-')}`);
    await writeLayout(layout, buildImage(layers));
    const ran = await this.veneer(['pull', `oci:${layout}:latest`, '--name', name]);
    if (ran.code !== 0) throw new Error(`pull failed: ${ran.stderr}`);
    return ran;
  }
}

/** One object a line. */
export function parseLines(text: string): Record<string, unknown>[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}
