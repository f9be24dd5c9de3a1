/** The fish script: one `complete` line a flag. */
import type { ArgumentKind } from '../command.ts';
import type { CompletedCommand, CompletedFlag } from './script.ts';

const WORDS: Readonly<Record<ArgumentKind, string>> = {
  image: '(veneer images --names 2>/dev/null; __fish_complete_path)',
  layer: '(veneer images --names 2>/dev/null)',
  file: '(__fish_complete_path)',
  folder: '(__fish_complete_directories)',
  shell: 'bash zsh fish',
  none: '',
};

export function fishScript(commands: readonly CompletedCommand[]): string {
  const lines = ['# fish completion for veneer; made by "veneer completion fish"', 'complete -c veneer -f'];
  for (const { name, brief } of commands) {
    lines.push(`complete -c veneer -n __fish_use_subcommand -a ${name} -d ${quote(brief)}`);
  }
  for (const { name, flags, arguments: kinds } of commands) {
    const when = `-n '__fish_seen_subcommand_from ${name}'`;
    for (const flag of flags) lines.push(`complete -c veneer ${when} ${flagWords(flag)}`);
    for (const words of new Set(kinds.map((kind) => WORDS[kind]).filter((text) => text !== ''))) {
      lines.push(`complete -c veneer ${when} -a ${quote(words)}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

function flagWords({ names, brief, values }: CompletedFlag): string {
  const words = names.map((name) => (name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`));
  if (values !== null) words.push(values.length > 0 ? `-x -a ${quote(values.join(' '))}` : '-r -F');
  return `${words.join(' ')} -d ${quote(brief)}`;
}

const quote = (text: string): string => `'${text.replace(/\\/g, '\\\\').replace(/'/g, "\\'")}'`;
