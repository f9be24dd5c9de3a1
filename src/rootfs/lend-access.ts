/**
 * Looking at what its owner may not look at. Images have files and directories of mode 0, which root reads all the same;
 * whoever unpacks them without privileges owns them, and has to give himself the permission first.
 */
import { chmodSync, closeSync, constants } from 'node:fs';
import type { VeneerError } from '../errors.ts';
import { O_PATH, openBeneath } from '../sys/open-beneath.ts';
import { type FileFacts, statAt } from '../sys/stat.ts';
import { S_IFDIR, S_IFLNK, S_IFMT } from '../tree/node.ts';

const S_ISGID = 0o2000;
const MAY_READ = 0o400;
const MAY_SEARCH = 0o100;

interface Loan {
  readonly fd: number;
  /** As it was. */
  readonly mode: number;
}

/**
 * Does `look` at `path` in the open directory `root`. Where that is denied, the directories on the way let their owner
 * search, and what is at its end lets him read, while `look` is done once more: in one go, so that no signal comes
 * between. A descriptor that it opens can be read afterwards. Modes are as before then; the times of the inodes' last
 * change are not.
 */
export function withAccess<T>(root: number, path: string, look: () => T): T {
  try {
    return look();
  } catch (error) {
    if (!isDenied(error)) throw error;
  }
  const loans: Loan[] = [];
  const opened: number[] = [];
  try {
    borrow(root, path, loans, opened);
    return look();
  } finally {
    giveBack(loans, opened);
  }
}

/** All that can be given back is; throws what kept the first of the others. */
function giveBack(loans: readonly Loan[], opened: readonly number[]): void {
  const failed: unknown[] = [];
  for (const { fd, mode } of loans.toReversed()) {
    try {
      setMode(fd, mode);
    } catch (error) {
      failed.push(error);
    }
  }
  for (const fd of opened) closeSync(fd);
  if (failed.length > 0) throw failed[0];
}

/** Whether its owner needs {@link withAccess} to read it. */
export function isUnreadable({ mode }: FileFacts): boolean {
  return (mode & MAY_READ) === 0;
}

function borrow(root: number, path: string, loans: Loan[], opened: number[]): void {
  const names = path === '' ? [] : path.split('/');
  let fd = root;
  for (let depth = 0; depth <= names.length; depth++) {
    if (depth > 0) {
      const from = fd;
      const next = ifThere(() => openBeneath(from, names[depth - 1]!, O_PATH | constants.O_NOFOLLOW));
      // What is not there is for the one who looks to say.
      if (next === null) return;
      opened.push(next);
      fd = next;
    }
    const facts = statAt(fd, '')!;
    const isDir = (facts.mode & S_IFMT) === S_IFDIR;
    const wanted = (isDir ? MAY_SEARCH : 0) | (depth === names.length ? MAY_READ : 0);
    if ((facts.mode & wanted) === wanted || !mayChange(facts)) continue;
    loans.push({ fd, mode: facts.mode });
    setMode(fd, facts.mode | wanted);
  }
}

/** Works for descriptors that nothing can be read from, too. */
function setMode(fd: number, mode: number): void {
  chmodSync(`/proc/self/fd/${fd}`, mode & 0o7777);
}

/** Another's, chmod(2) would be refused; of a group that we are not in, it would take the setgid bit away for good. */
function mayChange({ mode, uid, gid }: FileFacts): boolean {
  if ((mode & S_IFMT) === S_IFLNK || uid !== process.geteuid!()) return false;
  return (mode & S_ISGID) === 0 || gid === process.getegid!() || process.getgroups!().includes(gid);
}

function isDenied(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException | VeneerError;
  return code === 'EACCES' || code === 'sys/EACCES';
}

/** Null when what was to be looked at is gone, or another thing by now. */
export function ifThere<T>(look: () => T): T | null {
  try {
    return look();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException | VeneerError).code ?? '';
    if (/^(sys\/)?(ENOENT|ENOTDIR|ELOOP)$/.test(code) || code === 'EINVAL') return null;
    throw error;
  }
}
