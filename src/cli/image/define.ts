/** Declares the commands of `veneer image`, which take umoci's flags in umoci's way. */
import { isReferenceName } from '../../bundle/references.ts';
import type { ArgumentKind, CliCommand, Example, FlagFacts } from '../command.ts';
import { COMMON, ROOT } from '../command.ts';
import type { CliContext, CommonFlags } from '../context.ts';
import { usageError } from '../parse.ts';
import { type GoFlag, readGoWords } from './go-words.ts';

export interface ImageCommandDefinition<FLAGS> {
  /** With the words before it: `image ls`. */
  readonly name: string;
  readonly brief: string;
  readonly usage: readonly string[];
  readonly description?: string;
  readonly examples: readonly Example[];
  /** The names on the command line are the keys. */
  readonly flags: Readonly<Record<string, ImageFlag>>;
  /** Names of the arguments. */
  readonly arguments?: readonly string[];
  /** How many of them may be left out. */
  readonly optionalArguments?: number;
  readonly completes?: readonly ArgumentKind[];
  /** Does the work. */
  run(context: CliContext, flags: FLAGS & LogFlags & CommonFlags, args: readonly string[]): Promise<void>;
}

export interface ImageFlag {
  readonly brief: string;
  /** Absent: takes no value. */
  readonly placeholder?: string;
  /** May be repeated; collects its values. */
  readonly many?: true;
  /** Other names for it. */
  readonly aliases?: readonly string[];
}

/** umoci's own; before or behind the command's name. */
export interface LogFlags {
  readonly verbose: boolean;
  readonly log?: string;
}

const LOG_FLAGS: Readonly<Record<string, ImageFlag>> = {
  verbose: { brief: 'Tell what was done (as --log info)' },
  log: { brief: 'How much to tell: debug, info, warn, error or fatal', placeholder: 'LEVEL' },
};
const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'fatal'];

export const LAYOUT_FLAG = {
  layout: { brief: 'Folder of the OCI layout', placeholder: 'DIR' },
} as const satisfies Record<string, ImageFlag>;

export const IMAGE_FLAG = {
  image: { brief: 'The image: folder of the layout, and a tag (default: latest)', placeholder: 'DIR[:TAG]' },
} as const satisfies Record<string, ImageFlag>;

/** Of commands that may use the store. */
export const ROOT_FLAG = {
  root: { brief: ROOT.root.brief, placeholder: ROOT.root.placeholder },
} as const satisfies Record<string, ImageFlag>;

export function defineImageCommand<FLAGS>(definition: ImageCommandDefinition<FLAGS>): CliCommand {
  const { name } = definition;
  const own = { ...definition.flags, ...LOG_FLAGS };
  const known = new Map<string, GoFlag>();
  const flags: Record<string, FlagFacts> = {};
  for (const [key, { brief, placeholder, many, aliases = [] }] of Object.entries(own)) {
    const kind = placeholder === undefined ? 'switch' : many ? 'texts' : 'text';
    for (const word of [key, ...aliases]) known.set(word, { key, kind });
    flags[key] =
      placeholder === undefined ? { kind: 'boolean', brief } : { kind: 'parsed', brief, placeholder };
  }
  for (const key of Object.keys(COMMON)) known.set(key, { key, kind: 'switch' });
  known.set('q', { key: 'quiet', kind: 'switch' });
  return {
    name,
    brief: definition.brief,
    usage: definition.usage,
    description: definition.description ?? '',
    examples: definition.examples,
    completes: definition.completes ?? ['none'],
    spellings: {},
    digits: {},
    flags: { ...flags, ...COMMON },
    aliases: { q: 'quiet' },
    read: (words) => {
      const names = definition.arguments ?? [];
      return readGoWords({ name }, known, names, words, names.length - (definition.optionalArguments ?? 0));
    },
    async run(context, parsed, args) {
      const log = parsed as CommonFlags & LogFlags;
      if (log.log !== undefined && log.verbose)
        throw usageError(name, '--log and --verbose do not go together');
      if (log.log !== undefined && !LOG_LEVELS.includes(log.log))
        throw usageError(name, `--log is ${LOG_LEVELS.join(', ')}, not ${JSON.stringify(log.log)}`);
      await definition.run(context, parsed as FLAGS & LogFlags & CommonFlags, args as readonly string[]);
      return undefined;
    },
  };
}

/** What a command that changes something says when it was asked to (umoci says nothing otherwise). */
export function tell({ out }: CliContext, { verbose, log }: LogFlags, result: object, message: string): void {
  out.result(result, () => '');
  if (!out.json && (verbose || log === 'info' || log === 'debug')) out.note(message);
}

/** The folder that --layout names. */
export function layoutOf(name: string, { layout }: { readonly layout?: string }): string {
  if (layout === undefined) throw usageError(name, '--layout DIR is missing');
  if (layout === '') throw usageError(name, '--layout is empty');
  if (layout.includes(':')) throw usageError(name, `--layout ${JSON.stringify(layout)} has a ":" in it`);
  return layout;
}

/** The folder and tag that --image names. */
export function imageOf(name: string, { image }: { readonly image?: string }): { dir: string; tag: string } {
  if (image === undefined) throw usageError(name, '--image DIR[:TAG] is missing');
  const colon = image.indexOf(':');
  const dir = colon < 0 ? image : image.slice(0, colon);
  if (dir === '') throw usageError(name, '--image has no folder before the ":"');
  return { dir, tag: checkTag(name, colon < 0 ? 'latest' : image.slice(colon + 1)) };
}

/** The tag, when it can be one. */
export function checkTag(name: string, tag: string): string {
  if (isReferenceName(tag)) return tag;
  throw usageError(
    name,
    `${JSON.stringify(tag)} cannot be a tag: letters, digits, and single separators -._:@+/`,
  );
}
