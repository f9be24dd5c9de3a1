/** The bash script: `complete -F`, without the bash-completion package. */
import type { CompletedCommand } from './script.ts';

export function bashScript(commands: readonly CompletedCommand[]): string {
  const flagCases = commands.map(
    ({ name, flags }) => `    ${name}) echo '${flags.flatMap(({ names }) => names).join(' ')}' ;;`,
  );
  const valueCases = commands.flatMap(({ name, flags }) =>
    flags
      .filter(({ values }) => values !== null)
      .map(
        ({ names, values }) =>
          `    ${names.map((flag) => `${name}:${flag}`).join('|')}) echo '${values!.length > 0 ? values!.join(' ') : '@file'}' ;;`,
      ),
  );
  const kindCases = commands.map(
    ({ name, arguments: kinds }) => `    ${name}) echo '${kinds.length > 0 ? kinds.join(' ') : 'none'}' ;;`,
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
  esac
}
_veneer_kinds() {
  case $1 in
${kindCases.join('\n')}
  esac
}
_veneer() {
  COMPREPLY=()
  # Image names hold colons, at which bash cuts words: cut at blanks instead.
  local line=\${COMP_LINE:0:COMP_POINT} words cur prev command= kind count=0 index word values
  read -ra words <<<"$line"
  cur=
  case $line in *[[:space:]]) ;; *) cur=\${words[\${#words[@]}-1]}; unset 'words[\${#words[@]}-1]' ;; esac
  prev=
  [ \${#words[@]} -gt 0 ] && prev=\${words[\${#words[@]}-1]}
  for ((index = 1; index < \${#words[@]}; index++)); do
    word=\${words[index]}
    case $word in
      -*) values=$(_veneer_values "$command" "$word"); [ -n "$values" ] && ((index++)) ;;
      *) if [ -z "$command" ]; then command=$word; else ((count++)); fi ;;
    esac
  done
  if [ -z "$command" ]; then
    COMPREPLY=($(compgen -W '${commands.map(({ name }) => name).join(' ')} help --help --version' -- "$cur"))
    return
  fi
  if [ "$command" = help ]; then
    COMPREPLY=($(compgen -W '${commands.map(({ name }) => name).join(' ')}' -- "$cur"))
    return
  fi
  values=$(_veneer_values "$command" "$prev")
  if [ "$values" = @file ]; then
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -- "$cur"))
    return
  elif [ -n "$values" ]; then
    COMPREPLY=($(compgen -W "$values" -- "$cur"))
    return
  fi
  case $cur in
    -*) COMPREPLY=($(compgen -W "$(_veneer_flags "$command")" -- "$cur")); return ;;
  esac
  read -ra words <<<"$(_veneer_kinds "$command")"
  kind=\${words[count < \${#words[@]} ? count : \${#words[@]} - 1]}
  case $kind in
    image)
      COMPREPLY=($(compgen -W "$(veneer images --names 2>/dev/null)" -- "$cur"))
      # bash inserts behind the last colon only.
      if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
        local head=\${cur%"\${cur##*:}"}
        for index in "\${!COMPREPLY[@]}"; do COMPREPLY[index]=\${COMPREPLY[index]#"$head"}; done
      fi
      [ \${#COMPREPLY[@]} -gt 0 ] || { compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")); } ;;
    file) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")) ;;
    folder) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -d -- "$cur")) ;;
    shell) COMPREPLY=($(compgen -W 'bash zsh fish' -- "$cur")) ;;
  esac
}
complete -F _veneer veneer
`;
}
