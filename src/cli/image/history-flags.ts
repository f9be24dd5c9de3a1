/** The flags of commands that add an entry to an image's history. */
import type { HistoryEdit } from '../../bundle/edit-config.ts';
import { usageError } from '../parse.ts';
import type { ImageFlag } from './define.ts';

export interface HistoryFlags {
  readonly 'no-history': boolean;
  readonly 'history.author'?: string;
  readonly 'history.comment'?: string;
  readonly 'history.created'?: string;
  readonly 'history.created_by'?: string;
}

export const HISTORY_FLAGS = {
  'no-history': { brief: 'Leave the history as it is' },
  'history.author': { placeholder: 'WHO', brief: "Author of the change (default: the image's)" },
  'history.comment': { placeholder: 'TEXT', brief: 'Comment on the change' },
  'history.created': {
    placeholder: 'TIME',
    brief: 'Time of the change, RFC 3339 (default: $SOURCE_DATE_EPOCH, or now)',
  },
  'history.created_by': { placeholder: 'TEXT', brief: 'What made the change' },
} as const satisfies Record<string, ImageFlag>;

const TEXTS = ['history.author', 'history.comment', 'history.created', 'history.created_by'] as const;

/** Null when there shall be no entry. */
export async function historyOf(
  command: string,
  env: Readonly<Record<string, string | undefined>>,
  flags: HistoryFlags,
): Promise<HistoryEdit | null> {
  const given = TEXTS.find((name) => flags[name] !== undefined);
  if (flags['no-history']) {
    if (given === undefined) return null;
    throw usageError(command, `--no-history and --${given} do not go together`);
  }
  const { sourceDate } = await import('../../bundle/source-date.ts');
  const date = sourceDate(env);
  const author = flags['history.author'];
  const comment = flags['history.comment'];
  const createdBy = flags['history.created_by'];
  return {
    created: flags['history.created'] ?? date,
    ...(author === undefined ? {} : { author }),
    ...(comment === undefined ? {} : { comment }),
    ...(createdBy === undefined ? {} : { createdBy }),
  };
}
