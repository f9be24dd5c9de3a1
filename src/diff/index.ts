/** `veneer/diff`: what changed from one tree to another. Pure: file data comes through the caller. */
export { type Change, type ChangeKind, type Difference, Place } from './change.ts';
export type { DiffSide } from './content.ts';
export { type DiffOptions, diffTrees } from './diff.ts';
