/** Where an inode is not what an mtree file says. */
import type { Keyword } from './keywords.ts';
import type { Keywords } from './parse.ts';

export interface Difference {
  readonly keyword: string;
  /** Null: it is on one side only. */
  readonly expected: string | null;
  readonly found: string | null;
}

/** Differences in the keywords that `counts` takes; `expected` comes from the file. */
export function compareKeywords(
  expected: Keywords,
  found: readonly Keyword[],
  counts: (keyword: string) => boolean,
): Difference[] {
  const differences: Difference[] = [];
  const seen = new Set<string>();
  for (const [keyword, value] of found) {
    seen.add(keyword);
    if (!counts(keyword)) continue;
    const wanted = expected.get(keyword) ?? null;
    if (wanted === null || !isSame(keyword, wanted, value)) {
      differences.push({ keyword, expected: wanted, found: value });
    }
  }
  for (const [keyword, value] of expected) {
    if (!seen.has(keyword) && counts(keyword)) differences.push({ keyword, expected: value, found: null });
  }
  return differences;
}

/** Octal numbers may have any number of zeros before them. */
function isSame(keyword: string, a: string, b: string): boolean {
  return a === b || (keyword === 'mode' && Number.parseInt(a, 8) === Number.parseInt(b, 8));
}
