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
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
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

export function syncPathNow(path: string): void {
  const fd = openSync(path, constants.O_RDONLY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/**
 * Makes one directory (0700) unless it is there.
 *
 * A crash leaves at most an empty directory. Its own entry is made durable too: what is renamed into it later
 * would be lost with it.
 */
export function makeDirectory(path: string, fsyncParent: boolean): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if (errnoName(error) === 'EEXIST') return;
    if (!isMissing(error)) throw error;
    const parent = dirname(path);
    if (parent === path) throw error;
    makeDirectory(parent, fsyncParent);
    makeDirectory(path, fsyncParent);
    return;
  }
  if (fsyncParent) syncPathNow(dirname(path));
}

function writeAll(fd: number, data: Buffer): void {
  let at = 0;
  while (at < data.length) at += writeSync(fd, data, at, data.length - at);
}

/**
 * Writes a small new file at `path`, durable but without the rename: for files in a directory that has no
 * final name yet. A crash leaves part of it, inside a directory that is swept.
 */
export function writeNewFile(
  path: string,
  data: Buffer | string,
  options: { fsync: boolean; mode?: number },
): void {
  const fd = openSync(path, 'wx', options.mode ?? 0o444);
  try {
    writeAll(fd, typeof data === 'string' ? Buffer.from(data) : data);
    if (options.fsync) fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/**
 * Puts a small file under its final name, replacing what is there.
 *
 * A crash before the rename leaves `work/RANDOM`, which goes with its work directory; one after the rename but
 * before the directory is durable leaves the old content or the new, each whole.
 */
export function writeFileAtomic(
  path: string,
  data: Buffer | string,
  options: { work: string; fsync: boolean; mode?: number },
): void {
  const temporary = join(options.work, randomBytes(9).toString('hex'));
  try {
    writeNewFile(temporary, data, options);
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
  if (options.fsync) syncPathNow(dirname(path));
}

/**
 * Gives a finished directory its final name. Its files must be durable already; they become read-only here.
 *
 * Returns false, and leaves `from` alone, when the final name is taken: two writers of one digest wrote the same.
 * A crash before the rename leaves `from`, which goes with its work directory; one after it leaves `to` complete.
 */
export async function publishDirectory(
  from: string,
  to: string,
  options: { fsync: boolean; files: readonly string[] },
): Promise<boolean> {
  for (const file of options.files) chmodSync(join(from, file), 0o444);
  if (options.fsync) await syncPath(from);
  try {
    renameSync(from, to);
  } catch (error) {
    const name = errnoName(error);
    if (name === 'ENOTEMPTY' || name === 'EEXIST') return false;
    throw error;
  }
  if (options.fsync) await syncPath(dirname(to));
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
  await rm(path, { recursive: true, force: true, maxRetries: 3, retryDelay: 5 });
}
