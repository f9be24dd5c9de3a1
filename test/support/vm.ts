/** Real kernels: one boot of a Debian kernel under QEMU with a script in it, by test/vm/run.sh. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { missing, requireTool } from './require-tool.ts';

const RUN = fileURLToPath(new URL('../vm/run.sh', import.meta.url));
const CACHE = process.env.VENEER_VM ?? fileURLToPath(new URL('../../.cache/vm', import.meta.url));

/** `npm test` boots one kernel; without this setting (`npm run test:vm`) all are. */
const ONLY = process.env.VENEER_VM_KERNELS?.split(' ');

/** Debian 12's 6.1, its backports' 6.12, Debian 13's 6.12, Debian sid's. */
export type VmKernel = 'bookworm' | 'bpo' | 'trixie' | 'sid';

export interface VmDisk {
  readonly path: string;
  /** As QEMU calls it; default `raw`. */
  readonly format?: 'raw' | 'vmdk' | 'qcow2';
  /** `ro` (default) is a read-only device, `rw` writes to the file, `snap` throws away what is written. */
  readonly access?: 'ro' | 'rw' | 'snap';
  /** Logical block size in bytes; default 512. */
  readonly blockSize?: number;
}

export interface VmShare {
  readonly path: string;
  /** Default false. */
  readonly writable?: boolean;
}

export interface VmFile {
  readonly path: string;
  /** Where in the guest, without a leading slash; default `vm/files/NAME`. */
  readonly guest?: string;
}

export interface VmRun {
  readonly kernel: VmKernel;
  /** Commands for bash, run as root; `set -e` is the script's own affair. */
  readonly script: string;
  /** `$DISK0`, `$DISK1` … in the script. */
  readonly disks?: readonly VmDisk[];
  /** `/share/0`, `/share/1` … in the script. */
  readonly shares?: readonly VmShare[];
  /** Files or trees copied into the guest's memory. */
  readonly files?: readonly VmFile[];
  /** Seconds for the whole run; default 300, for busy machines. */
  readonly timeout?: number;
  /** MiB; default 512. */
  readonly memory?: number;
  /** Stops the machine. */
  readonly signal?: AbortSignal;
}

export interface VmResult {
  /** Of the script; 124 timeout, 125 the machine failed (the output says how), null when stopped. */
  readonly status: number | null;
  /** stdout and stderr of the script together. */
  readonly output: string;
}

/**
 * Says whether `kernels` can be booted here; when not, the test is skipped with the reason, or fails in CI.
 *
 *     if (!requireVm(t, 'bookworm', 'sid')) return;
 */
export function requireVm(t: TestContext, ...kernels: readonly VmKernel[]): boolean {
  const later = kernels.filter((kernel) => ONLY !== undefined && !ONLY.includes(kernel));
  if (later.length > 0) {
    t.skip(`${later.join(', ')}: left to npm run test:vm`);
    return false;
  }
  if (requireTool(t, 'qemu-system-x86_64') === null) return false;
  const absent = kernels.filter((kernel) => !existsSync(join(CACHE, 'kernels', kernel, 'vmlinux')));
  if (absent.length === 0) return true;
  missing(t, `no kernel to boot: test/vm/setup.sh ${absent.join(' ')} fetches it`);
  return false;
}

/** Boots, runs the script, and waits for the machine to end. Needs no privileges. */
export async function runVm(run: VmRun): Promise<VmResult> {
  const work = mkdtempSync(join(tmpdir(), 'veneer-vm-'));
  try {
    const script = join(work, 'script');
    writeFileSync(script, run.script);
    return await boot([...toArguments(run), '--script', script], run.signal);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function toArguments(run: VmRun): string[] {
  const args = ['--kernel', run.kernel, '--timeout', String(run.timeout ?? 300)];
  if (run.memory !== undefined) args.push('--mem', String(run.memory));
  for (const { path, format = 'raw', access = 'ro', blockSize } of run.disks ?? []) {
    const size = blockSize === undefined ? '' : `:bs=${blockSize}`;
    args.push('--disk', `${path}:${format}${access === 'rw' ? '' : `:${access}`}${size}`);
  }
  for (const share of run.shares ?? [])
    args.push('--share', share.writable ? share.path : `${share.path}:ro`);
  for (const file of run.files ?? [])
    args.push('--file', file.guest === undefined ? file.path : `${file.path}:${file.guest}`);
  return args;
}

function boot(args: readonly string[], signal: AbortSignal | undefined): Promise<VmResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(RUN, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const stop = (): void => void child.kill('SIGTERM');
    signal?.addEventListener('abort', stop, { once: true });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    }
    child.on('error', reject);
    child.on('close', (status) => {
      signal?.removeEventListener('abort', stop);
      resolve({ status, output });
    });
  });
}
