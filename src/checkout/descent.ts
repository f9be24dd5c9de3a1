/**
 * The way to the directories of a checkout, one descriptor a level: no component is looked up twice, no symlink is
 * followed, and nobody who moves directories about meanwhile leads us out.
 */
import { chmodSync } from 'node:fs';
import type { Place } from '../diff/change.ts';
import type { Folder } from '../sys/folder.ts';
import { statAt } from '../sys/stat.ts';

const OWNER_ALL = 0o700;

interface Level {
  readonly name: string;
  readonly folder: Folder;
  /** Mode to give back, where its owner could not get in or write. */
  mode: number | null;
}

export class Descent {
  readonly #root: Folder;
  readonly #levels: Level[] = [];
  #rootMode: number | null = null;
  readonly #privileged = process.geteuid?.() === 0;

  /** The caller closes `root`. */
  constructor(root: Folder) {
    this.#root = root;
  }

  /**
   * The directory of these names from the root, open until another one is asked for.
   * Throws ENOENT, ENOTDIR, ELOOP of what is no directory there.
   *
   * @param write something will be made or removed in it
   */
  enter(names: readonly string[], { write = false } = {}): Folder {
    let depth = 0;
    while (depth < names.length && this.#levels[depth]?.name === names[depth]) depth++;
    this.#leave(depth);
    for (; depth < names.length; depth++) {
      const name = names[depth]!;
      this.#levels.push(this.#open(this.#top(), name));
    }
    if (write && !this.#privileged) this.#makeWritable();
    return this.#top();
  }

  /** The directory that has the name of `place`. */
  parentOf(place: Place, options: { readonly write?: boolean } = {}): Folder {
    return this.enter(namesTo(place.parent), options);
  }

  /** Gives back the modes that were in the way; the descent can be used on. */
  close(): void {
    this.#leave(0);
    if (this.#rootMode !== null) chmodSync(`/proc/self/fd/${this.#root.fd}`, this.#rootMode);
    this.#rootMode = null;
  }

  #top(): Folder {
    return this.#levels.at(-1)?.folder ?? this.#root;
  }

  #open(parent: Folder, name: string): Level {
    try {
      return { name, folder: parent.enter(name), mode: null };
    } catch (error) {
      if (this.#privileged || (error as NodeJS.ErrnoException).code !== 'EACCES') throw error;
      const mode = modeOf(parent, name);
      chmodSync(parent.at(name), mode | OWNER_ALL);
      return { name, folder: parent.enter(name), mode };
    }
  }

  /** Directories of images may forbid their owner to write. */
  #makeWritable(): void {
    const level = this.#levels.at(-1);
    const { fd } = this.#top();
    const mode = statAt(fd, '')!.mode & 0o7777;
    if ((mode & OWNER_ALL) === OWNER_ALL) return;
    chmodSync(`/proc/self/fd/${fd}`, mode | OWNER_ALL);
    if (level === undefined) this.#rootMode ??= mode;
    else level.mode ??= mode;
  }

  #leave(depth: number): void {
    while (this.#levels.length > depth) {
      const { folder, mode } = this.#levels.pop()!;
      if (mode !== null) chmodSync(`/proc/self/fd/${folder.fd}`, mode);
      folder.close();
    }
  }
}

const modeOf = (parent: Folder, name: string): number => statAt(parent.fd, name)!.mode & 0o7777;

/** Component names from the root. */
export function namesTo(place: Place | null): string[] {
  const names: string[] = [];
  for (let at = place; at !== null && at.parent !== null; at = at.parent) names.push(at.name);
  return names.reverse();
}
