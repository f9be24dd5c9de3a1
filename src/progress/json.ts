/** Progress for programs: the events themselves, one JSON object a line, `advance` thinned out. */
import type { ProgressEvent } from './events.ts';
import type { ProgressRenderer, ProgressScreen } from './renderer.ts';

const INTERVAL_MS = 100;

export function jsonRenderer(screen: ProgressScreen): ProgressRenderer {
  const lastTold = new Map<string, number>();
  return {
    onProgress(event: ProgressEvent) {
      if (event.type === 'advance') {
        const now = screen.now();
        if (now - (lastTold.get(event.id) ?? Number.NEGATIVE_INFINITY) < INTERVAL_MS) return;
        lastTold.set(event.id, now);
      } else if (event.type === 'end') {
        lastTold.delete(event.id);
      }
      screen.write(`${JSON.stringify({ progress: event })}\n`);
    },
    pause() {},
    close() {},
  };
}
