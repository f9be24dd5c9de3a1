/** The command line's entry: finds the command, loads only it, runs it, sets the exit code. */
import { Buffer } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { VeneerError } from '../errors.ts';
import { COMMANDS } from './commands.ts';
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
  process.exitCode = cancellation.exitCode ?? exitCode;
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
  const [name, ...rest] = commonFlagsLast(words);
  const wantsHelp = own.includes('--help') || own.includes('-h');
  if (name === undefined || name === 'help' || name.startsWith('-')) {
    const topic = name === 'help' ? rest.find((word) => !word.startsWith('-')) : undefined;
    if (topic !== undefined) return printHelp(context, topic);
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
  if (wantsHelp) return printHelp(context, name);
  const command = await loadCommand(name);
  const { parseWords } = await import('./parse.ts');
  const { flags, args } = await parseWords(command, rest);
  out.setMode(flags);
  return (await command.run(context, flags, args)) ?? 0;
}

/** `veneer --json images` is `veneer images --json`. */
function commonFlagsLast(words: readonly string[]): readonly string[] {
  let count = 0;
  while (count < words.length) {
    const word = words[count]!;
    if (word === '--root' && count + 1 < words.length) count += 2;
    else if (/^(--json|--quiet|-q|--root=.*)$/s.test(word)) count++;
    else break;
  }
  const [name, ...rest] = words.slice(count);
  return name === undefined || name.startsWith('-') ? words : [name, ...words.slice(0, count), ...rest];
}

async function printHelp({ out }: CliContext, name: string): Promise<number> {
  const command = await loadCommand(name);
  const { commandHelp } = await import('./help.ts');
  out.lines(commandHelp(command).trimEnd());
  return 0;
}

async function loadCommand(name: string) {
  const entry = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (entry !== undefined) return (await entry.load()).default;
  const { nearestCommands } = await import('./suggest.ts');
  const nearest = nearestCommands(name, Object.keys(COMMANDS));
  throw new VeneerError('cli/usage', `Cannot run "veneer ${name}": there is no such command`, {
    hint: nearest.length > 0 ? `did you mean ${nearest.join(' or ')}?` : '"veneer --help" lists the commands',
  });
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
