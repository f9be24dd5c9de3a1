/** Releasing a mount with all it took. Lower mounts and loop devices belong to the file system and go with it. */
import { closeSync, realpathSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { VeneerError } from '../errors.ts';
import { readLoopBacking } from '../sys/loop.ts';
import { detachMount } from '../sys/mount-api.ts';
import { findMount, isOverlaySource, judgeRecord, readBootId } from './alive.ts';
import { deleteEntry, type Entry, listEntries, lockEntry, readRecord, retireEntry } from './entry.ts';
import { detachFuse, FUSE_TYPE } from './fuse.ts';
import { findTopMount, isBelow, type MountInfo, readMountInfo } from './mountinfo.ts';
import { checkPrivilege, explainMountError, wrapSystemError } from './privilege.ts';
import { sweepStale } from './sweep.ts';
import type { ListedMount, MountRecord, UnmountReport } from './types.ts';
import { findMountsBelow, findUsers } from './users.ts';

/** How many processes a message names. */
const NAMED_USERS = 5;

/**
 * Unmounts the topmost mount at `target`, removes its ephemeral changes and its record.
 *
 * @throws `mount/not-mounted` nothing of ours is mounted there; `mount/busy` with the processes that use it;
 *   `mount/not-permitted`
 */
export function unmount(target: string, runDir: string, options: { lazy?: boolean } = {}): UnmountReport {
  const real = resolveTarget(target);
  const lazy = options.lazy ?? false;
  const top = findTopMount(readMountInfo(), real);
  if (top?.type !== FUSE_TYPE) checkPrivilege(`unmount ${target}`);
  const record = top === undefined ? null : findRecord(runDir, top);
  if (top === undefined || (record === null && !isOurs(top, resolve(runDir))))
    throw notMounted(real, top, runDir);
  // A sweep or the end of the mounting holds the lock for moments only.
  const entry = record === null ? null : lockEntry(runDir, record.id, { block: true });
  try {
    // Another unmount was first.
    if (record !== null && entry === null) throw notMounted(real, undefined, runDir);
    detach(top, lazy);
    const removed = record?.ephemeral === true ? record.upper : null;
    forget(entry, real, runDir);
    return {
      target: real,
      type: top.type === 'erofs' || top.type === FUSE_TYPE ? top.type : 'overlay',
      id: record?.id ?? null,
      keptUpper: record === null || record.ephemeral ? null : record.upper,
      removedUpper: removed,
      lazy,
    };
  } catch (error) {
    throw wrapSystemError(error, `unmount ${real}`);
  } finally {
    if (entry !== null) closeSync(entry.fd);
  }
}

/** The kernel has let go: what fails from here on must not sound as if the mount were still there. */
function forget(entry: Entry | null, target: string, runDir: string): void {
  try {
    if (entry !== null) deleteEntry(retireEntry(entry));
    // An entry whose record was lost has nothing to live for now.
    else sweepStale(runDir);
  } catch (error) {
    throw wrapSystemError(error, `remove the record of ${target}, which is unmounted now`);
  }
}

/** All recorded mounts with their state, by target. Changes nothing. */
export function listMounts(runDir: string): ListedMount[] {
  const mounts = readMountInfo();
  const boot = readBootId();
  const listed: ListedMount[] = [];
  for (const id of listEntries(runDir)) {
    const record = readRecord(runDir, id);
    if (record === null) continue;
    // The mount may have been moved since.
    const target = findMount(record, mounts)?.target ?? record.target;
    listed.push({ ...record, target, state: judgeRecord(record, mounts, boot) });
  }
  return listed.sort((a, b) => (a.target < b.target ? -1 : a.target > b.target ? 1 : 0));
}

function resolveTarget(target: string): string {
  try {
    return realpathSync(target);
  } catch {
    return resolve(target);
  }
}

/** The record of the mount `top`; one that was made at the same place goes before one that seems to have been moved. */
function findRecord(runDir: string, top: MountInfo): MountRecord | null {
  const boot = readBootId();
  let moved: MountRecord | null = null;
  for (const id of listEntries(runDir)) {
    const record = readRecord(runDir, id);
    if (record === null || record.boot !== boot || findMount(record, [top]) === undefined) continue;
    if (record.target === top.target) return record;
    moved ??= record;
  }
  return moved;
}

/** A mount whose record was lost: an overlay under our name, or an EROFS image of the store that holds `runDir`. */
function isOurs(mount: MountInfo, runDir: string): boolean {
  if (mount.type === 'overlay') return isOverlaySource(mount.source);
  if (mount.type !== 'erofs' && mount.type !== FUSE_TYPE) return false;
  const image = mount.source.startsWith('/dev/loop') ? readLoopBacking(mount.source) : mount.source;
  return image !== null && isBelow(image, dirname(runDir));
}

function notMounted(target: string, top: MountInfo | undefined, runDir: string): VeneerError {
  if (top !== undefined) {
    return new VeneerError(
      'mount/not-mounted',
      `Cannot unmount ${target}: veneer did not mount the ${top.type} there`,
      {
        hint: `\`umount ${target}\` unmounts whatever it is.`,
      },
    );
  }
  const stale = sweepStale(runDir).stale.includes(target);
  const reason = stale
    ? 'it was unmounted by other means; its record is removed now'
    : 'nothing is mounted there';
  return new VeneerError('mount/not-mounted', `Cannot unmount ${target}: ${reason}`);
}

function detach({ target, type }: MountInfo, lazy: boolean): void {
  try {
    if (type === FUSE_TYPE) detachFuse(target, { lazy });
    else explainMountError(() => detachMount(target, { lazy }));
  } catch (error) {
    if (!(error instanceof VeneerError) || error.code !== 'sys/EBUSY') throw error;
    throw busy(target, error);
  }
}

function busy(target: string, cause: VeneerError): VeneerError {
  const below = findMountsBelow(target);
  const users = findUsers(target);
  const parts = users
    .slice(0, NAMED_USERS)
    .map((user) => `${user.command} (${user.pid}) has ${user.path} as ${user.how}`);
  if (users.length > NAMED_USERS) parts.push(`${users.length - NAMED_USERS} more processes`);
  if (below.length > 0) parts.push(`mounted below it: ${below.slice(0, NAMED_USERS).join(', ')}`);
  const reason =
    parts.length === 0 ? 'something in another namespace or the kernel uses it' : parts.join('; ');
  return new VeneerError('mount/busy', `Cannot unmount ${target}: it is in use: ${reason}`, {
    hint: 'End these first, or use --lazy to detach it now and release it when they end.',
    cause,
  });
}
