/** The zsh script: `_arguments` specifications. */
import type { ArgumentKind } from '../command.ts';
import type { Completed, CompletedCommand, CompletedFlag } from './script.ts';

const ACTIONS: Readonly<Record<ArgumentKind, string>> = {
  image: '_veneer_images',
  layer: '_veneer_images',
  file: '_files',
  folder: '_files -/',
  shell: '(bash zsh fish)',
  none: '( )',
};

export function zshScript({ commands, families }: Completed): string {
  const cases = [
    ...families.slice(1).map(({ name }) => `    ${quote(name)}) _veneer_family ${quote(name)} ;;`),
    ...commands.map(
      (command) =>
        `    ${quote(command.name)}) _arguments -s ${specifications(command).map(quote).join(' ')} ;;`,
    ),
  ];
  const lists = families.map(({ name, members }) => {
    const list = members.map(({ word, brief }) => quote(`${word}:${brief}`));
    return `    ${quote(name)}) commands=(${list.join(' ')}) ;;`;
  });
  return `#compdef veneer
# zsh completion for veneer; made by "veneer completion zsh"
_veneer_images() {
  local -a images
  images=(\${(f)"$(veneer images --names 2>/dev/null)"})
  (( \${#images} )) && compadd -a images
  _files
}
_veneer() {
  # Flags of every command may stand before it too.
  while (( CURRENT > 2 )) && [[ $words[2] == -* ]]; do
    [[ $words[2] == --root ]] && (( CURRENT > 3 )) && { shift words; (( CURRENT-- )); }
    shift words
    (( CURRENT-- ))
  done
  _veneer_family ''
}
# Completes the commands of a family ('' for all), or goes on with the one that stands there.
_veneer_family() {
  local -a commands
  case $1 in
${lists.join('\n')}
  esac
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command="\${1:+$1 }$words[2]"
  shift words
  (( CURRENT-- ))
  case $command in
${cases.join('\n')}
  esac
}
if [ "$funcstack[1]" = _veneer ]; then _veneer "$@"; else compdef _veneer veneer; fi
`;
}

function specifications({ flags, arguments: kinds }: CompletedCommand): string[] {
  const words = flags.flatMap(flagSpecifications);
  kinds.forEach((kind, index) => {
    const last = index === kinds.length - 1 && kind !== 'none';
    words.push(`${last ? '*' : String(index + 1)}:${kind}:${ACTIONS[kind]}`);
  });
  return words;
}

function flagSpecifications({ names, brief, values }: CompletedFlag): string[] {
  const text = brief.replace(/[[\]:]/g, '\\$&');
  const value = values === null ? '' : values.length > 0 ? `:value:(${values.join(' ')})` : ':value:_files';
  // "--flag=" takes its value behind "=" or as the next word, "-f+" behind the letter or as the next word.
  const joined = (name: string): string => (values === null ? '' : name.startsWith('--') ? '=' : '+');
  return names.map((name) => `*${name}${joined(name)}[${text}]${value}`);
}

const quote = (text: string): string => `'${text.replace(/'/g, `'\\''`)}'`;
