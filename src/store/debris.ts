/** What dead processes left: found by locks that nobody holds. */
import { lstatSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { discard } from './atomic.ts';
import { listDirectory } from './catalog.ts';
import { isIdleDownload } from './downloads.ts';
import type { GcReport } from './gc.ts';
import { readLeases } from './leases.ts';
import { type Lock, tryLockName } from './locks.ts';
import type { Store } from './store.ts';

/** Bytes that a file or a directory with all that is in it takes on the disk; 0 when it is missing. Follows no symlinks. */
export function treeBytes(path: string): number {
  const facts = lstatSync(path, { throwIfNoEntry: false });
  if (facts === undefined) return 0;
  let bytes = facts.isDirectory() ? 0 : facts.blocks * 512;
  if (facts.isDirectory()) for (const name of listDirectory(path)) bytes += treeBytes(join(path, name));
  return bytes;
}

/** Directories that dead processes left, with the locks by which they are ours to remove. */
export interface Debris {
  readonly paths: string[];
  readonly locks: Lock[];
}

/**
 * Finds what dead processes left in tmp/ and leases/, and adds it to `report`. Single files are removed at once
 * (a pull that begins after us may want the same name), directories are left to {@link removeDebris}.
 * Call it with the exclusive store lock: work directories are made under the shared one, so each has its lock by
 * now if its owner lives. Unfinished downloads count only when `downloads` says which of them (hex) must stay.
 */
export function collectDebris(
  store: Store,
  deadLeases: readonly string[],
  keep: { downloads: ReadonlySet<string> | null; trash: readonly string[] },
  report: Pick<GcReport, 'debris' | 'bytes'>,
  dryRun: boolean,
): Debris {
  const { layout } = store;
  const debris: Debris = { paths: [], locks: [] };
  const removeFile = (path: string): void => {
    report.debris.push(path);
    report.bytes += treeBytes(path);
    if (!dryRun) rmSync(path, { force: true });
  };
  const own = (lockPath: string): boolean => {
    const lock = tryLockName(lockPath);
    if (lock === null) return false;
    if (dryRun) lock.release();
    else debris.locks.push(lock);
    return true;
  };

  for (const path of deadLeases) removeFile(path);
  for (const name of listDirectory(layout.tmp)) {
    const path = join(layout.tmp, name);
    if (path === layout.downloads || path === layout.locks || keep.trash.includes(path)) continue;
    if (name.endsWith('.lock')) {
      if (statSync(path.slice(0, -5), { throwIfNoEntry: false }) === undefined) own(path);
      continue;
    }
    if (name.startsWith('work-') && !own(`${path}.lock`)) continue;
    report.debris.push(path);
    report.bytes += treeBytes(path);
    if (!dryRun) debris.paths.push(path);
  }
  for (const name of listDirectory(layout.locks)) {
    // Taking and releasing a free one unlinks it.
    if (!dryRun) tryLockName(join(layout.locks, name))?.release();
  }
  if (keep.downloads !== null) {
    for (const name of listDirectory(layout.downloads)) {
      const path = join(layout.downloads, name);
      if (!keep.downloads.has(name.replace(/\.part$/, '')) && isIdleDownload(path)) removeFile(path);
    }
  }
  return debris;
}

/** Removes the directories; outside of the store lock, for it may take a while. */
export async function removeDebris(debris: Debris | null): Promise<void> {
  if (debris === null) return;
  try {
    for (const path of debris.paths) await discard(path);
  } finally {
    for (const lock of debris.locks) lock.release();
  }
}

/**
 * Removes what dead processes left in tmp/ and leases/, if no other sweep or reader is in the way right now.
 * Unfinished downloads stay: the next pull goes on with them. Every pull begins with this.
 */
export async function sweepDebris(store: Store): Promise<string[]> {
  const lock = store.tryExclusive();
  if (lock === null) return [];
  const report: Pick<GcReport, 'debris' | 'bytes'> = { debris: [], bytes: 0 };
  let debris: Debris | null = null;
  try {
    debris = collectDebris(store, readLeases(store).dead, { downloads: null, trash: [] }, report, false);
  } finally {
    lock.release();
  }
  await removeDebris(debris);
  return report.debris;
}
