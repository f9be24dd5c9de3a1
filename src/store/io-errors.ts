/** From node:fs and sqlite errors to the project's error class. */
import { statfsSync } from 'node:fs';
import { type ErrorDetails, VeneerError } from '../errors.ts';

/** The errno name of an error of node:fs (or of the sys room: `sys/ENOSPC`), else ''. */
export function errnoName(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  if (typeof code !== 'string') return '';
  return code.startsWith('sys/') ? code.slice(4) : code;
}

export function isMissing(error: unknown): boolean {
  const name = errnoName(error);
  return name === 'ENOENT' || name === 'ENOTDIR';
}

/** True when the disk or the quota is full, whoever says so: node:fs, the sys room, sqlite (SQLITE_FULL = 13), or we. */
export function isNoSpace(error: unknown): boolean {
  if (error instanceof VeneerError && error.code === 'io/no-space') return true;
  const name = errnoName(error);
  if (name === 'ENOSPC' || name === 'EDQUOT') return true;
  if (name === 'ERR_SQLITE_ERROR') return (error as { errcode?: unknown }).errcode === 13;
  const cause = (error as { cause?: unknown } | null)?.cause;
  return cause !== undefined && cause !== error && isNoSpace(cause);
}

/** "Cannot WHAT: reason" for an error of the operating system; a {@link VeneerError} goes through as it is. */
export function storeError(what: string, error: unknown, details: ErrorDetails = {}): VeneerError {
  if (error instanceof VeneerError) return error;
  const code = isNoSpace(error) ? 'io/no-space' : 'io/failed';
  const hint = code === 'io/no-space' ? 'free some space, for example with `veneer gc`' : undefined;
  const reason = error instanceof Error ? error.message : String(error);
  return new VeneerError(code, `Cannot ${what}: ${reason}`, {
    ...(hint === undefined ? {} : { hint }),
    ...details,
    cause: error,
  });
}

/** Bytes that we may still take in the file system of `path` (root may use the reserve); Infinity when it cannot be told. */
export function freeSpace(path: string): number {
  try {
    const facts = statfsSync(path);
    return (process.geteuid?.() === 0 ? facts.bfree : facts.bavail) * facts.bsize;
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
