/** What mounting needs, and the kernel's refusals in words that help. */
import { readFileSync } from 'node:fs';
import { VeneerError } from '../errors.ts';

const CAP_SYS_ADMIN = 21n;
const HINT =
  'Run as root, or mount with --user. `veneer ls`, `cat`, `cp` and `stat` read an image without mounting.';

/** True when this process may mount, as far as its effective capabilities tell (proc_pid_status(5)). */
export function mayMount(): boolean {
  const match = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'));
  return match !== null && ((BigInt(`0x${match[1]}`) >> CAP_SYS_ADMIN) & 1n) === 1n;
}

/** Throws `mount/not-permitted` when this process cannot mount. `what` completes "Cannot …". */
export function checkPrivilege(what: string): void {
  if (mayMount()) return;
  throw new VeneerError('mount/not-permitted', `Cannot ${what}: the kernel wants CAP_SYS_ADMIN`, {
    hint: HINT,
  });
}

/** Runs a kernel call and says what its errors mean for mounts. `what` names the image. */
export function explainMountError<T>(call: () => T, what?: string, blockSize?: number): T {
  try {
    return call();
  } catch (cause) {
    if (!(cause instanceof VeneerError)) throw cause;
    const reason = cause.message.replace(/^Cannot /, '');
    const name = what === undefined ? '' : ` ${what}`;
    const explain = (code: VeneerError['code'], hint: string): VeneerError =>
      new VeneerError(code, `Cannot mount${name}: cannot ${reason}`, { hint, cause });
    switch (cause.code) {
      case 'sys/EPERM':
      case 'sys/EACCES':
        throw explain('mount/not-permitted', `${HINT} EROFS cannot be mounted inside a user namespace.`);
      case 'sys/ENODEV':
        throw explain('mount/unsupported', 'This kernel lacks the file system: see `veneer doctor`.');
      case 'sys/ENOSYS':
        throw explain('mount/unsupported', 'Mounting needs Linux 5.2 or newer.');
      case 'sys/EBADMSG':
      case 'sys/EUCLEAN':
        throw explain('mount/invalid-image', 'The image is damaged: run `veneer fsck`, or pull it again.');
      case 'sys/EINVAL':
        throw explain(
          'mount/refused',
          blockSize !== undefined && blockSize < 4096
            ? `Blocks of ${blockSize} bytes need Linux 6.4, or 6.1.113 of the 6.1 series; the kernel log (dmesg) says more.`
            : 'The kernel log (dmesg) says more.',
        );
      default:
        throw cause;
    }
  }
}

/** An error of node:fs in our own class; others pass through. `what` completes "Cannot …". */
export function wrapSystemError(error: unknown, what: string): unknown {
  const { code, message } = error as NodeJS.ErrnoException;
  if (error instanceof VeneerError || !(error instanceof Error) || code === undefined) return error;
  const full = code === 'ENOSPC' || code === 'EDQUOT';
  return new VeneerError(full ? 'io/no-space' : 'io/failed', `Cannot ${what}: ${message}`, { cause: error });
}
