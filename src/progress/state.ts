/** What is under way, kept up to date from the events; the renderers draw from it. */
import type { ProgressEvent } from './events.ts';

export interface Task {
  readonly what: string;
  /** 0 when not known. */
  readonly total: number;
  /** What is counted; undefined: bytes. */
  readonly unit?: 'file' | undefined;
  done: number;
  /** Milliseconds of the renderer's clock. */
  readonly startedAt: number;
}

export type Ended = { readonly task: Task; readonly outcome: 'done' | 'exists' | 'failed' };

export class ProgressState {
  /** Running tasks by id, in the order they began. */
  readonly running = new Map<string, Task>();

  /** Takes one event in; returns the task when the event ended one. */
  apply(event: ProgressEvent, now: number): Ended | undefined {
    switch (event.type) {
      case 'start': {
        const { id, what, total, unit } = event;
        this.running.set(id, { what, total, unit, done: 0, startedAt: now });
        return undefined;
      }
      case 'advance': {
        const task = this.running.get(event.id);
        if (task !== undefined) task.done = event.done;
        return undefined;
      }
      case 'end': {
        const task = this.running.get(event.id);
        if (task === undefined) return undefined;
        this.running.delete(event.id);
        return { task, outcome: event.outcome };
      }
      case 'note':
        return undefined;
    }
  }
}
