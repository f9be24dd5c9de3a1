/** The folder in which a driver keeps what it has, and what its parts are called. */
import { createHash } from 'node:crypto';
import { lstatSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { VeneerError } from '../errors.ts';
import type { HookSubject } from '../hooks/index.ts';
import { makeDirectory } from '../sys/make-directory.ts';

/** The options of a driver that wants `cache` and nothing else. Throws `hooks/bad-config`. */
export function cacheOption(driver: string, options: Readonly<Record<string, string>>): string {
  const { cache, ...others } = options;
  const [other] = Object.keys(others);
  if (other !== undefined) throw badOptions(driver, `it has no option ${JSON.stringify(other)}`);
  if (cache === undefined || !isAbsolute(cache)) {
    throw badOptions(driver, 'its option cache is to be the absolute path of a folder');
  }
  return cache;
}

export function badOptions(driver: string, reason: string): VeneerError {
  return new VeneerError('hooks/bad-config', `Cannot use the driver ${driver}: ${reason}`);
}

/** Makes a folder of the cache where it is missing. What is in it goes into root file systems: it must be ours alone. */
export function prepareCache(driver: string, cache: string, folder: string): string {
  const path = join(cache, folder);
  makeDirectory(path, 0o700);
  for (const one of [cache, path]) {
    const { uid, mode } = lstatSync(one);
    if (uid !== process.geteuid?.() || (mode & 0o022) !== 0) {
      throw badOptions(driver, `${one} is not ours alone: others own it or may write to it`);
    }
  }
  return path;
}

/** A name for what belongs to `digest`; trees for other owners are other trees. */
export function cacheName(digest: string, { maps }: Pick<HookSubject, 'maps'>): string {
  const hex = digest.slice(digest.indexOf(':') + 1);
  const isPlain = (one: HookSubject['maps']['uid']): boolean =>
    one.every(({ container, host }) => container === host);
  if (!maps.rootless && isPlain(maps.uid) && isPlain(maps.gid)) return hex;
  return `${hex}-${createHash('sha256').update(JSON.stringify(maps)).digest('hex').slice(0, 16)}`;
}

/** For what is unfinished: of this bundle alone, and found again by whoever cleans up after it. */
export function bundleMark({ bundle }: Pick<HookSubject, 'bundle'>): string {
  return createHash('sha256').update(bundle).digest('hex').slice(0, 16);
}
