/** The progress of `veneer image` commands: nothing where umoci's scripts look, lines that move on a terminal. */
import type { OnProgress } from '../../progress/events.ts';
import type { CliContext } from '../context.ts';
import { usageError } from '../parse.ts';
import { PROGRESS_FLAG, PROGRESS_KINDS, type ProgressKind, withProgress } from '../progress.ts';
import type { ImageFlag } from './define.ts';

export interface ImageProgressFlags {
  readonly progress?: string;
}

export const IMAGE_PROGRESS_FLAG = {
  progress: { brief: `${PROGRESS_FLAG.progress.brief} (${PROGRESS_KINDS.join(', ')})`, placeholder: 'KIND' },
} as const satisfies Record<string, ImageFlag>;

const isKind = (word: string): word is ProgressKind => PROGRESS_KINDS.some((kind) => kind === word);

/** Runs `work`, which tells its progress. */
export function withImageProgress<T>(
  context: CliContext,
  name: string,
  { progress = 'auto' }: ImageProgressFlags,
  work: (onProgress: OnProgress) => Promise<T>,
): Promise<T> {
  if (!isKind(progress))
    throw usageError(name, `--progress is ${PROGRESS_KINDS.join(', ')}, not ${JSON.stringify(progress)}`);
  return withProgress(context, { progress }, ({ onProgress }) => work(onProgress));
}

/** Runs `work` as one task whose files are counted. */
export function countingFiles<T>(
  context: CliContext,
  name: string,
  flags: ImageProgressFlags,
  what: string,
  work: (onFiles: (done: number) => void) => Promise<T>,
): Promise<T> {
  return withImageProgress(context, name, flags, async (onProgress) => {
    const id = what;
    onProgress({ type: 'start', id, what, total: 0, unit: 'file' });
    try {
      const result = await work((done) => onProgress({ type: 'advance', id, done }));
      onProgress({ type: 'end', id, outcome: 'done' });
      return result;
    } catch (error) {
      onProgress({ type: 'end', id, outcome: 'failed' });
      throw error;
    }
  });
}
