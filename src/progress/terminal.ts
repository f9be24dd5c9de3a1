/** Progress on a terminal: one line a running task, redrawn in place; finished ones scroll up and stay. */
import type { ProgressEvent } from './events.ts';
import {
  amountOf,
  endedWords,
  type ProgressRenderer,
  type ProgressScreen,
  plainText,
  rateOf,
} from './renderer.ts';
import { ProgressState, type Task } from './state.ts';

/** Redrawing more often than this is only work for the terminal. */
const FRAME_MS = 80;
const BAR_WIDTH = 20;

export function terminalRenderer(screen: ProgressScreen): ProgressRenderer {
  const state = new ProgressState();
  let drawn = 0;
  let lastFrame = Number.NEGATIVE_INFINITY;

  const columns = (): number => Math.max(20, screen.columns ?? 80);
  const erase = (): string => (drawn === 0 ? '' : `\x1b[${drawn}A\r\x1b[0J`);

  const draw = (permanent: string): void => {
    const now = screen.now();
    // More tasks than the screen has lines: the rest is a number, or moving up would miss.
    const room = Math.max(1, (screen.rows ?? 24) - 2);
    const tasks = [...state.running.values()];
    const shown = tasks.slice(0, tasks.length > room ? room - 1 : room);
    const lines = shown.map((task) => taskLine(task, now, columns()));
    if (tasks.length > shown.length) lines.push(`  and ${tasks.length - shown.length} more`);
    screen.write(`${erase()}${permanent}${lines.map((line) => `${line}\n`).join('')}`);
    drawn = lines.length;
    lastFrame = now;
  };

  const paint = (text: string, code: string): string => (screen.color ? `\x1b[${code}m${text}\x1b[0m` : text);

  return {
    onProgress(event: ProgressEvent) {
      const now = screen.now();
      const ended = state.apply(event, now);
      if (ended !== undefined) {
        const words = endedWords(ended, now);
        const what = clip(plainText(ended.task.what), columns() - words.length - 3);
        draw(`${what}  ${ended.outcome === 'failed' ? paint(words, '31') : paint(words, '32')}\n`);
      } else if (event.type === 'note') {
        draw(`${clip(plainText(event.message), columns() - 1)}\n`);
      } else if (event.type === 'start' || now - lastFrame >= FRAME_MS) {
        draw('');
      }
    },
    pause() {
      if (drawn > 0) screen.write(erase());
      drawn = 0;
      lastFrame = Number.NEGATIVE_INFINITY;
    },
    close() {
      if (drawn > 0) screen.write(erase());
      drawn = 0;
      state.running.clear();
    },
  };
}

/** `LAYER  [=====>      ]  12 MB of 45 MB  3.2 MB/s`, as much of it as fits into `columns` - 1. */
export function taskLine(task: Task, now: number, columns: number): string {
  const rate = rateOf(task, now);
  const speed = rate > 0 ? `  ${amountOf(task, Math.round(rate))}/s` : '';
  const known =
    task.total > 0
      ? `${amountOf(task, task.done)} of ${amountOf(task, task.total)}`
      : amountOf(task, task.done);
  // Some work is not counted at all.
  const amount = task.total === 0 && task.done === 0 ? '' : `  ${known}`;
  const what = plainText(task.what);
  const tail = `${amount}${speed}`;
  const bar = task.total > 0 ? `  ${progressBar(task.done / task.total)}` : '';
  const limit = columns - 1;
  if (what.length + bar.length + tail.length <= limit) return what + bar + tail;
  if (what.length + tail.length <= limit) return what + tail;
  return clip(clip(what, Math.max(6, limit - tail.length)) + tail, limit);
}

function progressBar(fraction: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, fraction)) * BAR_WIDTH);
  const arrow = filled > 0 && filled < BAR_WIDTH ? `${'='.repeat(filled - 1)}>` : '='.repeat(filled);
  return `[${arrow}${' '.repeat(BAR_WIDTH - filled)}]`;
}

/** The text's beginning, at most `width` chars, with `..` where something is missing. */
function clip(text: string, width: number): string {
  if (text.length <= width) return text;
  return width <= 2 ? text.slice(0, Math.max(0, width)) : `${text.slice(0, width - 2)}..`;
}
