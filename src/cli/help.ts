/** Help texts, made from the definitions. */
import type { CliCommand, FlagFacts } from './command.ts';
import { COMMANDS, type CommandFamily } from './commands.ts';
import { alignColumns } from './table.ts';

const kebab = (name: string): string => name.replace(/[A-Z]/g, (char) => `-${char.toLowerCase()}`);

export function commandHelp(command: CliCommand): string {
  const lines = ['Usage:', ...command.usage.map((usage) => `  veneer ${usage}`), '', command.brief];
  if (command.description !== '') lines.push('', ...command.description.trim().split('\n'));
  lines.push('', 'Flags:', ...flagRows(command), '', 'Examples:');
  for (const [line, effect] of command.examples) {
    // A pipeline says itself where veneer stands in it.
    lines.push(`  # ${effect}`, line.includes('| veneer ') ? `  ${line}` : `  veneer ${line}`);
  }
  return `${lines.join('\n')}\n`;
}

/** `--name VALUE` of a flag as help and completion show it; two names for a flag that is on by default. */
export function flagNames(name: string, flag: FlagFacts): string[] {
  return flag.kind === 'boolean' && flag.default === true ? [`--no-${kebab(name)}`] : [`--${kebab(name)}`];
}

function flagRows(command: CliCommand): string[] {
  const rows = Object.entries(command.flags).map(([name, flag]) => {
    const alias = Object.entries(command.aliases).find(([, target]) => target === name)?.[0];
    const value = flag.kind === 'boolean' ? '' : ` ${flag.placeholder ?? flag.values?.join('|') ?? 'VALUE'}`;
    const shown =
      typeof flag.default === 'string' && flag.default !== '' ? ` (default: ${flag.default})` : '';
    const short = alias === undefined ? '   ' : `-${alias},`;
    return [`${short} ${flagNames(name, flag).join(' ')}${value}`, flag.brief + shown];
  });
  rows.push(['-h, --help', 'Print this help']);
  return alignColumns(rows).map((row) => `  ${row}`);
}

/** The commands of a family. */
export function familyHelp(name: string, { brief, commands }: CommandFamily): string {
  const rows = Object.entries(commands).map(([word, entry]) => [word, entry.brief]);
  return `${[
    'Usage:',
    `  veneer ${name} COMMAND [FLAGS]`,
    '',
    brief,
    '',
    'Commands:',
    ...alignColumns(rows).map((row) => `  ${row}`),
    '',
    'Examples:',
    `  # flags and examples of a command`,
    `  veneer ${name} ${Object.keys(commands)[0]} --help`,
  ].join('\n')}\n`;
}

export function rootHelp(): string {
  const rows = Object.entries(COMMANDS).map(([name, entry]) => [name, entry.brief]);
  return `${[
    'veneer: container images that mount instead of being unpacked',
    '',
    'Usage:',
    '  veneer COMMAND [ARGUMENTS]',
    '',
    'Commands:',
    ...alignColumns(rows).map((row) => `  ${row}`),
    '',
    'Flags:',
    "  -h, --help     Print this help, or a command's: veneer COMMAND --help",
    '      --version  Print the version',
    '',
    'Examples:',
    '  veneer pull debian:12                            # from a registry, ready to mount',
    '  veneer mount debian:12 /mnt                      # as root',
    '  veneer cat debian:12:/etc/os-release             # no mount, no root',
    '',
    'IMAGE is the name that pull gave, a digest or its unambiguous beginning.',
    'IMAGE:PATH names a file in it; PATH begins with "/".',
  ].join('\n')}\n`;
}
