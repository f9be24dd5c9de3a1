/** Findings in the order they came, bounded, so that hostile input cannot fill the memory with them. */
import type { Finding } from './errors.ts';

/** Kept of one thing that is looked at. */
const FINDINGS_MAX = 10_000;
/** Longest part of a path that a finding repeats, bytes. */
const PATH_SHOWN = 4096;

export class FindingList {
  readonly #findings: Finding[] = [];
  readonly #room: string;
  readonly #limit: number;
  #dropped = 0;

  /** `room` says in whose name it tells that there were more. */
  constructor(room: string, limit: number = FINDINGS_MAX) {
    this.#room = room;
    this.#limit = limit;
  }

  /** `offset`: byte offset in the input; `path`: a byte string. */
  add(code: string, message: string, offset?: number, path?: string): void {
    if (this.#findings.length >= this.#limit) {
      this.#dropped++;
      return;
    }
    this.#findings.push({
      code,
      message,
      ...(path === undefined ? {} : { path: shorten(path) }),
      ...(offset === undefined ? {} : { offset }),
    });
  }

  /** All of them, and at the end how many there was no room for. */
  list(): Finding[] {
    if (this.#dropped === 0) return this.#findings;
    const message = `${this.#dropped} more findings are not listed`;
    return [...this.#findings, { code: `${this.#room}/more-findings`, message }];
  }
}

/** Through bytes, because a slice of a string keeps the whole alive. */
function shorten(path: string): string {
  return path.length <= PATH_SHOWN ? path : Buffer.from(path, 'latin1').toString('latin1', 0, PATH_SHOWN);
}
