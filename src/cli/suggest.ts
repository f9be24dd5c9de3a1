/** "Did you mean": names a slip or two away. */

export function nearestCommands(typed: string, names: readonly string[]): string[] {
  const scored = names.map((name) => ({ name, distance: editDistance(typed, name) }));
  const allowed = typed.length <= 3 ? 1 : 2;
  const best = Math.min(...scored.map(({ distance }) => distance));
  const near = scored
    .filter(({ distance }) => distance === best && distance <= allowed)
    .map(({ name }) => name);
  return near.length > 0 ? near : names.filter((name) => typed.length > 1 && name.startsWith(typed));
}

/** Levenshtein distance with a swap of neighbours counted once; words are short. */
function editDistance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let cost = Math.min(row[j - 1]! + 1, rows[i - 1]![j]! + 1, rows[i - 1]![j - 1]! + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        cost = Math.min(cost, rows[i - 2]![j - 2]! + 1);
      row.push(cost);
    }
    rows.push(row);
  }
  return rows[a.length]![b.length]!;
}
