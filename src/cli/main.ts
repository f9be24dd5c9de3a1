/** The command line's entry: finds the command, loads only it, runs it, sets the exit code. */
import { Buffer } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { VeneerError } from '../errors.ts';
import { leaveStandardStreams } from '../sys/standard-streams.ts';
import type { CliCommand } from './command.ts';
import {
  COMMANDS,
  type CommandEntry,
  type CommandFamily,
  type CommandTable,
  findCommand,
  isFamily,
} from './commands.ts';
import type { CliContext } from './context.ts';
import { exitCodeOf } from './errors.ts';
import { Output } from './output.ts';
import { Cancellation } from './signals.ts';

/** A reader that went away: what a shell reports for SIGPIPE. */
const EXIT_PIPE = 141;

export async function main(words: readonly string[]): Promise<void> {
  const cancellation = new Cancellation();
  const out = new Output(process.stdout, process.stderr);
  const onStreamError = (error: NodeJS.ErrnoException): void => {
    if (error.code === 'EPIPE') cancellation.cancel(EXIT_PIPE, 'nobody reads the output any more');
    else throw error;
  };
  process.stdout.on('error', onStreamError);
  process.stderr.on('error', onStreamError);
  const context: CliContext = {
    env: process.env,
    out,
    get signal() {
      return cancellation.signal;
    },
    bytesOf: argumentBytes,
  };
  const exitCode = await runCommandLine(context, words).catch((error: unknown) => {
    if (isClosedPipe(error)) return EXIT_PIPE;
    if (cancellation.exitCode !== undefined) {
      if (cancellation.exitCode !== EXIT_PIPE) out.note(`stopped by ${cancellation.reason}`);
      return cancellation.exitCode;
    }
    out.error(error);
    return exitCodeOf(error);
  });
  const code = cancellation.exitCode ?? exitCode;
  process.exitCode = code;
  // With another code it may be an error that nobody caught, and Node prints it after this.
  process.once('exit', (last) => {
    if (last === 0) leaveStandardStreams();
  });
}

const isClosedPipe = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'EPIPE';

/** Runs one command line; returns its exit code or throws. */
export async function runCommandLine(context: CliContext, words: readonly string[]): Promise<number> {
  const { out } = context;
  const end = words.indexOf('--');
  const own = end < 0 ? words : words.slice(0, end);
  // Known before anything is parsed, so that a usage error comes out in the form that was asked for.
  out.setMode({ json: own.includes('--json'), quiet: false });
  const [name, ...rest] = flagsLast(words, COMMON_FLAG);
  const wantsHelp = own.includes('--help') || own.includes('-h');
  if (name === undefined || name === 'help' || name.startsWith('-')) {
    const topic = name === 'help' ? rest.filter((word) => !word.startsWith('-')) : [];
    if (topic.length > 0) return printHelp(context, await lookUp(topic));
    const { rootHelp } = await import('./help.ts');
    if (wantsHelp || name === 'help') {
      out.lines(rootHelp().trimEnd());
      return 0;
    }
    if (name === undefined) {
      out.stderr.write(rootHelp());
      return 2;
    }
    throw new VeneerError('cli/usage', `Cannot run veneer: ${name} comes before the command`, {
      hint: 'veneer COMMAND [FLAGS]; "veneer --help" lists the commands',
    });
  }
  const inFamily = findCommand(COMMANDS, name);
  if (inFamily === undefined || !isFamily(inFamily)) {
    if (wantsHelp) return printHelp(context, await lookUp([name]));
    return runCommand(context, await lookUp([name]), rest);
  }
  try {
    return await runMember(context, [name, ...rest], wantsHelp);
  } catch (error) {
    if (!inFamily.umoci) throw error instanceof NoSuchCommand ? error.reason : error;
    // umoci's exit codes: 1 for every failure, 3 for a command that there is not.
    if (error instanceof NoSuchCommand) out.error(error.reason);
    else if (error instanceof VeneerError && error.code === 'cli/usage') out.error(error);
    else throw error;
    return error instanceof NoSuchCommand ? 3 : 1;
  }
}

async function runCommand(context: CliContext, found: Found, words: readonly string[]): Promise<number> {
  if (!('command' in found)) return printHelp(context, found);
  const { flags, args } = await found.command.read(words);
  context.out.setMode(flags);
  return (await found.command.run(context, flags, args)) ?? 0;
}

/** A command of a family; the family's own name alone prints its help, as does "help" in it. */
async function runMember(context: CliContext, words: readonly string[], wantsHelp: boolean): Promise<number> {
  const path: string[] = [];
  let rest = [...words];
  let family: CommandTable | null = COMMANDS;
  while (family !== null) {
    const [word, ...more] = flagsLast(rest, path.length === 0 ? COMMON_FLAG : FAMILY_FLAG);
    if (word === 'help' && path.length > 0)
      return printHelp(context, await lookUp([...path, ...more.filter((name) => !name.startsWith('-'))]));
    if (word === undefined || (wantsHelp && word.startsWith('-')))
      return printHelp(context, await lookUp(path));
    if (word.startsWith('-'))
      throw new VeneerError('cli/usage', `Cannot run "veneer ${path.join(' ')}": no such flag: ${word}`, {
        hint: `"veneer ${path.join(' ')} --help" lists the commands`,
      });
    path.push(word);
    rest = more;
    const entry: CommandEntry | CommandFamily | undefined = findCommand(family, word);
    family = entry !== undefined && isFamily(entry) ? entry.commands : null;
  }
  const found = await lookUp(path).catch((reason: unknown) => {
    throw new NoSuchCommand(reason);
  });
  return wantsHelp ? printHelp(context, found) : runCommand(context, found, rest);
}

class NoSuchCommand extends Error {
  readonly reason: unknown;

  constructor(reason: unknown) {
    super('no such command');
    this.reason = reason;
  }
}

/** Flags that may stand before a command, and those of them that take the next word. */
const COMMON_FLAG = { alone: /^(--json|--quiet|-q|--root=.*)$/s, withValue: /^--root$/ };
/** umoci's stand before its commands too. */
const FAMILY_FLAG = {
  alone: /^(--json|--quiet|-q|--root=.*|--?verbose|--?log=.*)$/s,
  withValue: /^(--root|--?log)$/,
};

/** `veneer --json images` is `veneer images --json`. */
function flagsLast(words: readonly string[], { alone, withValue }: typeof COMMON_FLAG): readonly string[] {
  let count = 0;
  while (count < words.length) {
    const word = words[count]!;
    if (withValue.test(word) && count + 1 < words.length) count += 2;
    else if (alone.test(word)) count++;
    else break;
  }
  const [name, ...rest] = words.slice(count);
  return name === undefined || name.startsWith('-') ? words : [name, ...words.slice(0, count), ...rest];
}

type Found = { readonly command: CliCommand } | { readonly family: CommandFamily; readonly name: string };

async function printHelp({ out }: CliContext, found: Found): Promise<number> {
  const { commandHelp, familyHelp } = await import('./help.ts');
  const text = 'command' in found ? commandHelp(found.command) : familyHelp(found.name, found.family);
  out.lines(text.trimEnd());
  return 0;
}

/** The command or family that these words name. Words behind a command's name are its arguments. */
async function lookUp(names: readonly string[]): Promise<Found> {
  let table = COMMANDS;
  for (const [at, name] of names.entries()) {
    const entry = findCommand(table, name);
    const path = names.slice(0, at + 1).join(' ');
    if (entry === undefined) {
      const { nearestCommands } = await import('./suggest.ts');
      const nearest = nearestCommands(name, Object.keys(table));
      const parent = names.slice(0, at).join(' ');
      const help = `"veneer ${parent === '' ? '' : `${parent} `}--help" lists the commands`;
      throw new VeneerError('cli/usage', `Cannot run "veneer ${path}": there is no such command`, {
        hint: nearest.length > 0 ? `did you mean ${nearest.join(' or ')}?` : help,
      });
    }
    if (!isFamily(entry)) return { command: (await entry.load()).default };
    if (at === names.length - 1) return { family: entry, name: path };
    table = entry.commands;
  }
  throw new Error('no words');
}

/** Node decodes arguments as UTF-8 and loses what is not; the kernel still has the bytes. `argument` may be a word's end. */
function argumentBytes(argument: string): string {
  if (!argument.includes('\ufffd')) return Buffer.from(argument).toString('latin1');
  try {
    for (const word of readFileSync('/proc/self/cmdline').toString('latin1').split('\0')) {
      const bytes = Buffer.from(word, 'latin1');
      const text = bytes.toString('utf8');
      if (!text.endsWith(argument)) continue;
      const tail = bytes.subarray(Buffer.byteLength(text.slice(0, text.length - argument.length)));
      if (tail.toString('utf8') === argument) return tail.toString('latin1');
    }
  } catch {
    // Without /proc the decoded form is all there is.
  }
  return Buffer.from(argument).toString('latin1');
}
