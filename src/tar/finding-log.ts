import type { Finding } from '../errors.ts';

/** Longest part of a name that a finding repeats, so that hostile names cannot fill the memory. */
const SHOWN_PATH = 4096;

/** Through bytes, because a slice of a string keeps the whole alive. */
function shorten(path: string): string {
  return path.length <= SHOWN_PATH ? path : Buffer.from(path, 'latin1').toString('latin1', 0, SHOWN_PATH);
}

/** Findings in the order they came, bounded: from `limit` on they are only counted. */
export class FindingLog {
  readonly findings: Finding[] = [];
  readonly #limit: number;
  #dropped = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  add(code: string, message: string, offset: number, path?: string): void {
    if (this.findings.length >= this.#limit) {
      this.#dropped++;
      return;
    }
    if (path === undefined) this.findings.push({ code, message, offset });
    else this.findings.push({ code, message, path: shorten(path), offset });
  }

  /** Says how many findings there was no room for. */
  close(): void {
    if (this.#dropped > 0) {
      this.findings.push({
        code: 'tar/more-findings',
        message: `${this.#dropped} more findings are not listed`,
      });
      this.#dropped = 0;
    }
  }
}
