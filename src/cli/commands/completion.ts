/** `veneer completion` */
import { defineCommand, type NoFlags } from '../command.ts';

const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

export default defineCommand<NoFlags, [shell: Shell]>({
  name: 'completion',
  brief: 'Print a shell completion script',
  usage: ['completion bash|zsh|fish'],
  description: 'Completes commands, flags, their values, files, and the names of the images in the store.',
  examples: [
    ['completion bash > ~/.local/share/bash-completion/completions/veneer', 'for bash'],
    ['completion zsh > ~/.zfunc/_veneer', 'for zsh, with ~/.zfunc in $fpath'],
    ['completion fish > ~/.config/fish/completions/veneer.fish', 'for fish'],
  ],
  parameters: {
    positional: {
      kind: 'tuple',
      parameters: [{ brief: 'Which shell', placeholder: 'SHELL', parse: parseShell }],
    },
  },
  noRoot: true,
  completes: ['shell'],
  async run({ out }, _flags, shell) {
    const { completionScript } = await import('../completion/script.ts');
    const script = await completionScript(shell);
    out.result({ shell, script }, () => script.trimEnd());
    return undefined;
  },
});

function parseShell(text: string): Shell {
  const shell = SHELLS.find((known) => known === text);
  if (shell === undefined) throw new Error('bash, zsh or fish');
  return shell;
}
