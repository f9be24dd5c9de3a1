/** One at a time for each key: snapshots change in several steps, with waiting in between. */
export class KeyedLocks {
  readonly #last = new Map<number, Promise<void>>();

  /** Runs `work` when all that was asked for this key before has ended. */
  async run<T>(key: number, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#last.set(key, promise);
    try {
      await before;
      return await work();
    } finally {
      if (this.#last.get(key) === promise) this.#last.delete(key);
      resolve();
    }
  }
}
