/** Columns that line up. */

/** One line a row; every column but the last is padded; `right` lists the columns that hold numbers. */
export function alignColumns(rows: readonly (readonly string[])[], right: readonly number[] = []): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, displayWidth(cell));
    });
  }
  // A column that is empty in all rows takes no room.
  const used = widths.map((width) => width > 0);
  return rows.map((row) =>
    row
      .flatMap((cell, column) => {
        if (!used[column]) return [];
        const gap = ' '.repeat(widths[column]! - displayWidth(cell));
        return [right.includes(column) ? gap + cell : column === row.length - 1 ? cell : cell + gap];
      })
      .join('  ')
      .trimEnd(),
  );
}

const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Extended_Pictographic}/u;

/** Columns a text takes on a terminal (East Asian wide characters take two, combining marks none). */
export function displayWidth(text: string): number {
  if (/^[\x20-\x7e]*$/.test(text)) return text.length;
  let width = 0;
  for (const char of text) width += /\p{Mark}/u.test(char) ? 0 : WIDE.test(char) ? 2 : 1;
  return width;
}
