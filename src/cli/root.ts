/** Where the store is when nobody says. */
import { homedir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import type { CliContext, CommonFlags } from './context.ts';

const SYSTEM_ROOT = '/var/lib/veneer';

/** `--root`, else $VENEER_ROOT, else the system's store for root and the user's own (XDG base directories) for everybody else. */
export function storeRoot(flags: CommonFlags, env: CliContext['env'], uid = process.getuid?.()): string {
  const given = flags.root || env.VENEER_ROOT;
  if (given) return resolve(given);
  if (uid === 0) return SYSTEM_ROOT;
  // The XDG specification: a relative path in the variable is invalid and is ignored.
  const data = env.XDG_DATA_HOME && isAbsolute(env.XDG_DATA_HOME) ? env.XDG_DATA_HOME : undefined;
  return join(data ?? join(env.HOME || homedir(), '.local/share'), 'veneer');
}
