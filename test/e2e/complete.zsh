# complete.zsh SCRIPT LINE: what a zsh that has loaded SCRIPT makes of LINE when Tab is pressed behind it.
# The shell runs on a terminal of its own, where this file is sourced with --inside.
if [[ $1 = --inside ]]; then
  autoload -Uz compinit
  compinit -u -D
  function veneer { "$NODE" "$LAUNCHER" "$@" }
  source $2
  function tell { zle complete-word; print -r -- "<line>$BUFFER</line>"; zle kill-buffer }
  zle -N tell
  bindkey '^I' tell
  print '<ready>'
  return
fi
zmodload zsh/zpty || exit 1
zpty shell "zsh -f -i" || exit 1
said=
# Reads until the shell has said $1.
await() { while [[ $said != *$1* ]]; do zpty -r shell chunk || exit 1; said+=$chunk; done }
zpty -w shell "source ${(q)ZSH_SCRIPT} --inside ${(q)1}"
await '<ready>'
zpty -w -n shell "$2"$'\t'
await '</line>'
zpty -d shell
print -r -- "${${said##*<line>}%%</line>*}"
