/** Changes counted. */
import type { Change, ChangeKind } from '../../diff/change.ts';
import { formatBytes, formatCount } from '../../progress/units.ts';
import { S_IFREG, type TreeNode } from '../../tree/node.ts';
import { isType } from '../node-facts.ts';
import { alignColumns } from '../table.ts';
import { LETTERS } from './words.ts';

interface Sum {
  /** Names; a directory that moved counts with all that is in it. */
  names: number;
  /** File data before and after, every inode once, what a moved directory holds not counted. */
  oldBytes: number;
  newBytes: number;
}

export type Summary = Readonly<Record<ChangeKind, Readonly<Sum>>>;

export function summarize(changes: readonly Change[]): Summary {
  const none = (): Sum => ({ names: 0, oldBytes: 0, newBytes: 0 });
  const summary: Record<ChangeKind, Sum> = {
    added: none(),
    removed: none(),
    changed: none(),
    type: none(),
    renamed: none(),
    attributes: none(),
  };
  const [before, after] = [new Set<TreeNode>(), new Set<TreeNode>()];
  for (const change of changes) {
    const sum = summary[change.kind];
    sum.names += change.names;
    sum.oldBytes += dataOf(change.old, before);
    sum.newBytes += dataOf(change.new, after);
  }
  return summary;
}

function dataOf(node: TreeNode | null, counted: Set<TreeNode>): number {
  if (node === null || !isType(node, S_IFREG) || counted.has(node)) return 0;
  counted.add(node);
  return node.size;
}

const TITLES: Readonly<Record<ChangeKind, string>> = {
  added: 'added',
  removed: 'removed',
  changed: 'changed',
  type: 'other type',
  renamed: 'renamed',
  attributes: 'attributes only',
};

export function summaryLines(summary: Summary): string[] {
  const kinds = (Object.keys(TITLES) as ChangeKind[]).filter((kind) => summary[kind].names > 0);
  if (kinds.length === 0) return ['no difference'];
  return alignColumns(
    kinds.map((kind) => {
      const { names, oldBytes, newBytes } = summary[kind];
      return [LETTERS[kind], TITLES[kind], formatCount(names, 'name'), bytesOf(kind, oldBytes, newBytes)];
    }),
    [2],
  );
}

function bytesOf(kind: ChangeKind, oldBytes: number, newBytes: number): string {
  switch (kind) {
    case 'added':
      return formatBytes(newBytes);
    case 'removed':
      return formatBytes(oldBytes);
    case 'changed':
    case 'type':
      return `${formatBytes(oldBytes)} -> ${formatBytes(newBytes)}`;
    case 'renamed':
    case 'attributes':
      return '';
  }
}
