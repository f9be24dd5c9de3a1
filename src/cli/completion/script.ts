/** Shell completion scripts, generated from the definitions of the commands. */
import type { ArgumentKind, CliCommand } from '../command.ts';
import { COMMANDS } from '../commands.ts';
import { flagNames } from '../help.ts';
import { bashScript } from './bash.ts';
import { fishScript } from './fish.ts';
import { zshScript } from './zsh.ts';

/** What a script is made of. Words hold no quotes or blanks; briefs may. */
export interface CompletedCommand {
  readonly name: string;
  readonly brief: string;
  readonly flags: readonly CompletedFlag[];
  /** What its arguments are; the last one repeats. */
  readonly arguments: readonly ArgumentKind[];
}

export interface CompletedFlag {
  /** `--long`, and `-x` where there is one. */
  readonly names: readonly string[];
  readonly brief: string;
  /** Null: takes no value. Empty: any, files are offered. */
  readonly values: readonly string[] | null;
}

export async function completionScript(shell: 'bash' | 'zsh' | 'fish'): Promise<string> {
  const commands = await Promise.all(
    Object.values(COMMANDS).map(async ({ load }) => describe((await load()).default)),
  );
  switch (shell) {
    case 'bash':
      return bashScript(commands);
    case 'zsh':
      return zshScript(commands);
    case 'fish':
      return fishScript(commands);
  }
}

function describe(command: CliCommand): CompletedCommand {
  const flags = Object.entries(command.flags).map(([name, flag]): CompletedFlag => {
    const short = Object.entries(command.aliases).filter(([, target]) => target === name);
    // A flag whose value is optional takes it only behind "=".
    const takesValue = flag.kind !== 'boolean' && !Object.hasOwn(command.spellings, `--${name}`);
    return {
      names: [...flagNames(name, flag), ...short.map(([letter]) => `-${letter}`)],
      brief: flag.brief,
      values: takesValue ? (flag.values ?? []) : null,
    };
  });
  flags.push({ names: ['--help', '-h'], brief: 'Print help', values: null });
  return { name: command.name, brief: command.brief, flags, arguments: command.completes };
}
