/**
 * What changed from one tree to another, from metadata as far as that goes. Memory grows with the number of names,
 * never with their data.
 */
import { S_IFMT, S_IFREG, type TreeNode } from '../tree/node.ts';
import { countLinks } from '../tree/walk.ts';
import {
  type Change,
  type ChangeKind,
  compareNodes,
  type Difference,
  isDirectory,
  type Place,
} from './change.ts';
import { Contents, type DiffSide } from './content.ts';
import { LinkGroups, type Survivor } from './links.ts';
import { findRenames, type Single } from './renames.ts';
import { walkPairs } from './walk.ts';

export interface DiffOptions {
  readonly signal?: AbortSignal;
  /** Are modification times compared? Default: yes. */
  readonly times?: boolean;
  /** Is what moved told as renamed? Otherwise as removed and added. Default: yes. */
  readonly renames?: boolean;
}

/**
 * The changes in the order of a walk through both trees: depth-first, names of one directory sorted as bytes; what was
 * renamed stands under its new name. Carried out on the old tree they give the new one. Throws what reading throws,
 * and the signal's reason.
 */
export async function diffTrees(
  oldSide: DiffSide,
  newSide: DiffSide,
  options: DiffOptions = {},
): Promise<Change[]> {
  const diff = new Diff(oldSide, newSide, options);
  return diff.run();
}

/** A change while it is found out. */
interface Draft extends Survivor {
  readonly kind: ChangeKind;
  readonly from: Place | null;
  readonly differs: readonly Difference[];
  readonly names: number;
}

class Diff {
  readonly #old: DiffSide;
  readonly #new: DiffSide;
  readonly #times: boolean;
  readonly #renames: boolean;
  /** Link counts below the roots: what has one name there is in no group. */
  readonly #oldLinks: ReadonlyMap<TreeNode, number>;
  readonly #newLinks: ReadonlyMap<TreeNode, number>;
  readonly #contents: Contents;
  readonly #removed: Single[] = [];
  readonly #added: Single[] = [];
  /** Names in place whose type changed: other inodes, so they are links as new names are. */
  readonly #replaced: Draft[] = [];
  readonly #drafts: Draft[] = [];
  /** Of these the inode has several names in either tree. */
  readonly #survivors: Draft[] = [];
  /** Same pair of inodes under many names: compared once. */
  readonly #compared = new Map<TreeNode, { readonly now: TreeNode; readonly same: boolean }>();

  constructor(oldSide: DiffSide, newSide: DiffSide, options: DiffOptions) {
    this.#old = oldSide;
    this.#new = newSide;
    this.#times = options.times ?? true;
    this.#renames = options.renames ?? true;
    this.#oldLinks = linksBelow(oldSide.root);
    this.#newLinks = linksBelow(newSide.root);
    this.#contents = new Contents(options.signal);
  }

  async run(): Promise<Change[]> {
    for (const { place, old, new: now } of walkPairs(this.#old.root, this.#new.root)) {
      if (now === null) this.#removed.push({ place, node: old! });
      else if (old === null) this.#added.push({ place, node: now });
      else await this.#compare(place, old, now);
    }
    const gone = new Set<Place>();
    const came = new Set<Place>();
    if (this.#renames) await this.#rename(gone, came);
    const removed = this.#removed.filter(({ place }) => !gone.has(place));
    const added = this.#added.filter(({ place }) => !came.has(place));
    const changes = this.#settleLinks(added);
    for (const { place, node } of removed) changes.push(single('removed', place, node, null));
    // A name is in one list only, so this order is total.
    return changes.sort((a, b) => a.place.order - b.place.order);
  }

  async #compare(place: Place, old: TreeNode, now: TreeNode): Promise<void> {
    const differs = compareNodes(old, now, this.#times);
    const isRegular = (old.mode & S_IFMT) === S_IFREG && (now.mode & S_IFMT) === S_IFREG;
    if (isRegular && !(await this.#sameContent(old, now))) differs.unshift('content');
    const draft: Draft = { kind: kindOf(differs), place, from: null, old, new: now, differs, names: 1 };
    if (draft.kind === 'type') this.#replaced.push(draft);
    else this.#survives(draft);
  }

  /** Keeps what is a change already, or may become one when it is known which names are hard links of each other. */
  #survives(draft: Draft): void {
    const linked = (this.#oldLinks.get(draft.old) ?? 1) > 1 || (this.#newLinks.get(draft.new) ?? 1) > 1;
    if (linked && !isDirectory(draft.new)) this.#survivors.push(draft);
    else if (draft.differs.length > 0 || draft.from !== null) this.#drafts.push(draft);
  }

  async #sameContent(old: TreeNode, now: TreeNode): Promise<boolean> {
    const known = this.#compared.get(now);
    if (known?.now === old) return known.same;
    const same = await this.#contents.same(this.#old, old, this.#new, now);
    if ((this.#newLinks.get(now) ?? 1) > 1) this.#compared.set(now, { now: old, same });
    return same;
  }

  async #rename(gone: Set<Place>, came: Set<Place>): Promise<void> {
    const sides = { old: this.#old, new: this.#new };
    const renames = await findRenames(this.#removed, this.#added, sides, this.#contents, this.#times);
    for (const rename of renames) {
      for (let i = 0; i < rename.names; i++) {
        const { place: from, node: old } = this.#removed[rename.old + i]!;
        const { place, node: now } = this.#added[rename.new + i]!;
        gone.add(from);
        came.add(place);
        // What moved with its directory is the same but for its links.
        if (i > 0) this.#survives({ ...MOVED_ALONG, place, old, new: now });
        else {
          const differs = compareNodes(old, now, this.#times);
          this.#survives({ kind: 'renamed', place, from, old, new: now, differs, names: rename.names });
        }
      }
    }
  }

  /** Only now it is known which names survived. */
  #settleLinks(added: readonly Single[]): Change[] {
    this.#survivors.sort((a, b) => a.place.order - b.place.order);
    const groups = new LinkGroups(this.#survivors);
    const changes: Change[] = this.#drafts.map((draft) => ({ ...draft, link: null }));
    for (const draft of this.#survivors) {
      const regrouped = groups.changed(draft);
      const differs = regrouped ? [...draft.differs, 'links' as const] : draft.differs;
      if (differs.length === 0 && draft.from === null) continue;
      changes.push({ ...draft, differs, link: regrouped ? groups.of(draft) : null });
    }
    const fresh = [
      ...added.map(({ place, node }) => ({ place, node, draft: null })),
      ...this.#replaced.map((draft) => ({ place: draft.place, node: draft.new, draft })),
    ].sort((a, b) => a.place.order - b.place.order);
    for (const { place, node, draft } of fresh) {
      const link = isDirectory(node) ? null : groups.ofAdded(place, node);
      changes.push(draft === null ? single('added', place, node, link) : { ...draft, link });
    }
    return changes;
  }
}

const linksBelow = (root: TreeNode): ReadonlyMap<TreeNode, number> =>
  isDirectory(root) ? countLinks({ root }) : new Map();

/** What all names below a moved directory are, unless their links say otherwise. */
const MOVED_ALONG = { kind: 'attributes', from: null, differs: [], names: 1 } as const;

function kindOf(differs: readonly Difference[]): ChangeKind {
  if (differs.includes('type')) return 'type';
  const data = differs.some((what) => what === 'content' || what === 'target' || what === 'device');
  return data ? 'changed' : 'attributes';
}

function single(kind: 'added' | 'removed', place: Place, node: TreeNode, link: Place | null): Change {
  const old = kind === 'removed' ? node : null;
  const now = kind === 'added' ? node : null;
  return { kind, place, from: null, old, new: now, differs: [], link, names: 1 };
}
