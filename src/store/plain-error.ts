/** Errors that cross threads: a clone of an Error loses all fields but its message. */
import { type ErrorCode, VeneerError } from '../errors.ts';

export interface PlainError {
  readonly message: string;
  /** Of a VeneerError. */
  readonly code?: ErrorCode;
  readonly hint?: string;
  /** Of a failed system call: what Node says of it. */
  readonly system?: {
    readonly code: string;
    readonly errno: number;
    readonly syscall: string;
    readonly path?: string;
  };
}

export function plainError(error: unknown): PlainError {
  if (error instanceof VeneerError) {
    const { code, message, hint } = error;
    return { code, message, ...(hint === undefined ? {} : { hint }) };
  }
  if (!(error instanceof Error)) return { message: String(error) };
  if (!('syscall' in error)) return { message: error.stack ?? error.message };
  const { code, errno, syscall, path } = error as Error & Required<PlainError>['system'];
  return {
    message: error.message,
    system: { code, errno, syscall, ...(path === undefined ? {} : { path }) },
  };
}

export function revivedError({ message, code, hint, system }: PlainError): Error {
  if (code !== undefined) return new VeneerError(code, message, hint === undefined ? {} : { hint });
  return Object.assign(new Error(message), system);
}
