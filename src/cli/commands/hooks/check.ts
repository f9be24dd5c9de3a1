/** `veneer hooks check` */
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { HookCheck, HookTimes } from '../../../bundle/check-hooks.ts';
import { asText, defineCommand } from '../../command.ts';
import { makeDrivers } from '../../image/hook-flags.ts';
import { alignColumns } from '../../table.ts';

type Flags = { readonly dir?: string };

const MARKS = { passed: 'ok', failed: 'FAILED', 'does not apply': '-' } as const;

export default defineCommand<Flags, [file?: string]>({
  name: 'hooks check',
  brief: 'Try hooks out on small images',
  usage: ['hooks check [--dir DIR] [HOOKS.TOML]'],
  description: `Small images go through the hooks of a hooks.toml into bundles, and every result is compared with the image byte by
byte. One unpack is made to fail, and some files are changed, to see what the hooks tell of it. They really keep what
they keep: give them another cache than the one in use. Without HOOKS.TOML the hooks that unpack would use are tried.

Exit status 1: something failed. docs/hooks.md says what is expected.`,
  examples: [
    ['hooks check hooks.toml', 'before you use it'],
    ['hooks check --dir /mnt/btrfs hooks.toml', 'bundles where the hooks want to have them'],
  ],
  parameters: {
    flags: {
      dir: {
        kind: 'parsed',
        parse: asText,
        optional: true,
        placeholder: 'DIR',
        brief: 'Folder to make the bundles in (default: the one for temporary files)',
      },
    },
    positional: {
      kind: 'tuple',
      parameters: [{ brief: 'The hooks', placeholder: 'HOOKS.TOML', parse: asText, optional: true }],
    },
  },
  completes: ['file'],
  async run(context, flags, file) {
    const { out, env, signal } = context;
    const { VeneerError } = await import('../../../errors.ts');
    const { findHooksFile, readHooksFile } = await import('../../../hooks/config.ts');
    const { checkHooks } = await import('../../../bundle/check-hooks.ts');
    const path = findHooksFile({ env, ...(file === undefined ? {} : { flag: file }) });
    if (path === null) {
      throw new VeneerError('hooks/bad-config', 'Cannot check hooks: there are none', {
        hint: 'Name a hooks.toml.',
      });
    }
    const hooks = readHooksFile(path, { makeDriver: await makeDrivers(context, flags) });
    const place = mkdtempSync(join(realpathSync(resolve(flags.dir ?? tmpdir())), 'veneer-hooks-'));
    let failed = false;
    const tell = (check: HookCheck): void => {
      failed ||= check.outcome === 'failed';
      out.result(
        check,
        () => `${MARKS[check.outcome].padEnd(6)} ${check.what}${check.detail && `: ${check.detail}`}`,
      );
    };
    try {
      const times = await checkHooks(hooks, place, tell, signal);
      if (out.json) for (const row of times) out.result(row, () => '');
      else if (!out.quiet) out.lines(['', ...alignColumns(tableOf(times))]);
    } finally {
      rmSync(place, { recursive: true, force: true });
    }
    return failed ? 1 : undefined;
  },
});

function tableOf(times: readonly HookTimes[]): string[][] {
  return [
    ['HOOK', 'EVENT', 'ANSWERED', 'DECLINED', 'FAILED', 'LONGEST'],
    ...times.map(({ hook, event, answered, declined, failed, longest }) => [
      hook,
      event,
      ...[answered, declined, failed].map(String),
      `${longest} ms`,
    ]),
  ];
}
