/**
 * mkdir -p that always ends. node:fs's does not where mkdir(2) says ENOENT of a name whose parent is there: in
 * procfs, and behind a symlink that leads nowhere.
 */
import { mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * Makes a directory, and those above it that are missing. Returns what was made, topmost first.
 *
 * @param path absolute
 * @throws the error of mkdir(2), also when the name is there and no directory
 */
export function makeDirectory(path: string, mode: number): string[] {
  const missing: string[] = [];
  const made: string[] = [];
  for (let at = path; ; at = dirname(at)) {
    try {
      if (makeOne(at, mode)) made.push(at);
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || dirname(at) === at) throw error;
      missing.push(at);
    }
  }
  // Down again, once: what is still said to be missing now cannot be made.
  for (const at of missing.reverse()) if (makeOne(at, mode)) made.push(at);
  return made;
}

/** False when it is there already. */
function makeOne(path: string, mode: number): boolean {
  try {
    mkdirSync(path, { mode });
    return true;
  } catch (error) {
    const isThere = (error as NodeJS.ErrnoException).code === 'EEXIST';
    if (isThere && statSync(path, { throwIfNoEntry: false })?.isDirectory()) return false;
    throw error;
  }
}
