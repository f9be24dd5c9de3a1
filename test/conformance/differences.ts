/**
 * Where an oracle gives another tree than veneer, and why veneer is right. A difference that
 * is not listed fails the test, and so does a listed one that is not there any more.
 */
export interface Difference {
  /** Cases it applies to. */
  readonly cases: RegExp;
  readonly reason: string;
}

export const mkfsDifferences: readonly Difference[] = [];

export const umociDifferences: readonly Difference[] = [];

/** What overlayfs over one image a layer cannot show. */
export const layeredDifferences: readonly Difference[] = [];

export function findDifference(table: readonly Difference[], name: string): Difference | undefined {
  return table.find(({ cases }) => cases.test(name));
}
