/** Where something is to be mounted. */
import { realpathSync, statSync } from 'node:fs';
import { VeneerError } from '../errors.ts';

/** The directory, symlinks resolved. Throws `mount/bad-target`. */
export function resolveTarget(target: string): string {
  let real: string;
  try {
    real = realpathSync(target);
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code;
    throw new VeneerError('mount/bad-target', `Cannot mount at ${target}: it does not exist (${reason})`, {
      hint: 'Make the directory first.',
      cause,
    });
  }
  if (!statSync(real).isDirectory()) {
    throw new VeneerError('mount/bad-target', `Cannot mount at ${target}: it is not a directory`);
  }
  return real;
}
