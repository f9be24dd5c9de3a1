/** Errors in words, and as exit codes. */
import { getSystemErrorMessage } from 'node:util';
import { ERROR_CODES, VeneerError } from '../errors.ts';

export interface ErrorWords {
  readonly code: string;
  readonly message: string;
  readonly hint?: string;
  /** More lines for whoever has to find the bug; undefined for errors raised on purpose. */
  readonly detail?: string;
}

export const EXIT_FAILED = 1;

export function exitCodeOf(error: unknown): number {
  return error instanceof VeneerError ? ERROR_CODES[error.code].exit : EXIT_FAILED;
}

interface SystemError extends Error {
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;
  readonly path?: string;
}

function isSystemError(error: unknown): error is SystemError {
  if (!(error instanceof Error)) return false;
  return 'syscall' in error && 'errno' in error && typeof error.errno === 'number';
}

export function describeError(error: unknown): ErrorWords {
  if (error instanceof VeneerError) {
    const hint = error.hint ?? systemHint(error.cause);
    return { code: error.code, message: error.message, ...(hint === undefined ? {} : { hint }) };
  }
  if (isSystemError(error)) {
    const reason = error.errno < 0 ? getSystemErrorMessage(error.errno) : error.message;
    const hint = systemHint(error);
    return {
      code: error.code === 'ENOSPC' ? 'io/no-space' : 'io/failed',
      message: `Cannot ${error.syscall} ${error.path ?? ''}: ${reason}`.replace(' :', ':'),
      ...(hint === undefined ? {} : { hint }),
    };
  }
  const message = error instanceof Error ? error.message : String(error);
  const detail = error instanceof Error ? error.stack : undefined;
  return {
    code: 'internal',
    message: `Cannot go on: ${message}`,
    hint: 'this is a bug in veneer; please report it with the lines below',
    ...(detail === undefined ? {} : { detail }),
  };
}

function systemHint(error: unknown): string | undefined {
  if (!isSystemError(error)) return undefined;
  switch (error.code) {
    case 'EACCES':
    case 'EPERM':
      return process.getuid?.() === 0
        ? undefined
        : 'run it as root, or choose a place you may write to (--root DIR)';
    case 'ENOSPC':
      return 'free some space, or choose another place with --root DIR';
    case 'EMFILE':
      return 'raise the limit on open files (ulimit -n)';
    default:
      return undefined;
  }
}
