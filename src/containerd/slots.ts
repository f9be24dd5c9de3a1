/** So many at a time; the others wait in the order they came. */
import { throwIfAborted } from '../store/locks.ts';

export class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  /** So many more would not have to wait. */
  get free(): number {
    return this.#free;
  }

  /** How many wait. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Runs `work` when its turn comes. Throws `io/cancelled`, without having run it, when the signal fires before. */
  async run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    await this.#take(signal);
    try {
      return await work();
    } finally {
      this.#give();
    }
  }

  async #take(signal: AbortSignal | undefined): Promise<void> {
    throwIfAborted(signal);
    if (this.#free > 0) {
      this.#free--;
      return;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    let given = false;
    const take = (): void => {
      given = true;
      resolve();
    };
    const leave = (): void => {
      const at = this.#waiting.indexOf(take);
      if (at < 0) return;
      this.#waiting.splice(at, 1);
      resolve();
    };
    this.#waiting.push(take);
    signal?.addEventListener('abort', leave, { once: true });
    await promise;
    signal?.removeEventListener('abort', leave);
    // Whoever was given a slot and cancelled in the same moment runs, and gives it back.
    if (!given) throwIfAborted(signal);
  }

  #give(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free++;
    else next();
  }
}
