/** Turns the words behind a command's name into flags and arguments, or into a usage error. */
import {
  AliasNotFoundError,
  ArgumentParseError,
  buildApplication,
  type Command,
  type CommandContext,
  EnumValidationError,
  FlagNotFoundError,
  run,
  text_en,
  UnexpectedFlagError,
  UnexpectedPositionalError,
  UnsatisfiedFlagError,
  UnsatisfiedPositionalError,
} from '@stricli/core';
import { VeneerError } from '../errors.ts';
import type { CliCommand } from './command.ts';
import type { CommonFlags } from './context.ts';

export interface ParsedWords {
  readonly flags: CommonFlags;
  readonly args: readonly unknown[];
}

/** The parser's form of a command: parses into `onParsed`, does no work. */
export type Parser = (
  onParsed: (flags: CommonFlags, args: readonly unknown[]) => void,
) => Command<CommandContext>;

/** @throws VeneerError `cli/usage` that says which word is wrong. */
export async function readWords(
  command: CliCommand,
  makeParser: Parser,
  words: readonly string[],
): Promise<ParsedWords> {
  let parsed: ParsedWords | undefined;
  const complaints: string[] = [];
  const parser = makeParser((flags, args) => {
    parsed = { flags, args };
  });
  const text = { ...text_en, exceptionWhileParsingArguments: (error: unknown) => explain(error) };
  const application = buildApplication(
    parser,
    {
      name: command.name,
      scanner: { caseStyle: 'allow-kebab-for-camel', allowArgumentEscapeSequence: true },
      documentation: { disableAnsiColor: true },
      localization: { text },
    },
    {},
  );
  const sink = { write: (line: string) => void complaints.push(line.trimEnd()) };
  await run(application, respell(command, words), { process: { stdout: sink, stderr: sink } });
  if (parsed !== undefined && complaints.length === 0) return parsed;
  throw usageError(command.name, complaints.join('; '));
}

export function usageError(command: string, reason: string): VeneerError {
  return new VeneerError('cli/usage', `Cannot run "veneer ${command}": ${reason}`, {
    hint: `"veneer ${command} --help" shows its flags and examples`,
  });
}

/**
 * Brings words into the parser's form: the command's extra spellings, and bundles of short flags (`-R0`, `-fo FILE`,
 * `-oFILE`), of which it knows only those without values. Refuses what it would take for an argument.
 */
function respell(command: CliCommand, words: readonly string[]): string[] {
  const result: string[] = [];
  for (const [index, word] of words.entries()) {
    if (word === '--') return [...result, ...words.slice(index)];
    if (Object.hasOwn(command.spellings, word)) result.push(...command.spellings[word]!);
    else if (/^-[a-z0-9]/i.test(word)) result.push(...splitBundle(command, word));
    else if (/^--[a-z][a-z-.\d_]+=$/i.test(word))
      throw usageError(command.name, `${word.slice(0, -1)} wants a value`);
    else if (/^--./.test(word) && !/^--[a-z][a-z-.\d_]+(=.+)?$/is.test(word)) {
      throw usageError(command.name, `no such flag: ${word}`);
    } else result.push(word);
  }
  return result;
}

function splitBundle(command: CliCommand, word: string): string[] {
  const result: string[] = [];
  for (let at = 1; at < word.length; at++) {
    const letter = word[at]!;
    const name = command.aliases[letter] ?? command.digits[letter];
    const flag = name === undefined ? undefined : command.flags[name];
    if (flag === undefined) throw usageError(command.name, `no such flag: -${letter}`);
    result.push(command.digits[letter] === undefined ? `-${letter}` : `--${name}`);
    if (flag.kind === 'boolean') continue;
    const value = word.slice(at + 1).replace(/^=/, '');
    if (value !== '') result.push(value);
    break;
  }
  return result;
}

const listed = (words: readonly string[]): string => words.join(' or ');

function explain(error: unknown): string {
  if (error instanceof FlagNotFoundError) {
    const nearest = error.corrections.map((word) => `--${word}`);
    return `no such flag: --${error.input}${nearest.length > 0 ? `; did you mean ${listed(nearest)}?` : ''}`;
  }
  if (error instanceof AliasNotFoundError) return `no such flag: -${error.input}`;
  if (error instanceof ArgumentParseError) {
    const reason = error.exception instanceof Error ? error.exception.message : String(error.exception);
    return `"${error.input}" is no good for ${error.externalFlagNameOrPlaceholder}: ${reason}`;
  }
  if (error instanceof EnumValidationError) {
    return `--${error.externalFlagName} is ${listed(error.values)}, not "${error.input}"`;
  }
  if (error instanceof UnsatisfiedFlagError) return `--${error.externalFlagName} wants a value`;
  if (error instanceof UnexpectedFlagError) return `--${error.externalFlagName} is given twice`;
  if (error instanceof UnexpectedPositionalError) return `one argument too many: "${error.input}"`;
  if (error instanceof UnsatisfiedPositionalError) return `${error.placeholder} is missing`;
  return error instanceof Error ? error.message : String(error);
}
