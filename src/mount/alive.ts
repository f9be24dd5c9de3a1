/** Which recorded mounts still live, here or in mount namespaces of other processes. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { type MountInfo, readMountInfo } from './mountinfo.ts';
import type { MountRecord, MountState } from './types.ts';

/** What /proc/self/mountinfo shows as the source of our overlays. */
export const OVERLAY_SOURCE = 'veneer';

export function readBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

export function readNamespace(): string {
  return readlinkSync('/proc/self/ns/mnt');
}

/**
 * The record's mount among `mounts`. Mount ids and device numbers are used again after a mount is gone,
 * so both must fit; in another namespace the copy of a mount has another id, but the same device.
 */
export function findMount(record: MountRecord, mounts: readonly MountInfo[]): MountInfo | undefined {
  const same = mounts.filter((mount) => mount.device === record.device && mount.type === record.type);
  return (
    same.find((mount) => mount.mountId === record.mountId) ??
    same.find((mount) => mount.target === record.target)
  );
}

/** Looks a record up here first; only what seems gone costs a look into the other namespaces. */
export function judgeRecord(
  record: MountRecord,
  mounts: readonly MountInfo[],
  boot = readBootId(),
): MountState {
  if (record.boot !== boot) return 'stale';
  if (findMount(record, mounts) !== undefined) return 'mounted';
  for (const others of readOtherNamespaces()) {
    if (others.some((mount) => mount.device === record.device && mount.type === record.type))
      return 'elsewhere';
  }
  return 'stale';
}

/** The overlay among `mounts` that writes into `upper`. */
export function findUpperUser(upper: string, mounts: readonly MountInfo[]): MountInfo | undefined {
  const option = `upperdir=${upper}`;
  return mounts.find((mount) => mount.type === 'overlay' && mount.superOptions.split(',').includes(option));
}

/** True when a living overlay, in whatever mount namespace, writes into `upper`. */
export function isUpperInUse(upper: string, mounts: readonly MountInfo[]): boolean {
  if (findUpperUser(upper, mounts) !== undefined) return true;
  for (const others of readOtherNamespaces()) if (findUpperUser(upper, others) !== undefined) return true;
  return false;
}

/** Mounts of every mount namespace but our own that some process is in. */
function* readOtherNamespaces(): Generator<MountInfo[]> {
  const seen = new Set([readNamespace()]);
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const namespace = readlinkSync(`/proc/${name}/ns/mnt`);
      if (seen.has(namespace)) continue;
      seen.add(namespace);
      yield readMountInfo(Number(name));
    } catch {
      // The process has ended, or is not ours to look at.
    }
  }
}
