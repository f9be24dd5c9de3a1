/** The fish script: one `complete` line a flag. */
import type { ArgumentKind } from '../command.ts';
import type { Completed, CompletedFlag } from './script.ts';

const WORDS: Readonly<Record<ArgumentKind, string>> = {
  image: '(veneer images --names 2>/dev/null; __fish_complete_path)',
  layer: '(veneer images --names 2>/dev/null)',
  file: '(__fish_complete_path)',
  folder: '(__fish_complete_directories)',
  shell: 'bash zsh fish',
  none: '',
};

export function fishScript({ commands, families }: Completed): string {
  const lines = [
    '# fish completion for veneer; made by "veneer completion fish"',
    '# Whether the words that are no flags begin with these; with --only, whether they are these.',
    FOLLOWS,
    'complete -c veneer -f',
  ];
  for (const { name, members } of families) {
    const when = `-n ${quote(name === '' ? '__fish_use_subcommand' : `__veneer_follows --only ${name}`)}`;
    for (const { word, brief } of members) {
      lines.push(`complete -c veneer ${when} -a ${word} -d ${quote(brief)}`);
    }
  }
  for (const { name, flags, arguments: kinds } of commands) {
    const when = `-n '__veneer_follows ${name}'`;
    for (const flag of flags) lines.push(`complete -c veneer ${when} ${flagWords(flag)}`);
    for (const words of new Set(kinds.map((kind) => WORDS[kind]).filter((text) => text !== ''))) {
      lines.push(`complete -c veneer ${when} -a ${quote(words)}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

/** `ls` is a command of veneer's and of a family's. */
const FOLLOWS = `function __veneer_follows
  set -l only
  if test $argv[1] = --only
    set only yes
    set -e argv[1]
  end
  set -l words (string match -v -- '-*' (commandline -opc)[2..-1])
  set -l length (count $argv)
  test (count $words) -ge $length; or return 1
  test -n "$only"; and test (count $words) -ne $length; and return 1
  test "$words[1..$length]" = "$argv"
end`;

function flagWords({ names, brief, values }: CompletedFlag): string {
  const words = names.map((name) => (name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`));
  if (values !== null) words.push(values.length > 0 ? `-x -a ${quote(values.join(' '))}` : '-r -F');
  return `${words.join(' ')} -d ${quote(brief)}`;
}

const quote = (text: string): string => `'${text.replace(/\\/g, '\\\\').replace(/'/g, "\\'")}'`;
