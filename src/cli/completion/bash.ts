/** The bash script: `complete -F`, without the bash-completion package. */
import type { Completed } from './script.ts';

export function bashScript({ commands, families }: Completed): string {
  const memberCases = families.map(
    ({ name, members }) => `    '${name}') echo '${members.map(({ word }) => word).join(' ')}' ;;`,
  );
  const flagCases = commands.map(
    ({ name, flags }) => `    '${name}') echo '${flags.flatMap(({ names }) => names).join(' ')}' ;;`,
  );
  const valueCases = commands.flatMap(({ name, flags }) =>
    flags
      .filter(({ values }) => values !== null)
      .map(
        ({ names, values }) =>
          `    ${names.map((flag) => `'${name}:${flag}'`).join('|')}) echo '${values!.length > 0 ? values!.join(' ') : '@file'}' ;;`,
      ),
  );
  const kindCases = commands.map(
    ({ name, arguments: kinds }) => `    '${name}') echo '${kinds.length > 0 ? kinds.join(' ') : 'none'}' ;;`,
  );
  return `# bash completion for veneer; made by "veneer completion bash"
_veneer_flags() {
  case $1 in
${flagCases.join('\n')}
  esac
}
# What the value of flag $2 of command $1 is: words, @file, or nothing when it takes none.
_veneer_values() {
  case $1:$2 in
${valueCases.join('\n')}
    :--root) echo '@file' ;;
  esac
}
# The commands of a family, or with '' all.
_veneer_members() {
  case $1 in
${memberCases.join('\n')}
  esac
}
_veneer_kinds() {
  case $1 in
${kindCases.join('\n')}
  esac
}
# Offers the words $1, or files, that begin with $2.
_veneer_words() {
  if [ "$1" = @file ]; then
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -- "$2"))
  else
    COMPREPLY=($(compgen -W "$1" -- "$2"))
  fi
}
_veneer() {
  COMPREPLY=()
  # Image names hold colons, at which bash cuts words: cut at blanks instead.
  local line=\${COMP_LINE:0:COMP_POINT} words cur prev command= kind count=0 index word values head
  read -ra words <<<"$line"
  cur=
  case $line in *[[:space:]]) ;; *) cur=\${words[\${#words[@]}-1]}; unset 'words[\${#words[@]}-1]' ;; esac
  prev=
  [ \${#words[@]} -gt 0 ] && prev=\${words[\${#words[@]}-1]}
  for ((index = 1; index < \${#words[@]}; index++)); do
    word=\${words[index]}
    case $word in
      -*) values=$(_veneer_values "$command" "$word"); [ -n "$values" ] && ((index++)) ;;
      *)
        if [ -z "$command" ]; then command=$word
        elif [ -n "$(_veneer_members "$command")" ]; then command="$command $word"
        else ((count++)); fi ;;
    esac
  done
  case $cur in
    --*=*)
      values=$(_veneer_values "$command" "\${cur%%=*}")
      _veneer_words "$values" "\${cur#*=}"
      # bash inserts behind the "=" only, unless somebody told it not to cut there.
      [[ $COMP_WORDBREAKS == *=* ]] || COMPREPLY=("\${COMPREPLY[@]/#/"\${cur%%=*}="}")
      return ;;
  esac
  values=$(_veneer_values "$command" "$prev")
  if [ -n "$values" ]; then
    _veneer_words "$values" "$cur"
    return
  fi
  if [ -z "$command" ]; then
    _veneer_words "$(_veneer_members '') help --help --version --json --quiet --root" "$cur"
    return
  fi
  if [ "$command" = help ]; then
    _veneer_words "$(_veneer_members '')" "$cur"
    return
  fi
  words=$(_veneer_members "$command")
  if [ -n "$words" ]; then
    _veneer_words "$words --help" "$cur"
    return
  fi
  case $cur in
    -*) _veneer_words "$(_veneer_flags "$command")" "$cur"; return ;;
  esac
  read -ra words <<<"$(_veneer_kinds "$command")"
  # No such command.
  [ \${#words[@]} -gt 0 ] || return
  kind=\${words[count < \${#words[@]} ? count : \${#words[@]} - 1]}
  case $kind in
    image)
      # bash inserts behind the last colon only.
      head=
      [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]] && head=\${cur%"\${cur##*:}"}
      # Not compgen -W: it would run what stands in a name as $(...).
      while IFS= read -r word; do
        [[ $word == "$cur"* ]] || continue
        printf -v word %q "\${word#"$head"}"
        COMPREPLY+=("$word")
      done < <(veneer images --names 2>/dev/null)
      [ \${#COMPREPLY[@]} -gt 0 ] || _veneer_words @file "$cur" ;;
    file) _veneer_words @file "$cur" ;;
    folder) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -d -- "$cur")) ;;
    shell) _veneer_words 'bash zsh fish' "$cur" ;;
  esac
}
complete -F _veneer veneer
`;
}
