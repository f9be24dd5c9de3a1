/** What all progress renderers have in common. */
import type { OnProgress } from './events.ts';
import type { Ended, Task } from './state.ts';
import { formatBytes, formatCount, formatDuration } from './units.ts';

export interface ProgressRenderer {
  readonly onProgress: OnProgress;
  /** Takes drawn lines off the screen, so that other text can be printed; the next event draws them again. */
  pause(): void;
  /** The work is over, well or not: leaves the screen tidy. */
  close(): void;
}

/** Where renderers write and what they know of the screen; nothing here prints by itself. */
export interface ProgressScreen {
  write(text: string): void;
  /** Columns; undefined when it is not a terminal. */
  readonly columns: number | undefined;
  readonly rows: number | undefined;
  readonly color: boolean;
  /** Milliseconds, monotonic. */
  now(): number;
}

/** No control characters from outside reach the screen. */
export function plainText(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, '?');
}

/** How a finished task is told: `LAYER  done, 12 MB in 1.2 s`. */
export function endedWords({ task, outcome }: Ended, now: number): string {
  if (outcome === 'exists') return 'already there';
  const elapsed = Math.max(0, now - task.startedAt);
  const amount = task.done > 0 ? `, ${amountOf(task, task.done)}` : '';
  return `${outcome}${amount} in ${formatDuration(elapsed)}`;
}

/** So much of what the task counts. */
export function amountOf({ unit }: Task, amount: number): string {
  return unit === undefined ? formatBytes(amount) : formatCount(amount, unit);
}

/** What is counted, per second since the task began; 0 while that says nothing yet. */
export function rateOf(task: Task, now: number): number {
  const seconds = (now - task.startedAt) / 1000;
  return seconds < 0.2 ? 0 : task.done / seconds;
}
