/** Long synchronous work: lets Ctrl-C in, and tells how far it is. */
import { setImmediate as nextTick } from 'node:timers/promises';
import type { OnProgress } from '../progress/events.ts';
import { throwIfAborted } from '../store/locks.ts';

const TURN_NAMES = 256;
const TURN_BYTES = 16 << 20;

export class Pace {
  readonly #id: string;
  readonly #onProgress: OnProgress | undefined;
  readonly #signal: AbortSignal | undefined;
  #names = 0;
  #told = 0;

  constructor(id: string, onProgress: OnProgress | undefined, signal: AbortSignal | undefined) {
    this.#id = id;
    this.#onProgress = onProgress;
    this.#signal = signal;
  }

  /** One more name is done; `bytes` of data so far. Throws `io/cancelled`. */
  async step(bytes: number): Promise<void> {
    if (++this.#names % TURN_NAMES !== 0 && bytes < this.#told + TURN_BYTES) return;
    this.#told = bytes;
    this.#onProgress?.({ type: 'advance', id: this.#id, done: bytes });
    await nextTick();
    throwIfAborted(this.#signal);
  }
}
