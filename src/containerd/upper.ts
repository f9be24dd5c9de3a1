/** The writable directory of an active snapshot: made, looked at, measured. */
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { lstat, opendir } from 'node:fs/promises';
import { join } from 'node:path';
import { copyRootAttributes } from '../mount/upper.ts';
import { isMissing } from '../store/io-errors.ts';
import { setTimes } from '../sys/inode.ts';
import type { TreeNode } from '../tree/node.ts';

export const fsPath = (directory: string): string => join(directory, 'fs');
export const workPath = (directory: string): string => join(directory, 'work');

const EPOCH = { seconds: 0, nanoseconds: 0 };

/** Makes the directories of a new snapshot, in place of what a crash may have left there. */
export function makeUpper(directory: string): void {
  if (existsSync(directory)) rmSync(directory, { recursive: true, force: true });
  restoreUpper(directory);
}

/**
 * Makes those that are missing: a power cut may take empty directories with it, though the database knows them.
 * True when the upper directory is a new one, without the attributes of the root that it covers.
 */
export function restoreUpper(directory: string): boolean {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  makeOnce(workPath(directory), 0o711);
  if (!makeOnce(fsPath(directory), 0o755)) return false;
  chmodSync(fsPath(directory), 0o755); // whatever the umask says
  // What nobody wrote to shall not differ from the root of an image of nothing.
  setTimes(fsPath(directory), EPOCH, EPOCH);
  return true;
}

function makeOnce(path: string, mode: number): boolean {
  try {
    mkdirSync(path, { mode });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** Gives the upper directory the attributes of the root that it will cover. */
export function dressUpper(directory: string, lower: string): void {
  const fd = openSync(lower, 'r');
  try {
    copyRootAttributes(fd, fsPath(directory));
  } finally {
    closeSync(fd);
  }
}

/** True when nothing is in it: no entries, no whiteouts. What the root's own attributes are is another question. */
export function isBare({ children, whiteouts, opaque }: TreeNode): boolean {
  return children!.size === 0 && whiteouts === null && !opaque;
}

/** Whether a root directory with nothing below it is as {@link makeUpper} made it. */
export function isFreshRoot({ mode, uid, gid, mtime, mtimeNsec, xattrs }: TreeNode): boolean {
  return mode === FRESH_MODE && uid === 0 && gid === 0 && mtime === 0 && mtimeNsec === 0 && xattrs === null;
}

const FRESH_MODE = 0o40755;

export interface DiskUsage {
  /** Bytes on the disk. */
  size: number;
  inodes: number;
}

/** What a directory takes with all that is in it; each inode counts once. */
export async function measureDirectory(path: string): Promise<DiskUsage> {
  const usage: DiskUsage = { size: 0, inodes: 0 };
  const seen = new Set<bigint>();
  const pending = [Buffer.from(path)];
  for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
    const facts = await lstat(at, { bigint: true }).catch(nothingIfMissing);
    if (facts === undefined || (facts.nlink > 1n && !facts.isDirectory() && seen.has(facts.ino))) continue;
    seen.add(facts.ino);
    usage.size += Number(facts.blocks) * 512;
    usage.inodes++;
    if (!facts.isDirectory()) continue;
    for (const name of await readNames(at)) pending.push(Buffer.concat([at, SLASH, name]));
  }
  return usage;
}

const SLASH = Buffer.from('/');

async function readNames(path: Buffer): Promise<Buffer[]> {
  const names: Buffer[] = [];
  const directory = await opendir(path, { encoding: 'latin1' as BufferEncoding }).catch(nothingIfMissing);
  for await (const { name } of directory ?? []) names.push(Buffer.from(name, 'latin1'));
  return names;
}

function nothingIfMissing(error: unknown): undefined {
  if (!isMissing(error)) throw error;
}
