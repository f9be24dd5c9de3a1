/**
 * Reads the words of `veneer image …` as umoci reads its own, so that scripts need no change: the rules of Go's flag
 * package. `-name` is `--name`, a value may be empty, hold line feeds or begin with a dash, a flag may be repeated
 * (the last one counts, unless it collects), `--switch=false` turns off, and flags may stand behind arguments.
 */
import type { CliCommand } from '../command.ts';
import { type ParsedWords, usageError } from '../parse.ts';

const TRUE = new Set(['1', 't', 'T', 'TRUE', 'true', 'True']);
const FALSE = new Set(['0', 'f', 'F', 'FALSE', 'false', 'False']);

/** Flags by the name that stands on the command line. */
export interface GoFlag {
  /** As in the definition. */
  readonly key: string;
  readonly kind: 'switch' | 'text' | 'texts';
}

/** @throws VeneerError `cli/usage` that says which word is wrong. */
export function readGoWords(
  command: Pick<CliCommand, 'name'>,
  known: ReadonlyMap<string, GoFlag>,
  argumentNames: readonly string[],
  words: readonly string[],
  /** So many arguments must be there. */
  least = argumentNames.length,
): ParsedWords {
  const flags: Record<string, unknown> = {};
  for (const { key, kind } of known.values())
    if (kind !== 'text') flags[key] = kind === 'switch' ? false : [];
  const args: string[] = [];
  for (let at = 0; at < words.length; at++) {
    const word = words[at]!;
    if (word === '--') {
      args.push(...words.slice(at + 1));
      break;
    }
    const match = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(word);
    if (match === null) {
      if (/^-./.test(word)) throw usageError(command.name, `no such flag: ${word}`);
      args.push(word);
      continue;
    }
    const [, name, joined] = match;
    const flag = known.get(name!);
    if (flag === undefined) throw usageError(command.name, `no such flag: --${name}`);
    if (flag.kind === 'switch') {
      if (joined !== undefined && !TRUE.has(joined) && !FALSE.has(joined))
        throw usageError(command.name, `--${name} is true or false, not ${JSON.stringify(joined)}`);
      flags[flag.key] = joined === undefined || TRUE.has(joined);
      continue;
    }
    const value = joined ?? words[++at];
    if (value === undefined) throw usageError(command.name, `--${name} wants a value`);
    if (flag.kind === 'text') flags[flag.key] = value;
    else (flags[flag.key] as string[]).push(value);
  }
  if (args.length > argumentNames.length)
    throw usageError(command.name, `one argument too many: ${JSON.stringify(args[argumentNames.length])}`);
  const missing = argumentNames[args.length];
  if (missing !== undefined && args.length < least) throw usageError(command.name, `${missing} is missing`);
  if (args.includes('')) throw usageError(command.name, 'an argument is empty');
  return { flags: flags as unknown as ParsedWords['flags'], args };
}
