/** Chooses how progress is shown, and gives the flag for it. */

import type { ProgressRenderer, ProgressScreen } from '../progress/renderer.ts';
import type { CliContext } from './context.ts';

export const PROGRESS_KINDS = ['auto', 'plain', 'json', 'none'] as const;
export type ProgressKind = (typeof PROGRESS_KINDS)[number];

export type ProgressFlags = {
  readonly progress: ProgressKind;
};

export const PROGRESS_FLAG = {
  progress: {
    kind: 'enum',
    values: PROGRESS_KINDS,
    brief: 'How progress is shown on stderr; auto: lines that move on a terminal, nothing elsewhere',
    default: 'auto',
  },
} as const;

const SILENT: ProgressRenderer = { onProgress() {}, pause() {}, close() {} };

/** Runs `work` with a progress display that is gone, and never in the way of a message, when it ends. */
export async function withProgress<T>(
  { out, env }: CliContext,
  { progress }: ProgressFlags,
  work: (renderer: ProgressRenderer) => Promise<T>,
): Promise<T> {
  const { stderr } = out;
  const terminal = stderr.isTTY === true && env.TERM !== 'dumb';
  const screen: ProgressScreen = {
    write: (text) => void stderr.write(text),
    get columns() {
      return terminal ? stderr.columns : undefined;
    },
    get rows() {
      return terminal ? stderr.rows : undefined;
    },
    color: terminal && !env.NO_COLOR,
    now: () => performance.now(),
  };
  const renderer = await chooseRenderer(
    progress,
    screen,
    terminal,
    stderr.isTTY === true,
    out.quiet || out.json,
  );
  out.beforeStderr = () => renderer.pause();
  try {
    return await work(renderer);
  } finally {
    renderer.close();
    out.beforeStderr = () => {};
  }
}

/** Loads a renderer only where something is shown. */
async function chooseRenderer(
  kind: ProgressKind,
  screen: ProgressScreen,
  terminal: boolean,
  watched: boolean,
  silent: boolean,
): Promise<ProgressRenderer> {
  const lines = async (): Promise<ProgressRenderer> =>
    (await import('../progress/lines.ts')).lineRenderer(screen);
  if (kind === 'json') return (await import('../progress/json.ts')).jsonRenderer(screen);
  if (kind === 'plain') return lines();
  if (kind === 'none' || silent) return SILENT;
  if (terminal) return (await import('../progress/terminal.ts')).terminalRenderer(screen);
  // A dumb terminal (an editor's shell, say) cannot redraw, but somebody is watching.
  return watched ? lines() : SILENT;
}
