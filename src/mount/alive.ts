/** Which recorded mounts still live, here or in mount namespaces of other processes. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { type MountInfo, readMountInfo } from './mountinfo.ts';
import type { MountRecord, MountState } from './types.ts';

const SOURCE_PREFIX = 'veneer:';

/** What /proc/self/mountinfo shows as the source of the overlay that entry `id` belongs to. */
export const overlaySource = (id: string): string => `${SOURCE_PREFIX}${id}`;

export const isOverlaySource = (source: string): boolean => source.startsWith(SOURCE_PREFIX);

export function readBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

export function readNamespace(): string {
  return readlinkSync('/proc/self/ns/mnt');
}

/**
 * The record's mount among `mounts`. An overlay bears the id of its entry. For EROFS the kernel numbers serve,
 * which it uses again as soon as a mount is gone: a mount at another place counts only when all else fits.
 */
export function findMount(record: MountRecord, mounts: readonly MountInfo[]): MountInfo | undefined {
  const same = mounts.filter((mount) => isSameFileSystem(record, mount));
  return (
    same.find((mount) => mount.target === record.target) ??
    same.find((mount) => record.type === 'overlay' || mount.mountId === record.mountId)
  );
}

function isSameFileSystem(record: MountRecord, mount: MountInfo): boolean {
  if (mount.type !== record.type) return false;
  if (record.type === 'overlay') return mount.source === overlaySource(record.id);
  return mount.device === record.device && !isOtherImage(record, mount);
}

/** A number that was given away again: the kernel names the image of a mount that reads a file. */
function isOtherImage({ images }: MountRecord, { type, source }: MountInfo): boolean {
  if (type !== 'erofs' || !source.startsWith('/') || source.startsWith('/dev/')) return false;
  return !images.some((image) => 'primary' in image && image.primary === source);
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
    if (others.some((mount) => isSameFileSystem(record, mount))) return 'elsewhere';
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
