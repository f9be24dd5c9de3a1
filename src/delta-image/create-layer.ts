/** The delta of one layer's tar, made in threads, written to a file. */
import { open } from 'node:fs/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { AddressSpace } from '../delta/address-space.ts';
import { carryOut } from '../delta/carry-out.ts';
import { COLUMNS, encodeHeader } from '../delta/format.ts';
import type { DeltaLevel } from '../delta/level.ts';
import { OpEncoder } from '../delta/op-encoder.ts';
import { planSteps, type Step } from '../delta/plan.ts';
import { storeError } from '../store/io-errors.ts';
import { throwIfAborted } from '../store/locks.ts';
import { ColumnFile } from './column-file.ts';
import { MatchPool, type MatchTask } from './match-pool.ts';
import { OpenTars, type TarFile } from './tar-file.ts';

/** Bytes of the target that threads are at or have results for, at most. */
const AHEAD = 96 << 20;
/** Starting threads takes as long as matching so many bytes. */
const WORTH_THREADS = 4 << 20;
/** Steps of one round. */
const ROUND = 256;

export interface CreateLayerOptions {
  readonly level: DeltaLevel;
  readonly signal?: AbortSignal | undefined;
  /** Bytes of the target that are done. */
  readonly onDone?: (bytes: number) => void;
}

/** Writes the delta to the new file `path`; returns its size. The digests of the tars are taken for true. */
export async function createLayerDelta(
  target: TarFile,
  sources: readonly TarFile[],
  path: string,
  options: CreateLayerOptions,
): Promise<number> {
  const tars = new OpenTars();
  const pool = new MatchPool({ target, sources, level: options.level });
  let work: LayerWork | undefined;
  try {
    work = new LayerWork(tars, target, sources, pool, path, options);
    return await writeDelta(path, target, sources, await work.run());
  } catch (error) {
    throw storeError(`write ${path}`, error);
  } finally {
    work?.close();
    await pool.close();
    tars.close();
  }
}

/** Steps in the order of the target, some of them with threads. */
type Waiting =
  /** `bytes`: of the target, that threads are at. */
  { readonly bytes: 0; readonly steps: Step[] } | { readonly bytes: number; readonly task: MatchTask };

class LayerWork {
  readonly #target: ReturnType<OpenTars['open']>;
  readonly #space: AddressSpace;
  readonly #pool: MatchPool;
  readonly #options: CreateLayerOptions;
  readonly #encoder: OpEncoder;
  readonly #columns: readonly ColumnFile[];
  readonly #waiting: Waiting[] = [];
  #ahead = 0;
  #done = 0;
  #matched = 0;

  constructor(
    tars: OpenTars,
    target: TarFile,
    sources: readonly TarFile[],
    pool: MatchPool,
    path: string,
    options: CreateLayerOptions,
  ) {
    this.#target = tars.open(target);
    this.#space = new AddressSpace(sources.map((source) => tars.open(source)));
    this.#pool = pool;
    this.#options = options;
    this.#encoder = new OpEncoder(this.#space.startSet);
    this.#columns = COLUMNS.map(
      (name) => new ColumnFile(this.#encoder[name], options.level.compression, `${path}.${name}`),
    );
  }

  async run(): Promise<readonly ColumnFile[]> {
    let round = 0;
    for (const step of planSteps(this.#target, this.#space)) {
      this.#take(step);
      if (++round % ROUND === 0) await turn();
      while (this.#ahead > AHEAD || this.#waiting.length > ROUND) await this.#finishFirst();
    }
    while (this.#waiting.length > 0) await this.#finishFirst();
    this.#encoder.finish();
    await Promise.all(this.#columns.map((column) => column.finish()));
    return this.#columns;
  }

  close(): void {
    for (const column of this.#columns) column.close();
  }

  /** Matching goes to the threads when there is enough of it; the rest gathers until its turn comes. */
  #take(step: Step): void {
    if (step.kind === 'match') {
      this.#matched += step.length;
      if (this.#matched >= WORTH_THREADS) {
        this.#waiting.push({ bytes: step.length, task: this.#pool.match([step]) });
        this.#ahead += step.length;
        return;
      }
    }
    const last = this.#waiting.at(-1);
    if (last !== undefined && 'steps' in last && last.steps.length < ROUND) last.steps.push(step);
    else this.#waiting.push({ bytes: 0, steps: [step] });
  }

  async #finishFirst(): Promise<void> {
    throwIfAborted(this.#options.signal);
    const first = this.#waiting.shift()!;
    const scripts =
      'steps' in first
        ? carryOut(first.steps, this.#target, this.#space, this.#options.level)
        : first.task.scripts();
    for (let next = await scripts.next(); ; next = await scripts.next()) {
      if (next.value !== undefined) this.#encoder.add(next.value);
      for (const column of this.#columns) await column.drain();
      if (next.done) break;
    }
    this.#ahead -= first.bytes;
    this.#done += first.bytes;
    if ('steps' in first) for (const { length } of first.steps) this.#done += length;
    this.#options.onDone?.(this.#done);
  }
}

async function writeDelta(
  path: string,
  target: TarFile,
  sources: readonly TarFile[],
  columns: readonly ColumnFile[],
): Promise<number> {
  const id = ({ diffId, size }: TarFile) => ({ digest: diffId, size });
  const header = encodeHeader(
    id(target),
    sources.map(id),
    columns.map(({ sizes }) => sizes),
  );
  const file = await open(path, 'wx', 0o644);
  try {
    await file.writeFile(header);
    let size = header.length;
    for (const column of columns) {
      for await (const piece of column.output()) await file.writeFile(piece);
      size += column.sizes.size;
    }
    return size;
  } finally {
    await file.close();
  }
}
