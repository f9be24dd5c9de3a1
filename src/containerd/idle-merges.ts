/**
 * Merges chains behind the answers: the top of an image that is being unpacked is merged before the first container
 * asks for it, the chains below it, which nobody will, are not.
 */
import type { MergeThread } from '../store/merge-thread.ts';

/** While layers come one after the other, the next is here within so many milliseconds. */
const QUIET_MS = 150;
/** Images whose unpacking may end early are forgotten in the end. */
const COMING_KEPT = 64;

export class IdleMerges {
  readonly #merger: MergeThread;
  readonly #isBusy: () => boolean;
  readonly #onProblem: (what: string, error: unknown) => void;
  /** Chains that were committed, and that no other has been put on yet; by all their layers. */
  #waiting: (readonly string[])[] = [];
  /** Chains that were merged before they were committed. */
  #coming: (readonly string[])[] = [];
  #timer: NodeJS.Timeout | null = null;

  /** `isBusy`: layers are being converted. */
  constructor(merger: MergeThread, isBusy: () => boolean, onProblem: (what: string, error: unknown) => void) {
    this.#merger = merger;
    this.#isBusy = isBusy;
    this.#onProblem = onProblem;
  }

  /** All layers of an image are there, so what its topmost commit will show is known: it is merged at once. */
  begin(diffIds: readonly string[]): void {
    if (this.#coming.some((other) => isPrefix(diffIds, other) && isPrefix(other, diffIds))) return;
    this.#coming = [...this.#coming.slice(1 - COMING_KEPT), diffIds];
    const below = this.#waiting.filter((other) => isPrefix(other, diffIds));
    this.#waiting = this.#waiting.filter((other) => !below.includes(other));
    void this.#merge(diffIds).then((isMerged) => {
      if (isMerged) return;
      this.#coming = this.#coming.filter((other) => other !== diffIds);
      for (const chain of below) this.add(chain);
    });
  }

  /** A chain was committed: those that it stands on need no image. */
  add(diffIds: readonly string[]): void {
    const isBelow = this.#coming.some((other) => other.length > diffIds.length && isPrefix(diffIds, other));
    this.#coming = this.#coming.filter((other) => !isPrefix(other, diffIds));
    if (isBelow) return;
    // One that came is looked at again, too: a sweep may have taken it before it was committed.
    this.#waiting = this.#waiting.filter((other) => !isPrefix(other, diffIds));
    this.#waiting.push(diffIds);
    this.#wait();
  }

  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#waiting = [];
  }

  #wait(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#run(), QUIET_MS).unref();
  }

  async #run(): Promise<void> {
    this.#timer = null;
    if (this.#waiting.length === 0) return;
    if (this.#isBusy()) {
      this.#wait();
      return;
    }
    await this.#merge(this.#waiting.shift()!);
    if (this.#timer === null) this.#wait();
  }

  async #merge(diffIds: readonly string[]): Promise<boolean> {
    try {
      await this.#merger.merge(diffIds);
      return true;
    } catch (error) {
      // Whoever needs it will try again, and be told.
      this.#onProblem('merge a chain ahead of its use', error);
      return false;
    }
  }
}

function isPrefix(short: readonly string[], long: readonly string[]): boolean {
  return short.length <= long.length && short.every((diffId, i) => long[i] === diffId);
}
