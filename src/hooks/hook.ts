/** One hook, whatever is behind it: a program, a driver of ours, or somebody's callbacks. */
import * as v from 'valibot';
import { VeneerError } from '../errors.ts';
import { type HookAnswer, type HookEvent, type HookReply, type HookRequest, REPLIES } from './protocol.ts';

/** What happens when the hook fails: the work ends, or it goes on as if the hook had declined. */
export type OnError = 'abort' | 'fallback';

/** How far a copy that a hook says it has is checked. */
export type Verify = 'tree' | 'manifest' | 'none';

export interface HookPolicy {
  /** By default only `try-skip` falls back. */
  readonly onError?: OnError;
  /** Default: `tree`. */
  readonly verify?: Verify;
  /** Seconds that one event may take. */
  readonly timeout?: number;
  /** Only layers of these; by default of all. */
  readonly mediaTypes?: readonly string[];
}

export interface HookCall {
  readonly signal: AbortSignal;
  /** A line for the log. */
  readonly log: (line: string) => void;
}

export interface Hook extends HookPolicy {
  /** What messages call it. */
  readonly name: string;
  readonly events: ReadonlySet<HookEvent>;
  /** Null: declined. What comes back is not checked yet. Must end soon after the signal. */
  call(request: HookRequest, call: HookCall): Promise<unknown>;
}

export const DEFAULT_TIMEOUT = 300;

/** Hooks of a program that uses veneer as a library. Null or undefined: declined. */
export type HookCallbacks = {
  readonly [E in HookEvent]?: (
    request: HookRequest<E>,
    call: HookCall,
  ) => HookAnswer<E> | null | undefined | Promise<HookAnswer<E> | null | undefined>;
};

/** A hook from callbacks; they get the requests and give the answers that docs/hooks.md tells of. */
export function callbackHook(name: string, callbacks: HookCallbacks, policy: HookPolicy = {}): Hook {
  const events = Object.keys(callbacks) as HookEvent[];
  return {
    ...policy,
    name,
    events: new Set(events.filter((event) => callbacks[event] !== undefined)),
    async call(request, call) {
      const callback = callbacks[request.event] as
        | ((request: HookRequest, call: HookCall) => unknown)
        | undefined;
      return (await callback?.(request, call)) ?? null;
    },
  };
}

export function onErrorOf(hook: Hook, event: HookEvent): OnError {
  return hook.onError ?? (event === 'unpack.ociv1.layer.try-skip' ? 'fallback' : 'abort');
}

/** The answer, when it is one that the event can have; null when the hook declined. Throws `hooks/bad-reply`. */
export function checkReply<E extends HookEvent>(hook: Hook, event: E, answer: unknown): HookReply<E> | null {
  if (answer === null) return null;
  // To valibot a list is an object, too.
  const result = v.safeParse(REPLIES[event], Array.isArray(answer) ? undefined : answer);
  if (result.success) return result.output as HookReply<E>;
  const [issue] = result.issues;
  const at = issue.path?.map(({ key }) => String(key)).join('.') ?? '';
  throw new VeneerError(
    'hooks/bad-reply',
    `Cannot use what ${hook.name} answered to ${event}: ${at === '' ? '' : `${at}: `}${issue.message}`,
    { hint: 'docs/hooks.md says what each event may answer; `veneer hooks check` tries a hook out.' },
  );
}
