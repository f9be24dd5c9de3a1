/**
 * `GNU.sparse.*` PAX records: the three ways GNU tar wrote a sparse file
 * (GNU tar manual, "Storing Sparse Files").
 *
 * 0.0: one `offset` and one `numbytes` record a run. 0.1: all runs in `map`.
 * 1.0: `major`, `minor` and `realsize`; the runs stand before the data.
 */

/** Why a record was refused, or null. `unknown`: not a keyword of any version. */
export type SparseProblem = 'limit' | 'malformed' | 'nul' | 'unknown' | null;

export class SparseRecords {
  major = -1;
  minor = -1;
  /** The member's real name, or null. */
  name: string | null = null;
  /** Logical size, bytes; -1 when not given. */
  realSize = -1;
  numBlocks = -1;
  /** Offset, length, offset, length …; null when no record gave a run. */
  pairs: number[] | null = null;
  /** Whether the runs came in a `map`; with `offset` and `numbytes` beside it there would be two. */
  #mapped = false;

  add(keyword: string, value: string, maxRuns: number): SparseProblem {
    switch (keyword) {
      case 'name':
        if (value.includes('\0')) return 'nul';
        this.name = value === '' ? null : value;
        return null;
      case 'map':
        return this.#setMap(value, maxRuns);
      case 'major':
        return (this.major = decimal(value)) < 0 ? 'malformed' : null;
      case 'minor':
        return (this.minor = decimal(value)) < 0 ? 'malformed' : null;
      case 'size':
      case 'realsize':
        return (this.realSize = decimal(value)) < 0 ? 'malformed' : null;
      case 'numblocks':
        return (this.numBlocks = decimal(value)) < 0 ? 'malformed' : null;
      case 'offset':
      case 'numbytes': {
        const number = decimal(value);
        if (number < 0) return 'malformed';
        const pairs = (this.pairs ??= []);
        if (this.#mapped || (pairs.length % 2 === 0) !== (keyword === 'offset')) return 'malformed';
        if (pairs.length >= maxRuns * 2) return 'limit';
        pairs.push(number);
        return null;
      }
      default:
        return 'unknown';
    }
  }

  #setMap(value: string, maxRuns: number): SparseProblem {
    if (this.pairs !== null && !this.#mapped) return 'malformed';
    const pairs: number[] = [];
    let from = 0;
    while (from < value.length) {
      const comma = value.indexOf(',', from);
      const to = comma < 0 ? value.length : comma;
      const number = decimal(value.slice(from, to));
      if (number < 0 || to === value.length - 1) return 'malformed';
      if (pairs.length >= maxRuns * 2) return 'limit';
      pairs.push(number);
      from = to + 1;
    }
    this.pairs = pairs;
    this.#mapped = true;
    return null;
  }

  /** Why the records do not describe a file together, or null. */
  check(): string | null {
    if (this.realSize < 0) return 'its sparse records have no real size';
    if (this.pairs !== null && this.pairs.length % 2 !== 0) return 'its sparse map ends in half a run';
    if (this.mapInPayload) {
      return this.pairs === null ? null : 'it has two sparse maps';
    }
    const stated = this.major >= 0 || this.minor >= 0;
    if (stated && (this.major !== 0 || this.minor < 0 || this.minor > 1))
      return `its sparse format ${this.major}.${this.minor} is not known`;
    const runs = this.pairs === null ? 0 : this.pairs.length / 2;
    if (this.numBlocks >= 0 && this.numBlocks !== runs)
      return 'its sparse map has another number of runs than stated';
    return null;
  }

  /** Version 1.0: the map is the first part of the payload. */
  get mapInPayload(): boolean {
    return this.major === 1 && this.minor === 0;
  }
}

/** Decimal digits only; -1 when `text` is anything else or beyond a safe integer. */
function decimal(text: string): number {
  if (!/^[0-9]{1,20}$/.test(text)) return -1;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : -1;
}
