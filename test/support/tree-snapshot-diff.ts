/** Differences between two snapshots, in words. */
import assert from 'node:assert/strict';
import type { Snapshot, SnapshotEntry } from './tree-snapshot.ts';

/** `name` stands for the presence of the path itself. */
export type SnapshotField = keyof SnapshotEntry | 'name';

export interface DiffOptions {
  /** True for a difference that is expected, with its reason written down where this is called. */
  readonly ignore?: (path: string, field: SnapshotField) => boolean;
}

const FIELDS: ReadonlyArray<keyof SnapshotEntry> = [
  'type',
  'mode',
  'uid',
  'gid',
  'size',
  'mtime',
  'mtimeNsec',
  'devMajor',
  'devMinor',
  'target',
  'hardLink',
  'nlink',
  'xattrs',
  'sha256',
];

function show(field: keyof SnapshotEntry, value: string | number): string {
  if (field === 'mode') return `0${value.toString(8)}`;
  const text = typeof value === 'string' ? JSON.stringify(value) : String(value);
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

const showPath = (path: string): string => (path === '' ? 'the root' : JSON.stringify(path));

/** One line a difference, in path order; empty when the trees are the same. */
export function diffSnapshots(expected: Snapshot, actual: Snapshot, options: DiffOptions = {}): string[] {
  const ignore = options.ignore ?? (() => false);
  const lines: [string, string][] = [];
  for (const [path, want] of expected) {
    const got = actual.get(path);
    if (got === undefined) {
      if (!ignore(path, 'name')) lines.push([path, `${showPath(path)} is missing (${want.type})`]);
      continue;
    }
    for (const field of FIELDS) {
      if (want[field] === got[field] || ignore(path, field)) continue;
      lines.push([
        path,
        `${showPath(path)} ${field}: expected ${show(field, want[field])}, is ${show(field, got[field])}`,
      ]);
    }
  }
  for (const [path, got] of actual) {
    if (!expected.has(path) && !ignore(path, 'name'))
      lines.push([path, `${showPath(path)} should not be there (${got.type})`]);
  }
  lines.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return lines.map(([, line]) => line);
}

/** Fails with the first differences; `what` names the two sides. */
export function assertSameSnapshot(
  expected: Snapshot,
  actual: Snapshot,
  what: string,
  options: DiffOptions = {},
): void {
  const lines = diffSnapshots(expected, actual, options);
  if (lines.length === 0) return;
  const more = lines.length > 20 ? `\n… and ${lines.length - 20} more` : '';
  assert.fail(`${what}: ${lines.length} differences\n${lines.slice(0, 20).join('\n')}${more}`);
}
