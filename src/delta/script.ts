/** How a stretch of the target is put together, before it has its place among the ops of the whole. */
import { OP_COPY, OP_LITERAL, OP_PATCH, VarintBuffer } from './format.ts';

/** Numbers of one record: kind, length, address, and of a patch: first gap, bytes behind its last change, bytes of the gaps between, changes. */
export const RECORD = 7;

export interface Script {
  /** {@link RECORD} numbers each. */
  readonly records: Float64Array;
  /** The gaps of patches as varints, without the first and the last of each. */
  readonly gaps: Buffer;
  readonly changes: Buffer;
  readonly literals: Buffer;
}

/** Collects runs in the order of the target; those that continue one another become one record. */
export class ScriptWriter {
  #records = new Float64Array(16 * RECORD);
  #count = 0;
  #gaps = new VarintBuffer(256);
  #changes = new VarintBuffer(256);
  #literals = new VarintBuffer(256);
  #start = 0;
  #length = 0;
  #firstGap = -1;
  #tail = 0;
  #gapsFrom = 0;
  #changesFrom = 0;
  #literal = 0;
  readonly #starts: ReadonlySet<number>;

  /** `starts`: the addresses at which sources begin; no run reaches from one source into the next. */
  constructor(starts: ReadonlySet<number>) {
    this.#starts = starts;
  }

  /** `length` bytes as they stand at `address`. */
  copy(address: number, length: number): void {
    if (length === 0) return;
    this.#goTo(address);
    this.#length += length;
    this.#tail += length;
  }

  /** One byte: that at `address` and `difference`, modulo 256. */
  change(address: number, difference: number): void {
    this.#goTo(address);
    if (this.#firstGap < 0) this.#firstGap = this.#tail;
    else this.#gaps.put(this.#tail);
    this.#changes.putByte(difference & 0xff);
    this.#tail = 0;
    this.#length++;
  }

  /** Bytes of its own. */
  literal(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#flushRun();
    this.#literals.putBytes(bytes);
    this.#literal += bytes.length;
  }

  /** `now` from `start` to `end`, as changes of `old`, whose byte 0 stands at `address`; `shift` leads from now to old. */
  patch(now: Uint8Array, start: number, end: number, old: Uint8Array, shift: number, address: number): void {
    const words = new DataView(now.buffer, now.byteOffset, now.byteLength);
    const oldWords = new DataView(old.buffer, old.byteOffset, old.byteLength);
    for (let at = start; at < end; ) {
      const from = at;
      while (at + 4 <= end && words.getInt32(at) === oldWords.getInt32(at + shift)) at += 4;
      while (at < end && now[at] === old[at + shift]) at++;
      this.copy(address + from + shift, at - from);
      for (; at < end && now[at] !== old[at + shift]; at++)
        this.change(address + at + shift, now[at]! - old[at + shift]!);
    }
  }

  /** Bytes that it holds, about. */
  get size(): number {
    return this.#count * RECORD * 8 + this.#gaps.length + this.#changes.length + this.#literals.length;
  }

  /** What was collected; it begins anew behind that. */
  take(): Script {
    this.#flushRun();
    this.#flushLiteral();
    const script = {
      records: this.#records.slice(0, this.#count * RECORD),
      gaps: this.#gaps.filled(),
      changes: this.#changes.filled(),
      literals: this.#literals.filled(),
    };
    this.#count = 0;
    this.#gaps = new VarintBuffer(256);
    this.#changes = new VarintBuffer(256);
    this.#literals = new VarintBuffer(256);
    this.#gapsFrom = 0;
    this.#changesFrom = 0;
    return script;
  }

  #goTo(address: number): void {
    if (this.#length > 0 && address === this.#start + this.#length && !this.#starts.has(address)) return;
    this.#flushRun();
    this.#flushLiteral();
    this.#start = address;
  }

  #flushRun(): void {
    if (this.#length === 0) return;
    if (this.#firstGap < 0) {
      this.#record(OP_COPY, this.#length, this.#start, 0, 0, 0, 0);
    } else {
      const gaps = this.#gaps.length - this.#gapsFrom;
      const changes = this.#changes.length - this.#changesFrom;
      this.#record(OP_PATCH, this.#length, this.#start, this.#firstGap, this.#tail, gaps, changes);
      this.#gapsFrom = this.#gaps.length;
      this.#changesFrom = this.#changes.length;
    }
    this.#length = 0;
    this.#firstGap = -1;
    this.#tail = 0;
  }

  #flushLiteral(): void {
    if (this.#literal === 0) return;
    this.#record(OP_LITERAL, this.#literal, 0, 0, 0, 0, 0);
    this.#literal = 0;
  }

  #record(
    kind: number,
    length: number,
    address: number,
    firstGap: number,
    tail: number,
    gaps: number,
    changes: number,
  ): void {
    let at = this.#count++ * RECORD;
    if (at === this.#records.length) {
      const grown = new Float64Array(at * 2);
      grown.set(this.#records);
      this.#records = grown;
    }
    const records = this.#records;
    records[at++] = kind;
    records[at++] = length;
    records[at++] = address;
    records[at++] = firstGap;
    records[at++] = tail;
    records[at++] = gaps;
    records[at] = changes;
  }
}
