/**
 * A process of its own that mounts, for tests that kill it, take its rights or put it elsewhere.
 * Takes a {@link ChildTask} as JSON on the command line; prints one line of JSON.
 */
import { readSync } from 'node:fs';
import {
  applyMount,
  type Capabilities,
  type MountRequest,
  planMount,
  probeCapabilities,
  unmount,
} from '../../src/mount/index.ts';

export interface ChildTask {
  readonly request: MountRequest;
  readonly capabilities: Capabilities;
  /** Kill ourselves before the step of this number. */
  readonly killAt?: number;
  /** Mount and unmount this often. */
  readonly rounds?: number;
  /** Become this user first. */
  readonly uid?: number;
  /** After mounting, wait until standard input ends. */
  readonly wait?: boolean;
}

export type ChildAnswer =
  | { readonly ok: true }
  | { readonly ok: false; readonly code: string; readonly message: string; readonly hint: string };

function run(task: ChildTask): ChildAnswer {
  if (task.uid !== undefined) {
    // Bind what is loaded lazily while the files can still be read.
    probeCapabilities();
    process.setgroups!([]);
    process.setgid!(task.uid);
    process.setuid!(task.uid);
  }
  try {
    for (let round = 0; round < (task.rounds ?? 1); round++) {
      let step = 0;
      applyMount(planMount(task.request, task.capabilities), {
        onStep() {
          if (step++ === task.killAt) process.kill(process.pid, 'SIGKILL');
        },
      });
      if (task.rounds !== undefined) unmount(task.request.target, task.request.runDir);
    }
    return { ok: true };
  } catch (error) {
    const { code, message, hint } = error as { code: string; message: string; hint: string };
    return { ok: false, code, message, hint };
  }
}

const task = JSON.parse(process.argv[2]!) as ChildTask;
process.stdout.write(`${JSON.stringify(run(task))}\n`);
if (task.wait === true) readSync(0, Buffer.alloc(1));
