/** A thread that matches stretches of one target (see match-pool.ts). */
import { parentPort, workerData } from 'node:worker_threads';
import type { ByteSource } from '../bytes/io.ts';
import { AddressSpace } from '../delta/address-space.ts';
import { carryOut } from '../delta/carry-out.ts';
import type { DeltaLevel } from '../delta/level.ts';
import type { Step } from '../delta/plan.ts';
import type { Script } from '../delta/script.ts';
import { type PlainError, plainError } from '../threads/plain-error.ts';
import { OpenTars, type TarFile } from './tar-file.ts';

/** What the thread is started with. */
export interface MatchWork {
  readonly target: TarFile;
  readonly sources: readonly TarFile[];
  readonly level: DeltaLevel;
}

/** To the thread: the next part of a job's scripts; the first begins the job. */
export interface MatchRequest {
  readonly steps: readonly Step[];
}

/** From the thread. */
export type MatchAnswer =
  | { readonly script: Script; readonly last: boolean }
  | { readonly error: PlainError };

const { target, sources, level } = workerData as MatchWork;
const tars = new OpenTars();
const port = parentPort!;
let space: AddressSpace | undefined;
let tar: ByteSource | undefined;
let scripts: Iterator<Script, Script> | null = null;

port.on('message', ({ steps }: MatchRequest) => {
  try {
    tar ??= tars.open(target);
    space ??= new AddressSpace(sources.map((source) => tars.open(source)));
    scripts ??= carryOut(steps, tar, space, level);
    const { value: script, done: last = false } = scripts.next();
    if (last) scripts = null;
    const parts = [script.records, script.gaps, script.changes, script.literals];
    const buffers = parts.map(({ buffer }) => buffer as ArrayBuffer);
    port.postMessage({ script, last } satisfies MatchAnswer, buffers);
  } catch (error) {
    scripts = null;
    port.postMessage({ error: plainError(error) } satisfies MatchAnswer);
  }
});
