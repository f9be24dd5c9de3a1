/** Matches stretches of one target in threads. */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { DeltaLevel } from '../delta/level.ts';
import { matchMemory } from '../delta/match-range.ts';
import type { Step } from '../delta/plan.ts';
import type { Script } from '../delta/script.ts';
import { VeneerError } from '../errors.ts';
import { revivedError } from '../threads/plain-error.ts';
import { threadFile } from '../threads/thread-file.ts';
import type { MatchAnswer, MatchRequest, MatchWork } from './match-worker.ts';

const MAX_THREADS = 4;
/** What all threads hold together, at most; a single stretch may take more, alone. Bytes. */
const MEMORY = 192 << 20;
const NURSERY_MB = 8;

/** A stretch in the hands of a thread, or waiting for one. */
export class MatchTask {
  readonly steps: readonly Step[];
  /** Bytes that matching them takes. */
  readonly memory: number;
  #worker: Worker | null = null;
  #script: Script | null = null;
  #last = false;
  #error: unknown;
  #wake: () => void = () => {};

  constructor(steps: readonly Step[], level: DeltaLevel) {
    this.steps = steps;
    this.memory = steps.reduce(
      (sum, step) => (step.kind === 'match' ? sum + matchMemory(step.length, step.like, level) : sum),
      0,
    );
  }

  start(worker: Worker): void {
    this.#worker = worker;
    this.#ask();
  }

  answer(script: Script, last: boolean): void {
    this.#script = script;
    this.#last = last;
    this.#wake();
  }

  fail(error: unknown): void {
    this.#error = error;
    this.#wake();
  }

  /** The scripts in their order. The thread is one ahead, no more. */
  async *scripts(): AsyncGenerator<Script> {
    for (;;) {
      while (this.#script === null) {
        if (this.#error !== undefined) throw this.#error;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
      const script: Script = this.#script;
      const last = this.#last;
      this.#script = null;
      if (!last) this.#ask();
      yield script;
      if (last) return;
    }
  }

  #ask(): void {
    this.#worker!.postMessage({ steps: this.steps } satisfies MatchRequest);
  }
}

export class MatchPool {
  readonly #work: MatchWork;
  readonly #workers: Worker[] = [];
  readonly #idle: Worker[] = [];
  readonly #waiting: MatchTask[] = [];
  readonly #running = new Map<Worker, MatchTask>();
  #failure: VeneerError | null = null;

  constructor(work: MatchWork) {
    this.#work = work;
  }

  /** Its scripts must be taken in the order in which the tasks were made. */
  match(steps: readonly Step[]): MatchTask {
    const task = new MatchTask(steps, this.#work.level);
    this.#waiting.push(task);
    this.#dispatch();
    return task;
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.splice(0).map((worker) => worker.terminate()));
  }

  #dispatch(): void {
    while (this.#waiting.length > 0) {
      if (this.#failure !== null) {
        for (const task of this.#waiting.splice(0)) task.fail(this.#failure);
        return;
      }
      let held = this.#waiting[0]!.memory;
      for (const { memory } of this.#running.values()) held += memory;
      if (this.#running.size > 0 && held > MEMORY) return;
      const worker = this.#idle.pop() ?? this.#start();
      if (worker === null) return;
      const task = this.#waiting.shift()!;
      this.#running.set(worker, task);
      task.start(worker);
    }
  }

  /** Null when all threads are at work. */
  #start(): Worker | null {
    if (this.#workers.length >= Math.min(MAX_THREADS, availableParallelism())) return null;
    const worker = new Worker(threadFile(import.meta.url, 'match-worker'), {
      workerData: this.#work,
      resourceLimits: { maxYoungGenerationSizeMb: NURSERY_MB },
    });
    this.#workers.push(worker);
    worker.on('message', (answer: MatchAnswer) => {
      const task = this.#running.get(worker)!;
      if ('error' in answer) task.fail(revivedError(answer.error));
      else task.answer(answer.script, answer.last);
      if ('script' in answer && !answer.last) return;
      this.#running.delete(worker);
      this.#idle.push(worker);
      this.#dispatch();
    });
    worker.on('error', (cause) => {
      this.#failure = new VeneerError('io/failed', `Cannot go on: a thread ended: ${cause.message}`, {
        cause,
      });
      for (const task of this.#running.values()) task.fail(this.#failure);
      this.#running.clear();
      this.#dispatch();
    });
    return worker;
  }
}
