/** The ops of a delta in the order of its target, each checked against the sizes that its header says. */
import type { ByteSource } from '../bytes/io.ts';
import { ColumnReader } from './column-reader.ts';
import {
  COLUMNS,
  type ColumnName,
  corruptDelta,
  type DeltaHeader,
  OP_COPY,
  OP_LITERAL,
  OP_PATCH,
  readHeader,
} from './format.ts';

/** One run of the target. The same object again and again: it is good until the next. */
export interface DeltaOp {
  kind: typeof OP_COPY | typeof OP_PATCH | typeof OP_LITERAL;
  /** Bytes, > 0. */
  length: number;
  /** Index of the source and offset in it; of a literal both are 0. */
  source: number;
  at: number;
}

/** A delta being read, from the first op to the last. */
export class DeltaReader {
  readonly header: DeltaHeader;
  readonly #columns: Record<ColumnName, ColumnReader>;
  readonly #starts: readonly number[];
  readonly #op: DeltaOp = { kind: OP_COPY, length: 0, source: 0, at: 0 };
  #done = 0;
  #expected = 0;

  /** Throws `delta/corrupt`, `delta/unsupported`. */
  constructor(delta: ByteSource) {
    this.header = readHeader((offset, length) => delta.read(offset, length), delta.size);
    const columns = COLUMNS.map((name) => [name, new ColumnReader(delta, name, this.header.columns[name])]);
    this.#columns = Object.fromEntries(columns) as Record<ColumnName, ColumnReader>;
    let start = 0;
    this.#starts = this.header.sources.map(({ size }) => {
      start += size;
      return start - size;
    });
  }

  /**
   * The next op, or null at the end of the target. Behind a PATCH its changes are to be taken with {@link gap} and
   * {@link change}, behind a LITERAL its bytes with {@link literal}; all of them, before the next op.
   */
  next(): DeltaOp | null {
    const { target } = this.header;
    if (this.#done === target.size) {
      for (const name of COLUMNS) this.#columns[name].finish();
      return null;
    }
    const op = this.#op;
    const word = this.#columns.ops.varint();
    const kind = word % 4;
    op.length = Math.floor(word / 4);
    if (op.length === 0 || op.length > target.size - this.#done)
      throw corruptDelta(`an op of ${op.length} bytes at ${this.#done} does not fit into its target`);
    this.#done += op.length;
    if (kind === OP_LITERAL) {
      op.kind = OP_LITERAL;
      op.source = 0;
      op.at = 0;
      return op;
    }
    if (kind !== OP_COPY && kind !== OP_PATCH) throw corruptDelta(`it has an op of the unknown kind ${kind}`);
    op.kind = kind;
    this.#locate(op);
    return op;
  }

  /** Bytes of a PATCH that stay, before the next one that does not. */
  gap(): number {
    return this.#columns.gaps.varint();
  }

  /** What is added to a byte of the source, modulo 256. */
  change(): number {
    return this.#columns.changes.byte();
  }

  /** For those who take what {@link gap} and {@link change} give, and many at a time. */
  get changed(): { readonly gaps: ColumnReader; readonly changes: ColumnReader } {
    return this.#columns;
  }

  /** Bytes of a LITERAL, into `target`. */
  literal(target: Buffer, start: number, end: number): void {
    this.#columns.literals.copy(target, start, end);
  }

  /** Bytes of a column that were taken so far, as they are when decompressed. */
  used(name: ColumnName): number {
    return this.#columns[name].used;
  }

  close(): void {
    for (const name of COLUMNS) this.#columns[name].close();
  }

  #locate(op: DeltaOp): void {
    const address = this.#expected + this.#columns.addresses.signed();
    const starts = this.#starts;
    let source = op.source;
    const inside = (index: number): boolean =>
      index < starts.length &&
      address >= starts[index]! &&
      address < starts[index]! + this.header.sources[index]!.size;
    if (!inside(source)) source = starts.findIndex((_, index) => inside(index));
    const at = source < 0 ? -1 : address - starts[source]!;
    if (at < 0 || op.length > this.header.sources[source]!.size - at)
      throw corruptDelta(`an op takes ${op.length} bytes at ${address}, where no source has them`);
    op.source = source;
    op.at = at;
    this.#expected = address + op.length;
  }
}
