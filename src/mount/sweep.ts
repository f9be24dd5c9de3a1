/** Cleaning up after processes that were killed, mounts that others removed, and reboots. */
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import { findMount, isUpperInUse, judgeRecord, readBootId } from './alive.ts';
import {
  deleteEntry,
  detachBelow,
  listEntries,
  listRetired,
  lockEntry,
  readRecord,
  retireEntry,
  withRunDir,
} from './entry.ts';
import { isBelow, readMountInfo } from './mountinfo.ts';
import type { SweepReport } from './types.ts';
import { upperPath } from './upper.ts';

/**
 * Removes every entry below `runDir` that nobody works on and whose mount does not live: half-made mounts with
 * what they left attached, records whose mount is gone, ephemeral changes of both. Mounts that other mount
 * namespaces still have are left alone.
 */
export function sweepStale(runDir: string): SweepReport {
  const report = { stale: [] as string[], unfinished: [] as string[], detached: [] as string[] };
  const ids = listSuspects(runDir);
  if (ids.length > 0)
    withRunDir(runDir, () => {
      for (const id of ids) sweepEntry(runDir, id, report);
    });
  for (const dead of listRetired(runDir)) deleteEntry(dead);
  return report;
}

/** Entries that may be stale. All others are finished mounts that live: one look at the kernel's list serves for all. */
function listSuspects(runDir: string): string[] {
  const ids = listEntries(runDir);
  if (ids.length === 0) return [];
  const mounts = readMountInfo();
  const boot = readBootId();
  return ids.filter((id) => {
    const record = readRecord(runDir, id);
    if (record === null || record.boot !== boot || findMount(record, mounts) === undefined) return true;
    const path = join(runDir, id);
    return mounts.some(({ target }) => isBelow(target, path));
  });
}

function sweepEntry(runDir: string, id: string, report: Record<keyof SweepReport, string[]>): void {
  const entry = lockEntry(runDir, id, { block: false });
  if (entry === null) return;
  try {
    report.detached.push(...detachBelow(entry.path));
    const mounts = readMountInfo();
    const record = readRecord(runDir, id);
    const lives =
      record === null ? isUpperInUse(upperPath(entry.path), mounts) : judgeRecord(record, mounts) !== 'stale';
    if (lives) return;
    retireEntry(entry);
    if (record === null) report.unfinished.push(id);
    else report.stale.push(record.target);
  } finally {
    closeSync(entry.fd);
  }
}
