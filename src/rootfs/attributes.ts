/** Gives a copy the attributes of its inode, as far as this user may, and says by path what could not be given. */
import { chmodSync, lchownSync } from 'node:fs';
import { getSystemErrorMessage } from 'node:util';
import { displayByteString } from '../bytes/byte-string.ts';
import { VeneerError } from '../errors.ts';
import { S_IFLNK, S_IFMT, S_IFREG, type TreeNode } from '../tree/node.ts';

type SysRoom = Pick<typeof import('../sys/xattr.ts'), 'setXattr'> &
  Pick<typeof import('../sys/inode.ts'), 'setTimes' | 'makeNode' | 'renameNew'>;

/** What could not be done to a copy. */
export interface Problem {
  /** Byte string, in the image. */
  readonly path: string;
  /** `owner`, `mode`, `xattr user.x`, `times`, or `file` when it was not made at all. */
  readonly what: string;
  readonly reason: string;
}

const SETID = 0o6000;

export class Attributes {
  readonly #sys: SysRoom;
  readonly #root = process.geteuid?.() === 0;
  readonly #mask: number;
  readonly problems: Problem[] = [];
  /** Names whose owner is not the image's because that needs root. */
  otherOwner = 0;

  /** `mask`: the mode bits that regular files may have. */
  constructor(sys: SysRoom, mask = 0o7777) {
    this.#sys = sys;
    this.#mask = mask;
  }

  /** The order matters: chown(2) takes setuid bits and capabilities away, everything takes the time. */
  apply(target: Buffer, path: string, node: TreeNode): void {
    const owned = this.#setOwner(target, path, node);
    if ((node.mode & S_IFMT) !== S_IFLNK) this.#setMode(target, path, node, owned);
    if (node.xattrs !== null) {
      for (const [name, value] of node.xattrs) {
        this.#attempt(path, `xattr ${displayByteString(name)}`, () =>
          this.#sys.setXattr(target, name, value),
        );
      }
    }
    const time = { seconds: node.mtime, nanoseconds: node.mtimeNsec };
    this.#attempt(path, 'times', () => this.#sys.setTimes(target, time, time));
  }

  #setOwner(target: Buffer, path: string, node: TreeNode): boolean {
    if (this.#root) return this.#attempt(path, 'owner', () => lchownSync(target, node.uid, node.gid));
    if (node.uid === process.geteuid?.() && node.gid === process.getegid?.()) return true;
    this.otherOwner++;
    return false;
  }

  #setMode(target: Buffer, path: string, node: TreeNode, owned: boolean): void {
    const mode = node.mode & ((node.mode & S_IFMT) === S_IFREG ? this.#mask : 0o7777);
    // A setuid program of root's must not become one of whoever copies it.
    const safe = owned ? mode : mode & ~SETID;
    this.#attempt(path, 'mode', () => chmodSync(target, safe));
    if (safe !== mode) this.#note(path, 'mode', 'setuid and setgid are left out, for the owner is another');
  }

  #attempt(path: string, what: string, work: () => void): boolean {
    try {
      work();
      return true;
    } catch (error) {
      this.#note(path, what, reasonOf(error));
      return false;
    }
  }

  #note(path: string, what: string, reason: string): void {
    this.problems.push({ path, what, reason });
  }

  /** A file that cannot be made here at all, a device mostly. */
  missing(path: string, error: unknown): void {
    this.#note(path, 'file', reasonOf(error));
  }

  get missingFiles(): number {
    return this.problems.filter(({ what }) => what === 'file').length;
  }
}

/** Why it failed, without the path, which says nothing to anybody when it is below /proc/self/fd. */
function reasonOf(error: unknown): string {
  if (error instanceof VeneerError) return error.message.slice(error.message.lastIndexOf(': ') + 2);
  const { errno } = error as NodeJS.ErrnoException;
  if (errno === undefined || errno >= 0) throw error;
  return getSystemErrorMessage(errno);
}
