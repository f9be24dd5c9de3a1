/** Goes through two trees side by side. */
import type { TreeNode } from '../tree/node.ts';
import { isDirectory, Place } from './change.ts';

/** A name that at least one of the trees has. */
export interface Pair {
  readonly place: Place;
  readonly old: TreeNode | null;
  readonly new: TreeNode | null;
}

interface Frame extends Pair {
  /** Last name first. */
  readonly names: string[];
}

/**
 * Every name of either tree, depth-first, a directory before what is in it, names of one directory sorted as bytes.
 * What is the same object in both trees is not entered.
 */
export function* walkPairs(old: TreeNode, now: TreeNode): Generator<Pair> {
  let order = 0;
  const root: Pair = { place: new Place(null, '', order++), old, new: now };
  yield root;
  const frames: Frame[] = [];
  enter(frames, root);
  for (let frame = frames.at(-1); frame !== undefined; frame = frames.at(-1)) {
    const name = frame.names.pop();
    if (name === undefined) {
      frames.pop();
      continue;
    }
    const pair: Pair = {
      place: new Place(frame.place, name, order++),
      old: frame.old?.children?.get(name) ?? null,
      new: frame.new?.children?.get(name) ?? null,
    };
    yield pair;
    enter(frames, pair);
  }
}

function enter(frames: Frame[], pair: Pair): void {
  if (pair.old === pair.new) return;
  const names = new Set<string>();
  for (const side of [pair.old, pair.new]) {
    if (side !== null && isDirectory(side)) for (const name of side.children!.keys()) names.add(name);
  }
  if (names.size > 0) frames.push({ ...pair, names: [...names].sort().reverse() });
}
