/** flock(2): advisory locks that belong to the open file and die with it, also after kill -9. */
import { constants } from 'node:os';
import { sysError } from './error.ts';
import { errno, libc } from './libc.ts';

export type LockKind = 'shared' | 'exclusive' | 'unlock';

// <sys/file.h>
const OPERATION = { shared: 1, exclusive: 2, unlock: 8 } as const;
const LOCK_NB = 4;

/**
 * Takes or gives back the lock of an open file descriptor.
 *
 * Returns false when another open file holds a lock in the way and `block` is false. With `block` the whole
 * thread waits; a signal does not end the wait. Throws `sys/…` for a bad descriptor.
 */
export function flock(fd: number, kind: LockKind, options: { block: boolean }): boolean {
  const operation = OPERATION[kind] | (options.block ? 0 : LOCK_NB);
  const call = libc('flock');
  while (call(fd, operation) === -1) {
    const reason = errno();
    if (reason === constants.errno.EWOULDBLOCK) return false;
    if (reason !== constants.errno.EINTR) throw sysError(reason, `lock file descriptor ${fd}`);
  }
  return true;
}
