/** Where the hooks of `unpack` and `repack` come from: --storage, --hooks, and the files that are looked for. */
import type { OpenHooks } from '../../bundle/hooked-bundle.ts';
import type { UnpackOptions } from '../../bundle/unpack-options.ts';
import { VeneerError } from '../../errors.ts';
import type { Hook, MakeDriver } from '../../hooks/index.ts';
import type { CliContext, CommonFlags } from '../context.ts';
import { usageError } from '../parse.ts';
import { storeRoot } from '../root.ts';
import { type ImageFlag, type LogFlags, ROOT_FLAG } from './define.ts';

export interface HookFlags {
  readonly hooks?: string;
  readonly storage?: string;
}

export const HOOK_FLAGS = {
  hooks: {
    brief: 'hooks.toml to use, or none (default: $VENEER_HOOKS, yours, the one in /etc/veneer)',
    placeholder: 'FILE',
  },
  ...ROOT_FLAG,
} as const satisfies Record<string, ImageFlag>;

const STORAGES = ['plain', 'auto', 'overlay', 'reflink'];

export const STORAGE_FLAG = {
  storage: { brief: `Where files come from: ${STORAGES.join(', ')} (default: plain)`, placeholder: 'WAY' },
} as const satisfies Record<string, ImageFlag>;

/** Makes the drivers that come with veneer. */
export async function makeDrivers({ env }: CliContext, flags: CommonFlags): Promise<MakeDriver> {
  const { driverMaker } = await import('../../drivers/index.ts');
  const { Store } = await import('../../store/store.ts');
  return driverMaker((root) => Store.open(root ?? storeRoot(flags, env)));
}

/** The hooks that are asked for; `outside`: folders in which a hooks.toml is not believed. */
export async function openHooks(
  context: CliContext,
  name: string,
  flags: HookFlags & LogFlags & CommonFlags,
  outside: readonly string[],
): Promise<OpenHooks> {
  const { storage = 'plain' } = flags;
  if (!STORAGES.includes(storage)) {
    throw usageError(name, `--storage is ${STORAGES.join(', ')}, not ${JSON.stringify(storage)}`);
  }
  const hooks = await readHooks(context, flags, outside);
  if (storage === 'auto' || storage === 'overlay')
    hooks.unshift(await storeHook(context, flags, storage === 'overlay'));
  return sessionOpener(context, flags, hooks);
}

/** The store's files for --storage reflink, and for auto where the layers are there. */
export function openStoredFiles(
  { env }: CliContext,
  name: string,
  flags: HookFlags & CommonFlags & { readonly image?: string; readonly 'keep-dirlinks': boolean },
): UnpackOptions['openStored'] {
  const { storage } = flags;
  const required = storage === 'reflink';
  if (!required && storage !== 'auto') return undefined;
  if (flags['keep-dirlinks']) {
    if (required)
      throw usageError(name, 'the store has images as without --keep-dirlinks: leave out --storage');
    return undefined;
  }
  return async (diffIds) => {
    const { Store } = await import('../../store/store.ts');
    const { hasLayer } = await import('../../store/layers.ts');
    const store = Store.open(storeRoot(flags, env));
    try {
      const lacks = diffIds.filter((diffId) => !hasLayer(store, diffId));
      if (diffIds.length > 0 && lacks.length === 0) {
        const { openStoredTree } = await import('../../bundle/stored-image.ts');
        return await openStoredTree(store, diffIds);
      }
      if (!required || diffIds.length === 0) return null;
      throw new VeneerError(
        'store/no-image',
        `Cannot take ${flags.image} from the store: it lacks ${lacks.length} of its ${diffIds.length} layers`,
        {
          hint: `Get it into the store with "veneer pull oci:${flags.image}", or unpack with --storage plain.`,
        },
      );
    } finally {
      store.close();
    }
  };
}

/** Those of hooks.toml. */
async function readHooks(
  context: CliContext,
  flags: HookFlags & CommonFlags,
  outside: readonly string[],
): Promise<Hook[]> {
  const { findHooksFile, readHooksFile } = await import('../../hooks/config.ts');
  const { env } = context;
  const { hooks } = flags;
  const file = findHooksFile({
    env,
    ...(hooks === undefined ? {} : { flag: hooks === 'none' ? '' : hooks }),
  });
  return file === null ? [] : readHooksFile(file, { makeDriver: await makeDrivers(context, flags), outside });
}

/** The store's images, mounted. */
async function storeHook({ env }: CliContext, flags: CommonFlags, required: boolean): Promise<Hook> {
  const { veneerDriver } = await import('../../drivers/veneer.ts');
  const { Store } = await import('../../store/store.ts');
  return veneerDriver({}, () => Store.open(storeRoot(flags, env)), required);
}

async function sessionOpener(
  { out, signal }: CliContext,
  { verbose, log }: LogFlags,
  hooks: readonly Hook[],
): Promise<OpenHooks> {
  if (hooks.length === 0) return () => null;
  const { HookSession } = await import('../../hooks/session.ts');
  const debug = log === 'debug';
  const telling = debug || verbose || log === 'info';
  return (subject) =>
    new HookSession(hooks, subject, {
      ...(signal === undefined ? {} : { signal }),
      onLog: (hook, line) => {
        if (telling) out.note(`${hook}: ${line}`, { hook });
      },
      onReport: ({ hook, event, outcome, error, borne }) => {
        if (borne) out.note(error!.message, { hook, event });
        else if (debug) out.note(`${hook}: ${event}: ${outcome}`, { hook, event, outcome });
      },
    });
}
