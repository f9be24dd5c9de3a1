/** /proc/PID/mountinfo, proc_pid_mountinfo(5). */
import { existsSync, readFileSync, realpathSync } from 'node:fs';

export interface MountInfo {
  readonly mountId: number;
  readonly parentId: number;
  /** `major:minor` */
  readonly device: string;
  /** Mount point as seen by the process; invalid UTF-8 is replaced. */
  readonly target: string;
  /** Options of the mount itself: `rw,nosuid,relatime`. */
  readonly options: string;
  readonly type: string;
  readonly source: string;
  /** Options of the file system, comma-separated as the kernel prints them. */
  readonly superOptions: string;
}

/** All mounts of this process, or of another, in the kernel's order. */
export function readMountInfo(pid: number | 'self' = 'self'): MountInfo[] {
  return parseMountInfo(readFileSync(`/proc/${pid}/mountinfo`, 'latin1'));
}

/** Lines that do not have the documented form are left out. */
export function parseMountInfo(text: string): MountInfo[] {
  const mounts: MountInfo[] = [];
  for (const line of text.split('\n')) {
    // A number of optional fields ends with a lone dash.
    const dash = line.indexOf(' - ');
    if (dash === -1) continue;
    const [mountId, parentId, device, , target, options] = line.slice(0, dash).split(' ');
    const [type, source, superOptions] = line.slice(dash + 3).split(' ');
    if (target === undefined || options === undefined || superOptions === undefined) continue;
    mounts.push({
      mountId: Number(mountId),
      parentId: Number(parentId),
      device: device!,
      target: unescapeField(target),
      options,
      type: type!,
      source: unescapeField(source!),
      superOptions: unescapeField(superOptions),
    });
  }
  return mounts;
}

/** Space, tab, newline and backslash are printed as three octal digits; the rest are raw bytes. */
function unescapeField(field: string): string {
  const bytes = field.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
  return Buffer.from(bytes, 'latin1').toString('utf8');
}

/**
 * The mount that a look-up of `target` reaches. The list is in order of creation, not of attaching, so of
 * several mounts there it is the one that no other stands on.
 */
export function findTopMount(mounts: readonly MountInfo[], target: string): MountInfo | undefined {
  const there = mounts.filter((mount) => mount.target === target);
  return there.findLast((mount) => there.every((other) => other.parentId !== mount.mountId));
}

/** True when `path` is `directory` or stands below it. */
export function isBelow(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory.endsWith('/') ? directory : `${directory}/`);
}

/** Is something mounted on `path`, or below? Removing it then would remove what is mounted. */
export function isMounted(path: string): boolean {
  if (!existsSync(path)) return false;
  const real = realpathSync(path);
  return readMountInfo().some(({ target }) => isBelow(target, real));
}
