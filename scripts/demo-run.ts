/** What demos share: a scratch folder with a store, commands that are said and run, and nothing left behind. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const project = fileURLToPath(new URL('..', import.meta.url));
const launcher = join(project, 'bin/veneer.js');
export const scratch = mkdtempSync(join(tmpdir(), 'veneer-demo-'));
export const store = join(scratch, 'store');

export const say = (line = ''): void => void process.stdout.write(`${line}\n`);

/** What the user asked for: stop and clean up. */
export class Stopped extends Error {}

let stopped = false;
let child: ChildProcess | null = null;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    stopped = true;
    child?.kill(signal);
  });
}

export interface Ran {
  readonly stdout: string;
  readonly milliseconds: number;
}

/** Runs a program; what it says on stderr goes to the terminal. */
export function run(
  program: string,
  words: readonly string[],
  options: { quiet?: boolean } = {},
): Promise<Ran> {
  if (stopped) return Promise.reject(new Stopped());
  return new Promise((resolve, reject) => {
    const began = performance.now();
    child = spawn(program, words, { stdio: ['ignore', 'pipe', options.quiet ? 'ignore' : 'inherit'] });
    const chunks: Buffer[] = [];
    child.stdout!.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.on('error', reject);
    child.on('close', (code) => {
      child = null;
      if (stopped) reject(new Stopped());
      else if (code !== 0) reject(new Error(`${program} ${words.join(' ')} ended with code ${code}`));
      else
        resolve({ stdout: Buffer.concat(chunks).toString('utf8'), milliseconds: performance.now() - began });
    });
  });
}

/** Runs veneer on the store of the demo. */
export function veneer(...words: string[]): Promise<Ran> {
  return run(process.execPath, [launcher, ...words, '--root', store]);
}

/** Says the command, runs it. */
export function show(...words: string[]): Promise<Ran> {
  say(`$ veneer ${words.filter((word) => word !== '--json').join(' ')}`);
  return veneer(...words);
}

/** Why images cannot be mounted here, or null when they can. */
export async function whyNoMount(): Promise<string | null> {
  if (process.getuid?.() !== 0) return 'Mounting needs root';
  try {
    await veneer('doctor', '--json');
    return null;
  } catch (error) {
    if (error instanceof Stopped) throw error;
    return 'This machine cannot mount EROFS ("veneer doctor" says why)';
  }
}

const mountPoints: string[] = [];

/** A new folder to mount on. */
export function newMountPoint(name: string): string {
  const path = join(scratch, name);
  mkdirSync(path);
  mountPoints.push(path);
  return path;
}

function isMounted(path: string): boolean {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .some((line) => line.split(' ')[4] === path);
}

/** Runs the demo. Nothing stays: no mount, no file, after a failure and after Ctrl-C too. */
export async function runDemo(demo: () => Promise<void>): Promise<void> {
  try {
    await demo();
  } catch (error) {
    const wasStopped = stopped || error instanceof Stopped;
    process.stderr.write(
      wasStopped
        ? '\nStopped.\n'
        : `The demo failed: ${error instanceof Error ? error.message : String(error)}\n`,
    );
    process.exitCode = wasStopped ? 130 : 1;
  } finally {
    stopped = false;
    for (const path of mountPoints) if (isMounted(path)) await veneer('umount', '--lazy', path);
    rmSync(scratch, { recursive: true, force: true });
  }
  if (process.exitCode === undefined) say('Unmounted; everything is removed.');
}
