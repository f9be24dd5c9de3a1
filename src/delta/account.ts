/** What the bytes of a delta are spent on. */
import type { ByteSource } from '../bytes/io.ts';
import { COLUMNS, type ColumnName, corruptDelta, OP_COPY, OP_LITERAL } from './format.ts';
import { DeltaReader } from './read-ops.ts';

/** A stretch of the target, such as a member of the tar. */
export interface Stretch {
  readonly start: number;
  readonly end: number;
}

/** Bytes of a stretch of the target, by where they come from. */
export interface Spending {
  /** As they are in a source. */
  copied: number;
  /** In a source with changes: how many stayed, and how many were changed. */
  patched: number;
  changed: number;
  /** In the delta. */
  literal: number;
  /** Bytes of the delta: its share of each compressed column, by the length before compression. */
  cost: number;
}

/**
 * One account a stretch, and a last one for all that is in none. Stretches are in order and do not overlap. Reads the
 * delta alone, not its sources. Throws `delta/corrupt`.
 */
export function accountDelta(delta: ByteSource, stretches: readonly Stretch[]): Spending[] {
  const reader = new DeltaReader(delta);
  try {
    return new Accountant(reader, stretches).run();
  } finally {
    reader.close();
  }
}

const LITERAL_PIECE = Buffer.allocUnsafeSlow(1 << 16);

class Accountant {
  readonly #reader: DeltaReader;
  readonly #stretches: readonly Stretch[];
  readonly #accounts: Spending[];
  readonly #price: Record<ColumnName, number>;
  #at = 0;
  #current = 0;

  constructor(reader: DeltaReader, stretches: readonly Stretch[]) {
    this.#reader = reader;
    this.#stretches = stretches;
    this.#accounts = Array.from({ length: stretches.length + 1 }, () => ({
      copied: 0,
      patched: 0,
      changed: 0,
      literal: 0,
      cost: 0,
    }));
    const prices = COLUMNS.map((name) => {
      const { rawSize, size } = reader.header.columns[name];
      return [name, rawSize === 0 ? 0 : size / rawSize];
    });
    this.#price = Object.fromEntries(prices) as Record<ColumnName, number>;
  }

  run(): Spending[] {
    const reader = this.#reader;
    let ops = reader.used('ops');
    let addresses = reader.used('addresses');
    for (let op = reader.next(); op !== null; op = reader.next()) {
      const account = this.#account();
      account.cost += (reader.used('ops') - ops) * this.#price.ops;
      account.cost += (reader.used('addresses') - addresses) * this.#price.addresses;
      ops = reader.used('ops');
      addresses = reader.used('addresses');
      const end = this.#at + op.length;
      if (op.kind === OP_COPY) this.#spread(end, 'copied', 0);
      else if (op.kind === OP_LITERAL) this.#literal(end);
      else this.#patch(end);
    }
    return this.#accounts;
  }

  #literal(end: number): void {
    for (let left = end - this.#at; left > 0; left -= LITERAL_PIECE.length) {
      this.#reader.literal(LITERAL_PIECE, 0, Math.min(left, LITERAL_PIECE.length));
    }
    this.#spread(end, 'literal', this.#price.literals);
  }

  #patch(end: number): void {
    const reader = this.#reader;
    while (this.#at < end) {
      const before = reader.used('gaps');
      const gap = reader.gap();
      const spent = (reader.used('gaps') - before) * this.#price.gaps;
      if (gap > end - this.#at) throw corruptDelta('a change stands behind the run that it belongs to');
      this.#spread(this.#at + gap, 'patched', 0);
      this.#account().cost += spent;
      if (this.#at === end) break;
      reader.change();
      this.#spread(this.#at + 1, 'changed', this.#price.changes);
    }
  }

  /** Goes on to `end`; each stretch gets its part. */
  #spread(end: number, what: 'copied' | 'patched' | 'changed' | 'literal', price: number): void {
    while (this.#at < end) {
      const account = this.#account();
      const next =
        this.#accounts.length - 1 === this.#index() ? this.#nextStart() : this.#stretches[this.#current]!.end;
      const bytes = Math.min(end, next) - this.#at;
      account[what] += bytes;
      account.cost += bytes * price;
      this.#at += bytes;
    }
  }

  #account(): Spending {
    return this.#accounts[this.#index()]!;
  }

  /** The stretch that the next byte is in; the last account outside of all. */
  #index(): number {
    const stretches = this.#stretches;
    while (this.#current < stretches.length && stretches[this.#current]!.end <= this.#at) this.#current++;
    const current = stretches[this.#current];
    return current !== undefined && current.start <= this.#at ? this.#current : stretches.length;
  }

  #nextStart(): number {
    return this.#stretches[this.#current]?.start ?? Number.POSITIVE_INFINITY;
  }
}
