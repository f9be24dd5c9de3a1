/** The part of a bundle that hooks make, and what is written down of it. */
import { closeSync, constants, openSync } from 'node:fs';
import type { HookSession, HookSubject } from '../hooks/index.ts';
import { statAt } from '../sys/stat.ts';
import { describeRoot, writeState } from './bundle-state.ts';
import type { HookedResult } from './unpack-hooked.ts';

/** Hooks for one bundle, once it is known which image goes into it. Null: there are none. */
export type OpenHooks = (subject: HookSubject) => HookSession | null;

/** Hooks that veneer's store stands behind, see drivers/veneer.ts. */
const STORE_HOOK = 'veneer';

export async function rememberHooks(
  bundle: string,
  rootfs: string,
  { deltas, skipped }: HookedResult,
): Promise<void> {
  const fd = openSync(rootfs, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const storage = skipped.some(({ hook }) => hook === STORE_HOOK) ? 'overlay' : 'hooks';
    const root = describeRoot(statAt(fd, '')!);
    await writeState(bundle, { storage, deltas, skipped: [...skipped], root });
  } finally {
    closeSync(fd);
  }
}
