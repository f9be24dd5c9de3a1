/** `veneer doctor` */
import { defineCommand, type NoFlags } from '../command.ts';
import { storeRoot } from '../root.ts';
import { alignColumns } from '../table.ts';

export default defineCommand<NoFlags, []>({
  name: 'doctor',
  brief: 'Tell what this machine can do, and what to install',
  usage: ['doctor'],
  description: `Tries each thing that mounting images can use, leaves nothing behind, and says what to do where something is
missing. Exit code 1 when images cannot be mounted here. As root it can try more.`,
  examples: [
    ['doctor', 'a table'],
    ['doctor --json', 'for programs'],
  ],
  parameters: { positional: { kind: 'tuple', parameters: [] } },
  async run(context, flags) {
    const { diagnose } = await import('../../mount/doctor.ts');
    const root = storeRoot(flags, context.env);
    const report = diagnose(root, context.env.PATH);
    const byUser = report.checks.some(({ name, ok }) => name === 'erofsfuse' && ok === true);
    context.out.result({ ...report, store: root }, () => {
      const rows = report.checks.map(({ name, ok, needed, detail }) => [
        ok === null ? '?' : ok ? 'yes' : needed ? 'NO' : 'no',
        name,
        detail,
      ]);
      const advice = report.checks.flatMap(({ name, advice: text }) =>
        text === null ? [] : [`  ${name}: ${text}`],
      );
      return [
        ...alignColumns(rows),
        ...(advice.length > 0 ? ['', 'What to do:', ...advice] : []),
        '',
        report.ready
          ? `Images can be mounted here; the store is ${root}.`
          : byUser
            ? `Images can be mounted here with --user; the store is ${root}.`
            : 'Images cannot be mounted here yet.',
      ];
    });
    return report.ready || byUser ? 0 : 1;
  },
});
