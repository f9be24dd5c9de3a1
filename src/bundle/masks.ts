/** Paths of which nothing counts, nor of what is below them. */
import { cleanPath } from '../tree/path.ts';

export class Masks {
  readonly #masks: ReadonlySet<string>;

  /** Byte strings from the root. */
  constructor(paths: readonly string[]) {
    this.#masks = new Set(paths.map((path) => cleanPath(path).join('/')));
  }

  /** Whether a path is one of these, or below one. */
  readonly has = (path: string): boolean => {
    if (this.#masks.size === 0) return false;
    for (let at = path; at !== ''; at = at.slice(0, Math.max(at.lastIndexOf('/'), 0)))
      if (this.#masks.has(at)) return true;
    return false;
  };

  /** Whether one of these is below a path. */
  readonly hasBelow = (path: string): boolean =>
    [...this.#masks].some((mask) => mask.startsWith(path === '' ? '' : `${path}/`));
}
