/**
 * Directories held by file descriptor. What is made in them is named as /proc/self/fd/N/NAME, which is
 * openat(2) by another road: no component but the last is ever looked up again, so nobody who moves directories
 * or plants symlinks in the destination can lead a write out of it.
 */
import { Buffer } from 'node:buffer';
import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  lstatSync,
  openSync,
  readdirSync,
  rmdirSync,
  type Stats,
  unlinkSync,
} from 'node:fs';
import { VeneerError } from '../errors.ts';

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;

export class Folder {
  readonly fd: number;

  private constructor(fd: number) {
    this.fd = fd;
  }

  /** A directory that the user named: symlinks on the way are the user's own business. */
  static open(path: string | Buffer): Folder {
    return new Folder(openSync(path, O_RDONLY | O_DIRECTORY));
  }

  /** The directory `name` in this one; throws ENOTDIR or ELOOP when it is anything else, a symlink included. */
  enter(name: string): Folder {
    return new Folder(openSync(this.at(name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  }

  /** The path of `name` (a byte string) in this directory, for any system call. */
  at(name: string): Buffer {
    return Buffer.from(`/proc/self/fd/${this.fd}/${name}`, 'latin1');
  }

  /** What `name` is, symlinks not followed; null when there is nothing. */
  look(name: string): Stats | null {
    return lstatSync(this.at(name), { throwIfNoEntry: false }) ?? null;
  }

  /** Names in it as byte strings. */
  names(): string[] {
    return readdirSync(`/proc/self/fd/${this.fd}`, { encoding: 'buffer' }).map((name) =>
      name.toString('latin1'),
    );
  }

  close(): void {
    closeSync(this.fd);
  }
}

/** Fails early where /proc is not mounted: without it nothing here works. `what` completes "Cannot …". */
export function checkProc(what: string): void {
  if (existsSync('/proc/self/fd')) return;
  throw new VeneerError('sys/no-proc', `Cannot ${what}: /proc is not mounted`, {
    hint: 'mount -t proc proc /proc',
  });
}

/** Removes `name` in `parent` with all that is in it, whatever the modes; follows no symlink. */
export function removeTree(parent: Folder, name: string): void {
  const facts = parent.look(name);
  if (facts === null) return;
  if (!facts.isDirectory()) {
    unlinkSync(parent.at(name));
    return;
  }
  const stack: { folder: Folder; name: string; names: string[] }[] = [];
  const push = (within: Folder, child: string): void => {
    // Directories that came out of an image may not let even their owner in; root needs no leave.
    if (process.getuid?.() !== 0) chmodSync(within.at(child), 0o700);
    const folder = within.enter(child);
    stack.push({ folder, name: child, names: folder.names() });
  };
  push(parent, name);
  for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
    const child = top.names.pop();
    if (child === undefined) {
      stack.pop();
      top.folder.close();
      rmdirSync((stack.at(-1)?.folder ?? parent).at(top.name));
    } else if (top.folder.look(child)?.isDirectory()) {
      push(top.folder, child);
    } else {
      unlinkSync(top.folder.at(child));
    }
  }
}
