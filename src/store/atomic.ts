/**
 * The three ways by which anything gets a final name in the store, and the one by which it loses it.
 *
 * Rule for all: write under tmp/, make the bytes durable, rename, make the rename durable. So a final name is
 * either absent or complete, whenever the process or the machine dies.
 */
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  constants,
  fsync as fsyncCallback,
  fsyncSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { setImmutable } from '../sys/file-flags.ts';
import { makeDirectory } from '../sys/make-directory.ts';
import { errnoName, isMissing } from './io-errors.ts';

const fsync = promisify(fsyncCallback);

/** Makes a file or directory durable, off the main thread. */
export async function syncPath(path: string): Promise<void> {
  const fd = openSync(path, constants.O_RDONLY);
  try {
    await fsync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Several at once: file systems with a journal make them durable together. */
export async function syncPaths(paths: readonly string[]): Promise<void> {
  await Promise.all(paths.map(syncPath));
}

export function syncPathNow(path: string): void {
  const fd = openSync(path, constants.O_RDONLY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/**
 * Makes directories (0700) that are missing, parents too, and makes their entries durable: what is renamed into
 * them later would be lost with them. A crash leaves at most empty directories.
 */
export function makeDirectories(paths: readonly string[], options: { fsync: boolean }): void {
  const changed = new Set(paths.flatMap((path) => makeDirectory(path, 0o700)).map((path) => dirname(path)));
  if (options.fsync) for (const path of changed) syncPathNow(path);
}

/**
 * Writes a small new file in a directory that has no final name yet. A crash leaves part of it there, and the
 * directory is swept.
 */
export async function writeNewFile(
  path: string,
  data: Buffer | string,
  options: { fsync: boolean; mode?: number },
): Promise<void> {
  const file = await open(path, 'wx', options.mode ?? 0o444);
  try {
    await file.writeFile(data);
    if (options.fsync) await file.sync();
  } finally {
    await file.close();
  }
}

/**
 * Puts a small file under its final name, replacing what is there. The name itself is durable once its directory
 * is synced (see {@link syncPath}).
 *
 * A crash before the rename leaves `work/RANDOM`, which goes with its work directory; one before the directory
 * is durable leaves the old content or the new, each whole.
 */
export async function writeFileAtomic(
  path: string,
  data: Buffer | string,
  options: { work: string; fsync: boolean; mode?: number },
): Promise<void> {
  const temporary = join(options.work, randomBytes(9).toString('hex'));
  try {
    await writeNewFile(temporary, data, options);
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

/**
 * Gives a finished directory its final name. Its `files` become read-only and, with `fsync`, durable here, all at once.
 * The name itself is durable once the directory above is synced (see {@link syncPath}), which a pull does once for all.
 *
 * Returns false, and leaves `from` alone, when the final name is taken: two writers of one digest wrote the same.
 * A crash before the rename leaves `from`, which goes with its work directory; one after it leaves `to`, complete,
 * or `from`.
 */
export async function publishDirectory(
  from: string,
  to: string,
  options: { fsync: boolean; files: readonly string[] },
): Promise<boolean> {
  for (const file of options.files) chmodSync(join(from, file), 0o444);
  if (options.fsync) await syncPaths([...options.files.map((file) => join(from, file)), from]);
  try {
    renameSync(from, to);
  } catch (error) {
    const name = errnoName(error);
    if (name === 'ENOTEMPTY' || name === 'EEXIST') return false;
    throw error;
  }
  return true;
}

/** Removes a file's final name; true when it was there. A crash leaves it or not. */
export function unpublishFile(path: string, options: { fsync: boolean }): boolean {
  try {
    unlinkSync(path);
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
  if (options.fsync) syncPathNow(dirname(path));
  return true;
}

/**
 * Takes a directory out of the store: renamed into `work` first, because the removal of its files is not atomic
 * and a half-empty directory must never stand under a final name. Returns where it went (remove it with
 * {@link discard}), or null when it was not there. A crash leaves it whole in one of both places.
 */
export function unpublishDirectory(path: string, options: { work: string; fsync: boolean }): string | null {
  const trash = join(options.work, `trash-${randomBytes(9).toString('hex')}`);
  try {
    renameSync(path, trash);
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
  // Without this a machine crash could undo the rename after the files inside are gone.
  if (options.fsync) syncPathNow(dirname(path));
  return trash;
}

/** Removes what has no final name. Two may do so at once; then each looks again when the other was faster. */
export async function discard(path: string): Promise<void> {
  const options = { recursive: true, force: true, maxRetries: 3, retryDelay: 5 };
  try {
    await rm(path, options);
  } catch (error) {
    // Files of a pull with --immutable, which Node then takes for directories. Whoever may set the flag may clear it.
    const name = errnoName(error);
    if (name !== 'EPERM' && name !== 'ENOTDIR') throw error;
    clearImmutable(path);
    await rm(path, options);
  }
}

function clearImmutable(path: string): void {
  const found = statSync(path).isDirectory() ? readdirSync(path, { recursive: true, encoding: 'utf8' }) : [];
  for (const file of [path, ...found.map((name) => join(path, name))]) {
    if (!statSync(file).isFile()) continue;
    const fd = openSync(file, constants.O_RDONLY);
    try {
      setImmutable(fd, false);
    } finally {
      closeSync(fd);
    }
  }
}
