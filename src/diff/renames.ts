/**
 * Renames: what was removed here and added there with the same content. Directories that moved with all that is in
 * them first, the topmost ones; then single files. Only files whose size occurs on both sides are hashed.
 */
import { S_IFMT, S_IFREG, type TreeNode } from '../tree/node.ts';
import { isDirectory, type Place } from './change.ts';
import type { Contents, DiffSide } from './content.ts';

/** A name that only one of the trees has. */
export interface Single {
  readonly place: Place;
  readonly node: TreeNode;
}

/** `removed[old + i]` became `added[new + i]`, for `i` below `names`. */
export interface Rename {
  readonly old: number;
  readonly new: number;
  readonly names: number;
}

/** Both lists are in the order of the walk. One rename at most for every name. */
export async function findRenames(
  removed: readonly Single[],
  added: readonly Single[],
  sides: { readonly old: DiffSide; readonly new: DiffSide },
  contents: Contents,
  times: boolean,
): Promise<Rename[]> {
  const sizes = commonSizes(removed, added);
  if (sizes.size === 0) return [];
  const tokens = new Tokens();
  const before = await describe(removed, sides.old, sizes, contents, tokens, times);
  const after = await describe(added, sides.new, sizes, contents, tokens, times);
  const renames: Rename[] = [];
  const take = (old: number, to: number, names: number): void => {
    renames.push({ old, new: to, names });
    before.taken.fill(1, old, old + names);
    after.taken.fill(1, to, to + names);
  };
  matchDirectories(before, after, take);
  matchFiles(before, after, take);
  return renames;
}

/** Sizes of regular files that occur on both sides; empty files are all alike, so they say nothing. */
function commonSizes(removed: readonly Single[], added: readonly Single[]): Set<number> {
  const sizes = new Set<number>();
  for (const { node } of removed) if (isRegular(node) && node.size > 0) sizes.add(node.size);
  const common = new Set<number>();
  for (const { node } of added) if (isRegular(node) && sizes.has(node.size)) common.add(node.size);
  return common;
}

const isRegular = (node: TreeNode): boolean => (node.mode & S_IFMT) === S_IFREG;

/** Numbers for texts: equal for equal texts, small to keep. */
class Tokens {
  readonly #numbers = new Map<string, number>();
  #next = 0;

  of(text: string): number {
    let number = this.#numbers.get(text);
    if (number === undefined) this.#numbers.set(text, (number = this.#next++));
    return number;
  }

  /** Like no other. */
  unique(): number {
    return this.#next++;
  }
}

/** What is known of every name of one side, by its index. */
interface Described {
  readonly singles: readonly Single[];
  /** Equal for equal data: a file's bytes, all that is in a directory. */
  readonly data: Float64Array;
  /** Names below it and itself; they stand behind it without a gap. */
  readonly names: Uint32Array;
  /** Holds a file with bytes, or is one: what else is alike is no sign of a move. */
  readonly telling: Uint8Array;
  readonly taken: Uint8Array;
}

async function describe(
  singles: readonly Single[],
  side: DiffSide,
  sizes: ReadonlySet<number>,
  contents: Contents,
  tokens: Tokens,
  times: boolean,
): Promise<Described> {
  const count = singles.length;
  const described: Described = {
    singles,
    data: new Float64Array(count),
    names: new Uint32Array(count).fill(1),
    telling: new Uint8Array(count),
    taken: new Uint8Array(count),
  };
  /** What is in the directories whose turn comes: in reverse, a directory comes after all that is in it. */
  const inside = new Map<Place, { words: string[]; names: number; telling: boolean }>();
  for (let i = count - 1; i >= 0; i--) {
    const { place, node } = singles[i]!;
    if (isDirectory(node)) {
      const own = inside.get(place);
      inside.delete(place);
      described.data[i] = tokens.of(`d${own?.words.join('/') ?? ''}`);
      described.names[i] = 1 + (own?.names ?? 0);
      described.telling[i] = own?.telling ? 1 : 0;
    } else if (!isRegular(node) || node.size === 0) {
      described.data[i] = tokens.of(`n${node.devMajor}:${node.devMinor}:${node.target}`);
    } else if (sizes.has(node.size)) {
      described.data[i] = tokens.of(`f${await contents.key(side, node)}`);
      described.telling[i] = 1;
    } else {
      described.data[i] = tokens.unique();
    }
    if (place.parent === null) continue;
    let parent = inside.get(place.parent);
    if (parent === undefined) inside.set(place.parent, (parent = { words: [], names: 0, telling: false }));
    parent.words.push(`${place.name}/${tokens.of(attributes(node, times))}/${described.data[i]}`);
    parent.names += described.names[i]!;
    parent.telling ||= described.telling[i] === 1;
  }
  return described;
}

function attributes(node: TreeNode, times: boolean): string {
  const { mode, uid, gid, mtime, mtimeNsec, xattrs } = node;
  const time = times ? `${mtime}.${mtimeNsec}` : '';
  return `a${mode} ${uid} ${gid} ${time} ${xattrs === null ? '' : JSON.stringify([...xattrs].sort())}`;
}

type Take = (old: number, to: number, names: number) => void;

/** A directory keeps its name more often than not; whatever matches is taken otherwise. The topmost come first. */
function matchDirectories(before: Described, after: Described, take: Take): void {
  const wanted = (side: Described, i: number): boolean =>
    side.telling[i] === 1 && isDirectory(side.singles[i]!.node);
  const named = new Queues(after, wanted, true);
  const any = new Queues(after, wanted, false);
  for (let i = 0; i < before.singles.length; i++) {
    if (before.taken[i] === 1 || !wanted(before, i)) continue;
    const found = named.next(before, i) ?? any.next(before, i);
    if (found !== null) take(i, found, before.names[i]!);
  }
}

/** All that kept their names first: none of them may go to a file that lost its own. */
function matchFiles(before: Described, after: Described, take: Take): void {
  const wanted = (side: Described, i: number): boolean =>
    side.telling[i] === 1 && isRegular(side.singles[i]!.node);
  for (const byName of [true, false]) {
    const queues = new Queues(after, wanted, byName);
    for (let i = 0; i < before.singles.length; i++) {
      if (before.taken[i] === 1 || !wanted(before, i)) continue;
      const found = queues.next(before, i);
      if (found !== null) take(i, found, 1);
    }
  }
}

/** The new names that something may have become, in order. */
class Queues {
  readonly #side: Described;
  readonly #byName: boolean;
  readonly #queues = new Map<string, { readonly indexes: number[]; at: number }>();

  constructor(side: Described, wanted: (side: Described, i: number) => boolean, byName: boolean) {
    this.#side = side;
    this.#byName = byName;
    for (let i = 0; i < side.singles.length; i++) {
      if (!wanted(side, i)) continue;
      const key = this.#key(side, i);
      const queue = this.#queues.get(key);
      if (queue === undefined) this.#queues.set(key, { indexes: [i], at: 0 });
      else queue.indexes.push(i);
    }
  }

  /** The first that equals name `i` of the other side and is not taken; null when there is none. */
  next(other: Described, i: number): number | null {
    const queue = this.#queues.get(this.#key(other, i));
    if (queue === undefined) return null;
    while (queue.at < queue.indexes.length && this.#side.taken[queue.indexes[queue.at]!] === 1) queue.at++;
    return queue.indexes[queue.at] ?? null;
  }

  #key({ data, singles }: Described, i: number): string {
    return this.#byName ? `${data[i]}/${singles[i]!.place.name}` : String(data[i]);
  }
}
