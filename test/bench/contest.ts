/** The words of a benchmark, and how one is run: contestants in turn, several rounds, medians. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

/** One process (tree) that is measured. */
export interface Contestant {
  /** Unique in its contest; targets refer to it. */
  readonly key: string;
  readonly title: string;
  readonly argv: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Not measured: makes the starting state. Runs before every round. */
  readonly before?: () => void | Promise<void>;
  /** Not measured: undoes what the run left. Runs after every round. */
  readonly after?: () => void | Promise<void>;
  /** Bytes of the result, asked once after a round, before `after`. */
  readonly bytes?: () => number;
  /** Peak memory counts other processes' work than this tree's (a client of a daemon), so it is not shown. */
  readonly memoryElsewhere?: boolean;
  /** So slow that the first round has to do. */
  readonly once?: boolean;
  /** Page, dentry and inode caches are dropped before every round. */
  readonly cold?: boolean;
  /** Seconds out of what it printed, when most of the process is not what is measured (a machine that boots). */
  readonly seconds?: (output: string) => number;
}

/** `value(ours) ≤ factor × value(peer)` or `value(peer) + plus`, in seconds or bytes. */
export interface Target {
  readonly text: string;
  readonly ours: string;
  /** Absent for an absolute target: then `plus` is the limit. */
  readonly peer?: string;
  readonly metric: 'wall' | 'bytes' | 'memory';
  readonly factor?: number;
  readonly plus?: number;
  /** With a factor: so much is always good enough. */
  readonly or?: number;
}

export interface Contest {
  /** What it is run by: `npm run bench -- NAME`. */
  readonly name: string;
  readonly title: string;
  /** Said under the title in the report. */
  readonly notes?: string;
  readonly contestants: readonly Contestant[];
  readonly targets: readonly Target[];
  /** Not measured: after all rounds. */
  readonly close?: () => void | Promise<void>;
}

export interface Measured {
  readonly key: string;
  readonly title: string;
  readonly command: string;
  /** Seconds, one a round. */
  readonly walls: number[];
  /** Processor seconds, one a round. */
  readonly cpus: number[];
  /** Peak bytes, the largest of the rounds; null when it would mislead. */
  memory: number | null;
  bytes: number | null;
}

export interface TargetOutcome {
  readonly text: string;
  readonly limit: string;
  readonly seen: string;
  readonly met: boolean;
}

export interface ContestResult {
  readonly name: string;
  readonly title: string;
  readonly notes: string;
  readonly rounds: number;
  readonly measured: Measured[];
  readonly targets: TargetOutcome[];
}

const MEASURE = fileURLToPath(new URL('./measure.py', import.meta.url));

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function runOnce(
  contestant: Contestant,
  workDirectory: string,
): { wall: number; cpu: number; memory: number } {
  const output = join(workDirectory, 'output.txt');
  const text = execFileSync('python3', ['-B', MEASURE, ...contestant.argv], {
    encoding: 'utf8',
    env: { ...process.env, ...contestant.env, MEASURE_OUTPUT: output },
  });
  const result = JSON.parse(text) as { wall: number; cpu: number; memory: number; code: number };
  if (result.code !== 0) {
    const said = existsSync(output) ? readFileSync(output, 'utf8').slice(-2000) : '';
    throw new Error(`${contestant.title} ended with ${result.code}: ${contestant.argv.join(' ')}\n${said}`);
  }
  if (contestant.seconds === undefined) return result;
  return { ...result, wall: contestant.seconds(readFileSync(output, 'utf8')) };
}

export interface RunOptions {
  readonly rounds: number;
  readonly workDirectory: string;
  /** Shortens a command line for the report. */
  readonly show: (argv: readonly string[]) => string;
  readonly log: (line: string) => void;
}

/** Seconds between cleaning up and the next run: what a file system does behind one's back after a large removal. */
const SETTLE = 1;

/**
 * Who runs in a round, in order. Each round begins with another one and goes round in other steps, so that nobody
 * always comes first (it finds memory that nobody has touched) or always behind the same one.
 */
export function turnsOf<T>(contestants: readonly T[], round: number): T[] {
  const count = contestants.length;
  const steps = Array.from({ length: count }, (_, i) => i + 1).filter(
    (step) => greatestDivisor(step, count) === 1,
  );
  const step = steps[round % steps.length]!;
  return contestants.map((_, turn) => contestants[(round + turn * step) % count]!);
}

const greatestDivisor = (a: number, b: number): number => (b === 0 ? a : greatestDivisor(b, a % b));

/** All contestants once, then all again: what else the machine does hits each alike. */
export async function runContest(contest: Contest, options: RunOptions): Promise<ContestResult> {
  const measured = new Map<string, Measured>();
  for (const { key, title, argv } of contest.contestants) {
    measured.set(key, {
      key,
      title,
      command: options.show(argv),
      walls: [],
      cpus: [],
      memory: null,
      bytes: null,
    });
  }
  try {
    for (let round = 0; round < options.rounds; round++) {
      for (const contestant of turnsOf(contest.contestants, round)) {
        if (contestant.once && round > 0) continue;
        const into = measured.get(contestant.key)!;
        await contestant.before?.();
        try {
          execFileSync('sync');
          await setTimeout(SETTLE * 1000);
          if (contestant.cold) dropCaches();
          const { wall, cpu, memory } = runOnce(contestant, options.workDirectory);
          into.walls.push(wall);
          into.cpus.push(cpu);
          if (!contestant.memoryElsewhere) into.memory = Math.max(into.memory ?? 0, memory);
          if (contestant.bytes !== undefined) into.bytes = contestant.bytes();
          options.log(
            `${contest.name} ${round + 1}/${options.rounds} ${contestant.title}: ${wall.toFixed(3)} s`,
          );
        } finally {
          await contestant.after?.();
        }
      }
    }
  } finally {
    await contest.close?.();
  }
  rmSync(join(options.workDirectory, 'output.txt'), { force: true });
  return {
    name: contest.name,
    title: contest.title,
    notes: contest.notes ?? '',
    rounds: options.rounds,
    measured: [...measured.values()],
    targets: contest.targets.map((target) => judge(target, measured)),
  };
}

/** Page cache, dentries and inodes; needs root. */
function dropCaches(): void {
  execFileSync('sh', ['-c', 'echo 3 > /proc/sys/vm/drop_caches']);
}

function metricOf(measured: Measured, metric: Target['metric']): number {
  const value = metric === 'wall' ? median(measured.walls) : measured[metric];
  if (value === null) throw new Error(`${measured.key} has no ${metric}`);
  return value;
}

export function showValue(value: number, metric: Target['metric']): string {
  if (metric !== 'wall')
    return value < 1e5 ? `${(value / 1e3).toFixed(1)} kB` : `${(value / 1e6).toFixed(1)} MB`;
  return value < 0.2 ? `${(value * 1000).toFixed(0)} ms` : `${value.toFixed(2)} s`;
}

function judge(target: Target, measured: ReadonlyMap<string, Measured>): TargetOutcome {
  const { metric } = target;
  const ours = metricOf(measured.get(target.ours)!, metric);
  if (target.peer === undefined) {
    const limit = target.plus!;
    return {
      text: target.text,
      limit: showValue(limit, metric),
      seen: showValue(ours, metric),
      met: ours <= limit,
    };
  }
  const peer = metricOf(measured.get(target.peer)!, metric);
  if (target.plus !== undefined) {
    return {
      text: target.text,
      limit: `+${showValue(target.plus, metric)}`,
      seen: `${ours >= peer ? '+' : '−'}${showValue(Math.abs(ours - peer), metric)}`,
      met: ours - peer <= target.plus,
    };
  }
  const factor = target.factor!;
  const { or } = target;
  return {
    text: target.text,
    limit: or === undefined ? `${factor}×` : `${factor}× or ${showValue(or, metric)}`,
    seen:
      or === undefined
        ? `${(ours / peer).toFixed(2)}×`
        : `${(ours / peer).toFixed(2)}×, ${showValue(ours, metric)}`,
    met: ours <= Math.max(factor * peer, or ?? 0),
  };
}
