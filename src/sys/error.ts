/** From errno to the project's error class. */
import { ERROR_CODES, type ErrorCode, type ErrorDetails, VeneerError } from '../errors.ts';
import { errno } from './libc.ts';

/** A path for the kernel: a JS string goes as UTF-8 as in node:fs, a Buffer goes as the bytes it holds. */
export type SysPath = string | Buffer;

/** NUL-terminated bytes of a path or name. Throws `sys/EINVAL` when it holds a NUL itself. */
export function cString(path: SysPath): Buffer {
  const bytes = typeof path === 'string' ? Buffer.from(path, 'utf8') : path;
  if (bytes.includes(0)) {
    throw new VeneerError('sys/EINVAL', `Cannot use ${showPath(path)}: it contains a NUL byte`);
  }
  const out = Buffer.alloc(bytes.length + 1);
  out.set(bytes);
  return out;
}

/** A path for messages. */
export function showPath(path: SysPath): string {
  return typeof path === 'string' ? path : path.toString('utf8');
}

/** The stable code of an errno name: `sys/NAME` where the table has it, else `sys/failed`. */
export function sysCode(name: string): ErrorCode {
  const code = `sys/${name}`;
  return Object.hasOwn(ERROR_CODES, code) ? (code as ErrorCode) : 'sys/failed';
}

/** Names and texts of <asm-generic/errno.h> that Node lacks or words for sockets. */
const OWN_WORDS: Record<number, readonly [name: string, text: string]> = {
  15: ['ENOTBLK', 'block device required'],
  16: ['EBUSY', 'device or resource busy'],
  74: ['EBADMSG', 'bad message'],
  95: ['ENOTSUP', 'operation not supported'],
  116: ['ESTALE', 'stale file handle'],
  117: ['EUCLEAN', 'structure needs cleaning'],
  126: ['ENOKEY', 'required key not available'],
  129: ['EKEYREJECTED', 'key was rejected by service'],
};

/** The error of errno number `number` as "Cannot WHAT: text (NAME)". */
export function sysError(number: number, what: string, details: ErrorDetails = {}): VeneerError {
  // Loaded only now: most processes never see an error, and every import delays their start.
  const util = process.getBuiltinModule('node:util');
  const [name, text] = OWN_WORDS[number] ?? [
    util.getSystemErrorName(-number),
    util.getSystemErrorMessage(-number),
  ];
  return new VeneerError(sysCode(name), `Cannot ${what}: ${text} (${name})`, details);
}

/** Returns `result`, or throws the error of errno when it is -1. `what` completes "Cannot …". */
export function check(result: number, what: string): number {
  if (result !== -1) return result;
  throw sysError(errno(), what);
}
