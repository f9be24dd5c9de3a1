/** Oracles that may be missing: skipped with the reason here, a failure in CI. */
import { accessSync, constants, existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

/**
 * The path of `name`, looked up in PATH and in the directories where system programs are. When it is missing the test
 * is skipped and null comes back; with CI in the environment it fails instead.
 *
 *     if (requireTool(t, 'skopeo') === null) return;
 */
export function requireTool(t: TestContext, name: string): string | null {
  const dirs = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin'];
  for (const dir of dirs) {
    if (dir === '') continue;
    try {
      accessSync(join(dir, name), constants.X_OK);
      return join(dir, name);
    } catch {
      // Not here: the next directory.
    }
  }
  missing(t, `${name} is not installed`);
  return null;
}

const PROJECT = fileURLToPath(new URL('../..', import.meta.url));
const NEWER = join(process.env.VENEER_TOOLS ?? join(PROJECT, '.cache/tools'), 'bin');

/** Path of a program that scripts/tools.sh brings, or null. */
export function newerTool(name: string): string | null {
  const path = join(NEWER, name);
  return existsSync(path) ? path : null;
}

/** As {@link requireTool}, of those that scripts/tools.sh brings: distributions have older ones. */
export function requireNewerTool(t: TestContext, name: string): string | null {
  const path = newerTool(name);
  if (path === null) missing(t, `${name} is not there; scripts/tools.sh brings it`);
  return path;
}

/** Skips the test for want of something outside the project, or fails it in CI. */
export function missing(t: TestContext, reason: string): void {
  if (process.env.CI) throw new Error(`${reason}, and CI must have it`);
  t.diagnostic(`skipped: ${reason}`);
  t.skip(reason);
}
