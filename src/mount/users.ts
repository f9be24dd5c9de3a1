/** Who keeps a mount busy: a scan of /proc, only made once the kernel has said EBUSY. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { isBelow, readMountInfo } from './mountinfo.ts';

export interface MountUser {
  readonly pid: number;
  /** Command name, as in `ps -o comm`. */
  readonly command: string;
  /** How it uses the mount: `its working directory`, `an open file`, … */
  readonly how: string;
  /** The first path found. */
  readonly path: string;
}

/** Processes with a working directory, root, open file or mapped file below `target`, by pid. */
export function findUsers(target: string): MountUser[] {
  const users: MountUser[] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const use = findUse(`/proc/${name}`, target);
    if (use === null) continue;
    users.push({ pid: Number(name), command: readCommand(name), ...use });
  }
  return users.sort((a, b) => a.pid - b.pid);
}

/** Mounts below `target`, which keep it busy too. */
export function findMountsBelow(target: string): string[] {
  const targets = readMountInfo().map((mount) => mount.target);
  return [...new Set(targets.filter((path) => path !== target && isBelow(path, target)))];
}

function findUse(process: string, target: string): { how: string; path: string } | null {
  for (const [link, how] of [
    ['cwd', 'its working directory'],
    ['root', 'its root directory'],
    ['exe', 'its program'],
  ] as const) {
    const path = readLink(`${process}/${link}`);
    if (path !== null && isBelow(path, target)) return { how, path };
  }
  for (const fd of readNames(`${process}/fd`)) {
    const path = readLink(`${process}/fd/${fd}`);
    if (path !== null && isBelow(path, target)) return { how: 'an open file', path };
  }
  const mapped = findMapped(`${process}/maps`, target);
  return mapped === null ? null : { how: 'a mapped file', path: mapped };
}

/** proc_pid_maps(5): the path is the sixth field. */
function findMapped(maps: string, target: string): string | null {
  let text: string;
  try {
    text = readFileSync(maps, 'utf8');
  } catch {
    return null;
  }
  if (!text.includes(target)) return null;
  for (const line of text.split('\n')) {
    const start = line.indexOf('/');
    if (start !== -1 && isBelow(line.slice(start), target)) return line.slice(start);
  }
  return null;
}

function readCommand(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return '?';
  }
}

function readLink(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    return null;
  }
}

function readNames(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
