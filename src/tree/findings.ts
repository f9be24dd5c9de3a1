/** Findings in the order they came, bounded, so that a hostile layer cannot fill the memory with them. */
import type { Finding } from '../errors.ts';

/** Kept of one layer, or of what a merge itself finds. */
export const FINDINGS_MAX = 10_000;
/** Longest part of a path that a finding repeats, bytes. */
const PATH_SHOWN = 4096;

export class FindingList {
  private readonly findings: Finding[] = [];
  private more = 0;

  add(code: string, message: string, path: string, offset?: number): void {
    if (this.findings.length >= FINDINGS_MAX) {
      this.more++;
      return;
    }
    const shown = path.slice(0, PATH_SHOWN);
    this.findings.push(
      offset === undefined ? { code, message, path: shown } : { code, message, path: shown, offset },
    );
  }

  /** All of them, and at the end how many there was no room for. */
  list(): Finding[] {
    if (this.more === 0) return this.findings;
    return [
      ...this.findings,
      { code: 'tree/more-findings', message: `${this.more} more findings are not listed` },
    ];
  }
}
