/** Progress for a log: a line when something begins, ends or is noted, and one now and then in between. */
import type { ProgressEvent } from './events.ts';
import { amountOf, endedWords, type ProgressRenderer, type ProgressScreen, plainText } from './renderer.ts';
import { ProgressState } from './state.ts';

/** How long a task may run without a sign of life in the log. */
const INTERVAL_MS = 10_000;

export function lineRenderer(screen: ProgressScreen): ProgressRenderer {
  const state = new ProgressState();
  const lastTold = new Map<string, number>();
  return {
    onProgress(event: ProgressEvent) {
      const now = screen.now();
      const ended = state.apply(event, now);
      if (ended !== undefined) {
        lastTold.delete(event.id);
        screen.write(`${plainText(ended.task.what)}: ${endedWords(ended, now)}\n`);
        return;
      }
      if (event.type === 'note') {
        screen.write(`${plainText(event.message)}\n`);
        return;
      }
      const task = state.running.get(event.id);
      if (task === undefined) return;
      if (event.type === 'start') {
        lastTold.set(event.id, now);
        screen.write(
          `${plainText(task.what)}: started${task.total > 0 ? `, ${amountOf(task, task.total)}` : ''}\n`,
        );
      } else if (now - (lastTold.get(event.id) ?? now) >= INTERVAL_MS) {
        lastTold.set(event.id, now);
        const share = task.total > 0 ? ` of ${amountOf(task, task.total)}` : '';
        screen.write(`${plainText(task.what)}: ${amountOf(task, task.done)}${share}\n`);
      }
    },
    pause() {},
    close() {},
  };
}
