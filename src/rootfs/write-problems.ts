/** What a file system would not take is noted and does not stop the rest: whoever asked decides what is bearable. */
import { displayByteString } from '../bytes/byte-string.ts';
import type { WriteProblem } from './write-batch.ts';

export class Attempts {
  readonly problems: WriteProblem[] = [];

  /** False when `work` failed, which is noted as the `what` of `path`. */
  attempt(path: string, what: string, work: () => void): boolean {
    try {
      work();
      return true;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.problems.push({ path, what: displayByteString(what), errno: errnoOf(error, message), message });
      return false;
    }
  }
}

/** Of an error of node:fs, or of the sys room, which has no code of its own for every errno. */
function errnoOf(error: unknown, message: string): string {
  const { code } = error as { code?: unknown };
  if (typeof code !== 'string') return '';
  return code === 'sys/failed' ? (/\(([A-Z0-9]+)\)$/.exec(message)?.[1] ?? '') : code.replace('sys/', '');
}
