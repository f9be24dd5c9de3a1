/** When to try again, and how long to wait before. */
import { setTimeout as delay } from 'node:timers/promises';
import { type ErrorDetails, VeneerError } from '../errors.ts';

export interface RetryPolicy {
  /** Tries in all, the first included. */
  readonly attempts: number;
  /** Upper bound of the first wait, milliseconds; doubles each time. */
  readonly baseDelay: number;
  /** Upper bound of any wait, milliseconds. A server that asks for more in Retry-After is not waited for. */
  readonly maxDelay: number;
  /** Waits; rejects when `signal` is aborted. Tests put their own here. */
  readonly wait: (milliseconds: number, signal: AbortSignal) => Promise<void>;
}

export const DEFAULT_RETRY: RetryPolicy = {
  attempts: 6,
  baseDelay: 500,
  maxDelay: 30_000,
  wait: async (milliseconds, signal) => {
    await delay(milliseconds, undefined, { signal });
  },
};

/** The network or the server failed for now: `registry/unavailable`, the one code that is retried. */
export class UnavailableError extends VeneerError {
  /** Milliseconds the server asked to wait (Retry-After), if it did. */
  readonly retryAfter: number | undefined;
  /** Nothing listens there. */
  readonly refused: boolean;

  constructor(
    message: string,
    details: ErrorDetails & { retryAfter?: number | undefined; refused?: boolean } = {},
  ) {
    super('registry/unavailable', message, details);
    this.retryAfter = details.retryAfter;
    this.refused = details.refused ?? false;
  }
}

/**
 * Milliseconds to wait before try number `attempt` (1 = the first retry): Retry-After when the server gave one, else
 * exponential with jitter. Null: do not try again.
 */
export function retryDelay(error: unknown, attempt: number, policy: RetryPolicy): number | null {
  if (!(error instanceof UnavailableError) || attempt >= policy.attempts) return null;
  const { retryAfter } = error;
  if (retryAfter !== undefined) return retryAfter <= policy.maxDelay ? retryAfter : null;
  const bound = Math.min(policy.maxDelay, policy.baseDelay * 2 ** (attempt - 1));
  return Math.round(bound * (0.5 + Math.random() / 2));
}

/** Milliseconds of a Retry-After header: seconds or an HTTP date (RFC 9110, section 10.2.3); undefined when it is neither. */
export function parseRetryAfter(header: string | undefined, now: number): number | undefined {
  if (header === undefined) return undefined;
  const text = header.trim();
  if (/^[0-9]{1,9}$/.test(text)) return Number(text) * 1000;
  if (!/^[A-Z][a-z]{2}, /.test(text)) return undefined;
  const at = Date.parse(text);
  return Number.isNaN(at) ? undefined : Math.max(0, at - now);
}

export interface RetryContext {
  readonly policy: RetryPolicy;
  readonly signal: AbortSignal;
  /** Called before each wait. */
  readonly onRetry: (error: VeneerError, milliseconds: number) => void;
}

/** Runs `attempt` until it succeeds, fails for good, or the policy ends. */
export async function withRetries<T>(context: RetryContext, attempt: () => Promise<T>): Promise<T> {
  for (let tried = 1; ; tried++) {
    try {
      return await attempt();
    } catch (error) {
      await waitToRetry(context, error, tried);
    }
  }
}

/** Waits before the next try, or throws `error` when there is to be none. */
export async function waitToRetry(context: RetryContext, error: unknown, tried: number): Promise<void> {
  const { policy, signal, onRetry } = context;
  const milliseconds = retryDelay(error, tried, policy);
  if (milliseconds === null) throw error;
  if (!signal.aborted) {
    onRetry(error as UnavailableError, milliseconds);
    // A wait ends early only because of the signal, which is looked at next.
    await policy.wait(milliseconds, signal).catch(() => {});
  }
  if (signal.aborted)
    throw new VeneerError('io/cancelled', 'Cannot go on: the source was closed', { cause: error });
}
