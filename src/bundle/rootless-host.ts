/** What of this machine goes into the config.json of a container without privileges. */
import { closeSync, openSync, readFileSync } from 'node:fs';
import { readMountInfo } from '../mount/mountinfo.ts';
import type { RootlessHost } from './runtime-spec.ts';

/**
 * Options that a user namespace inherits locked (mount_namespaces(7)): a bind mount without them is refused. Access
 * times other than these are the kernel's default.
 */
const LOCKED = ['ro', 'nodev', 'noexec', 'nosuid', 'noatime', 'nodiratime'];

export function rootlessHost(): RootlessHost {
  let file: number;
  try {
    file = openSync('/etc/resolv.conf', 'r');
  } catch {
    return { resolvConfOptions: null };
  }
  try {
    // proc_pid_fdinfo(5): the mount that the file was opened on, whatever links led there.
    const id = /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${file}`, 'latin1'))?.[1];
    const mount = readMountInfo().find(({ mountId }) => mountId === Number(id));
    const options = mount?.options.split(',') ?? [];
    return { resolvConfOptions: LOCKED.filter((option) => options.includes(option)) };
  } finally {
    closeSync(file);
  }
}
