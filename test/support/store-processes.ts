/** Starts store workers and waits for them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const WORKER = fileURLToPath(new URL('./store-worker.ts', import.meta.url));

export interface StoreProcess {
  readonly child: ChildProcess;
  /** Resolves when it has begun to work. */
  readonly ready: Promise<unknown>;
  /** Exit code (null after a signal) and what it said on stderr. */
  readonly ended: Promise<{ code: number | null; stderr: string }>;
}

/** Runs {@link WORKER} on the store `root`. */
export function startStoreProcess(
  root: string,
  actions: readonly string[],
  env: NodeJS.ProcessEnv = {},
): StoreProcess {
  const child = spawn(process.execPath, [WORKER, root, ...actions], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const ended = once(child, 'close').then(([code]) => ({ code: code as number | null, stderr }));
  return { child, ready: Promise.race([once(child.stdout, 'data'), ended]), ended };
}
