/**
 * Hard links. Names that both trees have (moved ones too) are in the same groups in both, or something changed; a new
 * name of an inode that others have too is a link to one of them. The first name speaks for its group.
 */
import type { TreeNode } from '../tree/node.ts';
import type { Place } from './change.ts';

/** A name that was there before and is there now. */
export interface Survivor {
  /** In the new tree. */
  readonly place: Place;
  readonly old: TreeNode;
  readonly new: TreeNode;
}

export class LinkGroups {
  readonly #firstOld = new Map<TreeNode, Place>();
  readonly #firstNew = new Map<TreeNode, Place>();
  /** First of the names that are all new. */
  readonly #firstAdded = new Map<TreeNode, Place>();

  /** All names that survive and whose inode has more names in either tree, in the order of the new tree. */
  constructor(survivors: readonly Survivor[]) {
    for (const { place, old, new: now } of survivors) {
      if (!this.#firstOld.has(old)) this.#firstOld.set(old, place);
      if (!this.#firstNew.has(now)) this.#firstNew.set(now, place);
    }
  }

  /** Does this name belong with others than before? */
  changed({ old, new: now }: Survivor): boolean {
    return this.#firstOld.get(old) !== this.#firstNew.get(now);
  }

  /** What a surviving name is a link to now; null when it speaks for its group. */
  of({ place, new: now }: Survivor): Place | null {
    const first = this.#firstNew.get(now)!;
    return first === place ? null : first;
  }

  /** What a new name is a link to; null when it is the first of its inode. To be asked in the order of the new tree. */
  ofAdded(place: Place, now: TreeNode): Place | null {
    const first = this.#firstNew.get(now) ?? this.#firstAdded.get(now);
    if (first === undefined) this.#firstAdded.set(now, place);
    return first ?? null;
  }
}
