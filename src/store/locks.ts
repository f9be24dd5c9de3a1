/** Locks between processes (and between callers of one process): flock'ed files, free the moment their holder dies. */
import { closeSync, constants, fstatSync, openSync, statSync, unlinkSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { VeneerError } from '../errors.ts';
import { flock } from '../sys/flock.ts';
import { isMissing } from './io-errors.ts';

export interface Lock {
  /** Gives the lock back; a second call does nothing. */
  release(): void;
}

function held(fd: number, beforeClose?: () => void): Lock {
  let open = true;
  return {
    release() {
      if (!open) return;
      open = false;
      beforeClose?.();
      closeSync(fd); // the lock belongs to the open file and goes with it
    },
  };
}

/**
 * Takes the lock of a file that is never unlinked (ROOT/lock), or returns null when somebody is in the way.
 * With `block` the thread waits, which is only right for locks that are held without waiting for anything.
 */
export function lockStanding(path: string, kind: 'shared' | 'exclusive', block: boolean): Lock | null {
  // A shared lock needs no right to write: a store on a read-only disk can be read.
  const access = kind === 'shared' ? constants.O_RDONLY : constants.O_RDWR;
  const fd = openSync(path, access | constants.O_CREAT, 0o600);
  try {
    if (flock(fd, kind, { block })) return held(fd);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  closeSync(fd);
  return null;
}

/**
 * Takes the exclusive lock of a name, or returns null when it is taken. The file exists only while somebody
 * holds or wants the lock: the holder unlinks it before it lets go.
 *
 * A waiter may therefore get the lock of a file that has just been unlinked, while a third party makes a new
 * one. So after locking, the name must still lead to the file we hold; otherwise we start over.
 * A crash leaves an unlocked file, which the next taker uses and a sweep removes.
 */
export function tryLockName(path: string): Lock | null {
  for (;;) {
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
    try {
      if (!flock(fd, 'exclusive', { block: false })) {
        closeSync(fd);
        return null;
      }
      const mine = fstatSync(fd);
      const named = statSync(path, { throwIfNoEntry: false });
      if (named !== undefined && named.ino === mine.ino && named.dev === mine.dev) {
        return held(fd, () => {
          try {
            unlinkSync(path);
          } catch (error) {
            if (!isMissing(error)) throw error;
          }
        });
      }
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    closeSync(fd);
  }
}

const FIRST_PAUSE_MS = 2;
const LONGEST_PAUSE_MS = 100;

/** Tries until it has the lock. Polls, because a blocking flock would stop the pulls beside it in this process. */
export async function waitForLock(
  attempt: () => Lock | null,
  options: { signal?: AbortSignal | undefined; onWait?: () => void } = {},
): Promise<Lock> {
  let pause = FIRST_PAUSE_MS;
  let waited = false;
  for (;;) {
    throwIfAborted(options.signal);
    const lock = attempt();
    if (lock !== null) return lock;
    if (!waited) options.onWait?.();
    waited = true;
    try {
      await delay(pause, undefined, options.signal === undefined ? {} : { signal: options.signal });
    } catch {
      throwIfAborted(options.signal);
    }
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  }
}

/** Throws `io/cancelled` once the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) {
    throw new VeneerError('io/cancelled', 'Cannot go on: cancelled', { cause: signal.reason });
  }
}

/** What `work` comes to, or `io/cancelled` as soon as the signal fires, though `work` may go on. */
export async function orAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  const { promise: stopped, resolve } = Promise.withResolvers<void>();
  const stop = (): void => resolve();
  signal?.addEventListener('abort', stop, { once: true });
  if (signal?.aborted) stop();
  try {
    await Promise.race([work, stopped]);
    throwIfAborted(signal);
    return await work;
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}
