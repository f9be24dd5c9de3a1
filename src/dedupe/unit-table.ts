/** A hash table of units: from a key to the places where such a unit may stand. Typed arrays, no objects. */

/** Of units that are in many places, the first few will do. */
const MAX_CANDIDATES = 4;

export class UnitTable {
  /** Entry number + 1 by hash, 0 for free. */
  #slots = new Int32Array(1 << 12);
  #keys = new Uint32Array(1 << 11);
  #blocks = new Uint32Array(1 << 11);
  #files = new Uint16Array(1 << 11);
  #count = 0;
  readonly #found: number[] = [];

  get count(): number {
    return this.#count;
  }

  add(key: number, file: number, block: number): void {
    if (this.#count === this.#keys.length) this.#grow();
    const entry = this.#count++;
    this.#keys[entry] = key;
    this.#blocks[entry] = block;
    this.#files[entry] = file;
    this.#place(entry);
  }

  /** Entries with this key, at most {@link MAX_CANDIDATES}; the list is good until the next call. */
  find(key: number): readonly number[] {
    const found = this.#found;
    found.length = 0;
    const mask = this.#slots.length - 1;
    for (let slot = key & mask; ; slot = (slot + 1) & mask) {
      const entry = this.#slots[slot]! - 1;
      if (entry < 0) return found;
      if (this.#keys[entry] !== key) continue;
      found.push(entry);
      if (found.length === MAX_CANDIDATES) return found;
    }
  }

  file(entry: number): number {
    return this.#files[entry]!;
  }

  block(entry: number): number {
    return this.#blocks[entry]!;
  }

  #place(entry: number): void {
    const mask = this.#slots.length - 1;
    const key = this.#keys[entry]!;
    let slot = key & mask;
    for (let same = 0; this.#slots[slot] !== 0; slot = (slot + 1) & mask) {
      // never looked at: without this, a million equal units would be a million steps each
      if (this.#keys[this.#slots[slot]! - 1] === key && ++same === MAX_CANDIDATES) return;
    }
    this.#slots[slot] = entry + 1;
  }

  #grow(): void {
    const length = this.#keys.length * 2;
    const larger = <T extends Uint32Array | Uint16Array>(to: T, from: T): T => {
      to.set(from);
      return to;
    };
    this.#keys = larger(new Uint32Array(length), this.#keys);
    this.#blocks = larger(new Uint32Array(length), this.#blocks);
    this.#files = larger(new Uint16Array(length), this.#files);
    this.#slots = new Int32Array(length * 2);
    for (let entry = 0; entry < this.#count; entry++) this.#place(entry);
  }
}
