/**
 * The hooks during one unpack or repack: who is asked, what a failure means, and who has to undo something in the end.
 */
import { VeneerError } from '../errors.ts';
import { checkReply, DEFAULT_TIMEOUT, type Hook, onErrorOf } from './hook.ts';
import {
  type HookDeed,
  type HookEvent,
  type HookFacts,
  type HookReply,
  type HookRequest,
  type HookSubject,
  isLayerEvent,
  PROTOCOL,
  QUESTIONS,
} from './protocol.ts';

export interface HookAnswered<E extends HookEvent> {
  readonly hook: Hook;
  readonly reply: HookReply<E>;
}

/** What became of one event at one hook; for logs and tests. */
export interface HookReport {
  readonly hook: string;
  readonly event: HookEvent;
  readonly outcome: 'answered' | 'declined' | 'failed';
  readonly error?: Error;
  /** The work goes on all the same. */
  readonly borne?: boolean;
}

export interface SessionOptions {
  readonly signal?: AbortSignal;
  /** Lines that hooks write for people. */
  readonly onLog?: (hook: string, line: string) => void;
  readonly onReport?: (report: HookReport) => void;
}

export class HookSession {
  readonly #hooks: readonly Hook[];
  readonly #subject: HookSubject;
  readonly #options: SessionOptions;
  /** What each hook was told, in the order of its first answer. */
  readonly #deeds = new Map<Hook, HookDeed[]>();

  constructor(hooks: readonly Hook[], subject: HookSubject, options: SessionOptions = {}) {
    this.#hooks = hooks;
    this.#subject = subject;
    this.#options = options;
  }

  /** Is there a hook for any of these? */
  listens(...events: readonly HookEvent[]): boolean {
    return this.#hooks.some((hook) => events.some((event) => hook.events.has(event)));
  }

  /** The answer of the first hook that has one; null when all decline. */
  async ask<E extends HookEvent>(event: E, facts: HookFacts[E]): Promise<HookAnswered<E> | null> {
    if (!QUESTIONS.has(event)) throw new Error(`${event} is no question`);
    for (const hook of this.#listeners(event, facts)) {
      const reply = await this.#call(hook, event, facts);
      if (reply !== null) return { hook, reply };
    }
    return null;
  }

  /** Tells every hook, one after the other; returns what they answered. */
  async tell<E extends HookEvent>(event: E, facts: HookFacts[E]): Promise<HookAnswered<E>[]> {
    const answers: HookAnswered<E>[] = [];
    for (const hook of this.#listeners(event, facts)) {
      const reply = await this.#call(hook, event, facts);
      if (reply !== null) answers.push({ hook, reply });
    }
    return answers;
  }

  /**
   * Everything is off: those who answered something undo it, the last who began first. Their failures are reported
   * and stop nothing; a signal that is the reason does not keep them from working.
   */
  async abort(reason: unknown): Promise<void> {
    const event = 'unpack.ociv1.image.abort';
    const text = reason instanceof Error ? reason.message : String(reason);
    for (const [hook, deeds] of [...this.#deeds].reverse()) {
      if (!hook.events.has(event)) continue;
      try {
        await this.#run(hook, event, { reason: text, deeds: deeds.toReversed() }, undefined, true);
      } catch {
        // Reported, and there is nobody left who could do something about it.
      }
    }
    this.#deeds.clear();
  }

  #listeners<E extends HookEvent>(event: E, facts: HookFacts[E]): Hook[] {
    const mediaType = isLayerEvent(event) ? layerOf(facts)?.mediaType : undefined;
    return this.#hooks.filter(
      ({ events, mediaTypes }) =>
        events.has(event) && (mediaType === undefined || (mediaTypes?.includes(mediaType) ?? true)),
    );
  }

  async #call<E extends HookEvent>(hook: Hook, event: E, facts: HookFacts[E]): Promise<HookReply<E> | null> {
    const deeds = this.#deeds.get(hook) ?? [];
    this.#deeds.set(hook, deeds);
    // Known before it is done: a hook that fails may have done half of it.
    const deed: HookDeed = { event, layer: layerOf(facts)?.index ?? null };
    deeds.push(deed);
    try {
      const borne = onErrorOf(hook, event) === 'fallback';
      const reply = await this.#run(hook, event, facts, this.#options.signal, borne);
      if (reply === null) deeds.splice(deeds.indexOf(deed), 1);
      return reply;
    } catch (error) {
      if (this.#options.signal?.aborted || onErrorOf(hook, event) === 'abort') throw error;
      return null;
    }
  }

  async #run<E extends HookEvent>(
    hook: Hook,
    event: E,
    facts: HookFacts[E],
    signal: AbortSignal | undefined,
    borne: boolean,
  ): Promise<HookReply<E> | null> {
    signal?.throwIfAborted();
    const request = { protocol: PROTOCOL, event, ...this.#subject, ...facts } as unknown as HookRequest;
    const report = (
      outcome: HookReport['outcome'],
      failure: Pick<HookReport, 'error' | 'borne'> = {},
    ): void => this.#options.onReport?.({ hook: hook.name, event, outcome, ...failure });
    const log = (line: string): void => this.#options.onLog?.(hook.name, line);
    try {
      const answer = await withTimeout(hook, event, signal, (inner) =>
        hook.call(request, { signal: inner, log }),
      );
      const reply = checkReply(hook, event, answer);
      report(reply === null ? 'declined' : 'answered');
      return reply;
    } catch (error) {
      report('failed', { error: error as Error, borne: borne && signal?.aborted !== true });
      throw error;
    }
  }
}

function layerOf(facts: object): { readonly index: number; readonly mediaType: string } | null {
  return 'layer' in facts ? (facts.layer as { index: number; mediaType: string } | null) : null;
}

/** Hooks that do not end when told to get so long, milliseconds, before nobody waits for them any more. */
const GRACE = 5000;

async function withTimeout<T>(
  hook: Hook,
  event: HookEvent,
  outer: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const seconds = hook.timeout ?? DEFAULT_TIMEOUT;
  const tooLong = new VeneerError(
    'hooks/timeout',
    `Cannot wait for ${hook.name} any longer: ${event} took more than ${seconds} s`,
    { hint: 'Give the hook a larger timeout, or find out what it waits for.' },
  );
  const controller = new AbortController();
  const stop = (): void => controller.abort(outer?.reason);
  outer?.addEventListener('abort', stop, { once: true });
  const timer = setTimeout(() => controller.abort(tooLong), seconds * 1000);
  let grace: NodeJS.Timeout | undefined;
  const given = new Promise<never>((_, reject) => {
    controller.signal.addEventListener('abort', () => {
      grace = setTimeout(() => reject(controller.signal.reason), GRACE);
    });
  });
  try {
    const answer = await Promise.race([work(controller.signal), given]);
    controller.signal.throwIfAborted();
    return answer;
  } catch (error) {
    // Whatever a hook says when it is stopped: that it was stopped is the reason.
    throw controller.signal.aborted ? controller.signal.reason : error;
  } finally {
    clearTimeout(timer);
    clearTimeout(grace);
    outer?.removeEventListener('abort', stop);
  }
}
