/** Scripts, in the order of the target, to the columns of a delta. */
import { OP_COPY, OP_LITERAL, OP_PATCH, VarintBuffer } from './format.ts';
import { RECORD, type Script } from './script.ts';

export class OpEncoder {
  readonly ops = new VarintBuffer();
  readonly addresses = new VarintBuffer();
  readonly gaps = new VarintBuffer();
  readonly changes = new VarintBuffer();
  readonly literals = new VarintBuffer();
  readonly #starts: ReadonlySet<number>;
  /** The run that is being collected: where it begins among the sources, its bytes, whether any were changed. */
  #start = 0;
  #length = 0;
  #changed = false;
  /** Bytes of it behind the last change. */
  #tail = 0;
  #literal = 0;
  /** Address behind the last run written. */
  #expected = 0;

  /** `starts`: the addresses at which sources begin; no op reaches from one source into the next. */
  constructor(starts: ReadonlySet<number>) {
    this.#starts = starts;
  }

  add({ records, gaps, changes, literals }: Script): void {
    let gapsAt = 0;
    let changesAt = 0;
    let literalsAt = 0;
    for (let at = 0; at < records.length; at += RECORD) {
      const length = records[at + 1]!;
      if (records[at] === OP_LITERAL) {
        this.#flushRun();
        this.literals.putBytes(literals.subarray(literalsAt, (literalsAt += length)));
        this.#literal += length;
        continue;
      }
      this.#goTo(records[at + 2]!);
      if (records[at] === OP_PATCH) {
        this.gaps.put(this.#tail + records[at + 3]!);
        this.gaps.putBytes(gaps.subarray(gapsAt, (gapsAt += records[at + 5]!)));
        this.changes.putBytes(changes.subarray(changesAt, (changesAt += records[at + 6]!)));
        this.#changed = true;
        this.#tail = records[at + 4]!;
      } else {
        this.#tail += length;
      }
      this.#length += length;
    }
  }

  finish(): void {
    this.#flushRun();
    this.#flushLiteral();
  }

  #goTo(address: number): void {
    if (this.#length > 0 && address === this.#start + this.#length && !this.#starts.has(address)) return;
    this.#flushRun();
    this.#flushLiteral();
    this.#start = address;
  }

  #flushRun(): void {
    if (this.#length === 0) return;
    this.ops.put(this.#length * 4 + (this.#changed ? OP_PATCH : OP_COPY));
    this.addresses.putSigned(this.#start - this.#expected);
    if (this.#changed && this.#tail > 0) this.gaps.put(this.#tail);
    this.#expected = this.#start + this.#length;
    this.#length = 0;
    this.#tail = 0;
    this.#changed = false;
  }

  #flushLiteral(): void {
    if (this.#literal === 0) return;
    this.ops.put(this.#literal * 4 + OP_LITERAL);
    this.#literal = 0;
  }
}
