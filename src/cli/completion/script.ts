/** Shell completion scripts, generated from the definitions of the commands. */
import type { ArgumentKind, CliCommand } from '../command.ts';
import { allCommands, allFamilies, COMMANDS } from '../commands.ts';
import { flagNames } from '../help.ts';
import { bashScript } from './bash.ts';
import { fishScript } from './fish.ts';
import { zshScript } from './zsh.ts';

/** What a script is made of. Words hold no quotes or blanks; briefs may. */
export interface CompletedCommand {
  /** With the words before it: `image ls`. */
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

/** Words that want a command behind them: "" for veneer itself, and the families. */
export interface CompletedFamily {
  readonly name: string;
  /** Its commands and families, under their short names. */
  readonly members: readonly { readonly word: string; readonly brief: string }[];
}

export interface Completed {
  readonly commands: readonly CompletedCommand[];
  /** veneer itself first. */
  readonly families: readonly CompletedFamily[];
}

export async function completionScript(shell: 'bash' | 'zsh' | 'fish'): Promise<string> {
  const commands = await Promise.all(
    allCommands().map(async ([, { load }]) => describe((await load()).default)),
  );
  const tables = [['', { commands: COMMANDS }] as const, ...allFamilies()];
  const families = tables.map(([name, family]): CompletedFamily => {
    const members = Object.entries(family.commands).map(([word, { brief }]) => ({ word, brief }));
    return { name, members };
  });
  const completed = { commands, families };
  switch (shell) {
    case 'bash':
      return bashScript(completed);
    case 'zsh':
      return zshScript(completed);
    case 'fish':
      return fishScript(completed);
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
