/**
 * How a command is declared: one object says its flags, arguments, help and work. The argument parser,
 * the help text and the shell completion are all made from it.
 */
import {
  type BaseFlags,
  buildCommand,
  type CommandContext,
  type TypedCommandParameters,
} from '@stricli/core';
import type { CliContext, CommonFlags } from './context.ts';
import { type ParsedWords, type Parser, readWords } from './parse.ts';

/** A command line and what it does. */
export type Example = readonly [commandLine: string, effect: string];

/** The flags of a command that has none of its own. */
export type NoFlags = Readonly<Record<never, never>>;

export type BaseArgs = readonly unknown[];

export interface CommandDefinition<FLAGS extends BaseFlags, ARGS extends BaseArgs> {
  readonly name: string;
  /** One line, for the list of commands. */
  readonly brief: string;
  /** Usage lines after `veneer`. */
  readonly usage: readonly string[];
  /** Paragraphs of the help text. */
  readonly description?: string;
  readonly examples: readonly Example[];
  /** Own flags and arguments; --json, --quiet and (unless `noRoot`) --root are added. */
  readonly parameters: TypedCommandParameters<FLAGS, ARGS, CommandContext>;
  /** The command has nothing to do with a store. */
  readonly noRoot?: true;
  /** Exact words to read as others: flags whose value is optional. */
  readonly spellings?: Readonly<Record<string, readonly string[]>>;
  /** Short flags that are digits, to the name of the flag. */
  readonly digits?: Readonly<Record<string, string>>;
  /** Shell completion: what an argument is; the last one repeats. */
  readonly completes?: readonly ArgumentKind[];
  /** Does the work; returns an exit code when it is not 0. */
  run(context: CliContext, flags: FLAGS & CommonFlags, ...args: ARGS): Promise<number | undefined>;
}

export type ArgumentKind = 'image' | 'layer' | 'file' | 'folder' | 'shell' | 'none';

/** A declared command after its types are settled. */
export interface CliCommand {
  readonly name: string;
  readonly brief: string;
  readonly usage: readonly string[];
  readonly description: string;
  readonly examples: readonly Example[];
  readonly completes: readonly ArgumentKind[];
  readonly spellings: Readonly<Record<string, readonly string[]>>;
  readonly digits: Readonly<Record<string, string>>;
  readonly flags: Readonly<Record<string, FlagFacts>>;
  readonly aliases: Readonly<Record<string, string>>;
  /** Reads the words behind its name: {@link readWords}, or a way of its own. Throws `cli/usage`. */
  read(words: readonly string[]): ParsedWords | Promise<ParsedWords>;
  run(context: CliContext, flags: CommonFlags, args: readonly unknown[]): Promise<number | undefined>;
}

/** What help and completion need to know of a flag. */
export interface FlagFacts {
  readonly kind: string;
  readonly brief: string;
  readonly placeholder?: string;
  readonly values?: readonly string[];
  readonly default?: unknown;
  readonly optional?: boolean;
}

export const COMMON = {
  json: {
    kind: 'boolean',
    brief: 'Print one JSON object a result, and errors as JSON',
    withNegated: false,
    default: false,
  },
  quiet: { kind: 'boolean', brief: 'Print nothing but errors', withNegated: false, default: false },
} as const;

export const ROOT = {
  root: {
    kind: 'parsed',
    parse: (value: string) => value,
    brief:
      'Folder of the store (default: $VENEER_ROOT, /var/lib/veneer for root, your data folder otherwise)',
    placeholder: 'DIR',
    optional: true,
  },
} as const;

export function defineCommand<FLAGS extends BaseFlags, const ARGS extends BaseArgs>(
  definition: CommandDefinition<FLAGS, ARGS>,
): CliCommand {
  const own = definition.parameters as {
    flags?: Record<string, FlagFacts>;
    aliases?: Record<string, string>;
  };
  const flags: Record<string, FlagFacts> = { ...own.flags, ...COMMON, ...(definition.noRoot ? {} : ROOT) };
  const aliases = { ...own.aliases, q: 'quiet' };
  const command: CliCommand = {
    name: definition.name,
    brief: definition.brief,
    usage: definition.usage,
    description: definition.description ?? '',
    examples: definition.examples,
    completes: definition.completes ?? [],
    spellings: definition.spellings ?? {},
    digits: definition.digits ?? {},
    flags,
    aliases,
    read(words) {
      const parser: Parser = (onParsed) =>
        buildCommand({
          docs: { brief: definition.brief },
          parameters: { ...definition.parameters, flags, aliases } as never,
          func: (parsed: CommonFlags, ...args: unknown[]) => onParsed(parsed, args),
        });
      return readWords(command, parser, words);
    },
    run(context, parsed, args) {
      return definition.run(context, parsed as FLAGS & CommonFlags, ...(args as unknown as ARGS));
    },
  };
  return command;
}

/** Text flags and arguments are taken as they are. */
export const asText = (value: string): string => value;

/** The parameter of a command that takes one argument or more. */
export function manyOf(placeholder: string, brief: string, minimum = 1) {
  return { kind: 'array', minimum, parameter: { brief, placeholder, parse: asText } } as const;
}

/** The parameter of a command that takes exactly these arguments. */
export function oneOf(placeholder: string, brief: string) {
  return { brief, placeholder, parse: asText } as const;
}
