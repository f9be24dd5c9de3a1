/** docs/benchmarks.md from measured results, and nothing else. */
import { type ContestResult, median, showValue } from './contest.ts';
import type { Machine } from './machine.ts';

export interface Report {
  readonly machine: Machine;
  /** By contest name and title, in the order of the report. */
  readonly results: readonly ContestResult[];
}

const row = (...cells: readonly string[]): string => `| ${cells.join(' | ')} |`;

function targetRows(results: readonly ContestResult[]): string[] {
  return results.flatMap((result) =>
    result.targets.map(({ text, limit, seen, met }) =>
      row(result.title, text, limit, seen, met ? 'met' : '**missed**'),
    ),
  );
}

function contestSection(result: ContestResult): string[] {
  const ours = result.measured[0]!;
  const base = median(ours.walls);
  const sizes = result.measured.some(({ bytes }) => bytes !== null);
  const lines = [`### ${result.title}`, ''];
  if (result.notes !== '') lines.push(result.notes, '');
  lines.push(
    row(
      'what',
      'median',
      'lowest – highest',
      'processor',
      'peak memory',
      ...(sizes ? ['result'] : []),
      'ratio',
    ),
    row('---', '--:', '--:', '--:', '--:', ...(sizes ? ['--:'] : []), '--:'),
  );
  for (const measured of result.measured) {
    const wall = median(measured.walls);
    const range = [Math.min(...measured.walls), Math.max(...measured.walls)] as const;
    lines.push(
      row(
        measured.title,
        showValue(wall, 'wall'),
        `${showValue(range[0], 'wall')} – ${showValue(range[1], 'wall')}`,
        showValue(median(measured.cpus), 'wall'),
        measured.memory === null ? '(elsewhere)' : showValue(measured.memory, 'memory'),
        ...(sizes ? [measured.bytes === null ? '' : showValue(measured.bytes, 'bytes')] : []),
        measured === ours ? '1' : `${(base / wall).toFixed(2)}×`,
      ),
    );
  }
  const once = result.measured.filter(({ walls }) => walls.length < result.rounds).map(({ title }) => title);
  const rounds =
    once.length > 0 ? `${result.rounds} rounds (${once.join(', ')}: 1)` : `${result.rounds} rounds`;
  lines.push('', `${rounds}. Ratio: ${ours.title} divided by this line.`, '', '```');
  for (const { title, command } of result.measured) lines.push(`# ${title}`, command);
  lines.push('```', '');
  return lines;
}

export function renderReport({ machine, results }: Report): string {
  return [
    '# Benchmarks',
    '',
    'Written by `npm run bench` (`npm run bench -- pull merge` for some of it); do not edit.',
    'Whole processes, side by side in one run: each round runs every contestant once, medians of the rounds count.',
    'Inputs are in the page cache unless it says cold; dirty pages are synced before each run.',
    'Peak memory is the largest resident set of any one process of the tree (wait4).',
    '',
    '## Machine and versions',
    '',
    row('what', ''),
    row('---', '---'),
    ...Object.entries(machine).map(([key, value]) => row(key, value)),
    '',
    '## Targets',
    '',
    row('benchmark', 'target', 'limit', 'seen', ''),
    row('---', '---', '--:', '--:', '---'),
    ...targetRows(results),
    '',
    '## Measurements',
    '',
    'In the command lines: `CORPUS` is the folder of the corpus images, `TOOLS` that of the newer tools, `WORK` a folder on the same disk.',
    '',
    ...results.flatMap(contestSection),
  ].join('\n');
}
