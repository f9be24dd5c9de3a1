/** Errors that cross threads: a clone of an Error loses all fields but its message. */
import { type ErrorCode, VeneerError } from '../errors.ts';

export interface PlainError {
  readonly message: string;
  /** Of an error that is neither a VeneerError nor a failed system call: where the bug is. */
  readonly stack?: string;
  /** Of a VeneerError. */
  readonly code?: ErrorCode;
  readonly hint?: string;
  /** Of a failed system call, or of the one that caused a VeneerError: what Node says of it. */
  readonly system?: SystemFields;
}

interface SystemFields {
  readonly message: string;
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;
  readonly path?: string;
}

export function plainError(error: unknown): PlainError {
  if (error instanceof VeneerError) {
    const { code, message, hint } = error;
    return { code, message, ...(hint === undefined ? {} : { hint }), ...systemOf(error.cause) };
  }
  if (!(error instanceof Error)) return { message: String(error) };
  const { message, stack } = error;
  const system = systemOf(error);
  return { message, ...system, ...(stack === undefined || 'system' in system ? {} : { stack }) };
}

function systemOf(error: unknown): { readonly system: SystemFields } | Record<never, never> {
  if (!(error instanceof Error && 'syscall' in error)) return {};
  const { message, code, errno, syscall, path } = error as Error & SystemFields;
  return { system: { message, code, errno, syscall, ...(path === undefined ? {} : { path }) } };
}

export function revivedError({ message, stack, code, hint, system }: PlainError): Error {
  const cause = system === undefined ? undefined : Object.assign(new Error(system.message), system);
  if (code !== undefined)
    return new VeneerError(code, message, { ...(hint === undefined ? {} : { hint }), cause });
  return cause ?? Object.assign(new Error(message), stack === undefined ? {} : { stack });
}
