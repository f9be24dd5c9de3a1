/**
 * Inflating with Intel's ISA-L (libisal.so.2, Debian's package libisal2) where it is installed: about two and a half
 * times as fast as zlib, and inflating is most of what a pull does. containerd takes the same library's igzip for that.
 *
 * Its state is a struct of ours to hold (`struct inflate_state` of igzip_lib.h). Only the fields in {@link STATE} are
 * touched here. Should another release of the library lay it out otherwise, the probe finds out before the first use.
 */
import { promisify } from 'node:util';
import { crc32, gzipSync } from 'node:zlib';
import {
  corrupt,
  type Inflater,
  type MakeInflater,
  makeInflater,
  PIECE,
  type SyncInflater,
} from '../compress/inflater.ts';
import { loadLibrary, type Pointer } from './libc.ts';

/** Offsets in `struct inflate_state`, ISA-L 2.19 to 2.31, 64-bit. Pointers are 8 bytes, the others 4. */
const STATE = {
  next_out: 0,
  avail_out: 8,
  next_in: 16,
  avail_in: 32,
  /** `enum isal_block_state`, behind the two Huffman tables. */
  block_state: 21160,
  crc_flag: 21172,
} as const;
/** The struct has 87,368 bytes in 2.30; the rest is for what later releases add. */
const STATE_BYTES = 128 << 10;
/** `enum isal_block_state`: all data is out and the trailer is checked. */
const ISAL_BLOCK_FINISH = 5;
/** `crc_flag`: the library parses the gzip header and checks the trailer. */
const ISAL_GZIP = 1;
/**
 * Header flags (RFC 1952, 2.3.1) of members that are zlib's, as are those of which not even the flags are there yet.
 * FHCRC, the header has a checksum: ISA-L 2.30 takes it for wrong when the header comes in pieces. The reserved ones:
 * ISA-L does not mind them, and a decompressor has to.
 */
const FOR_ZLIB = 0b1110_0010;
/** What isal_inflate returns, igzip_lib.h. */
const REASONS: Readonly<Record<number, string>> = {
  '-1': 'invalid block',
  '-2': 'invalid symbol',
  '-3': 'invalid distance too far back',
  '-4': 'incorrect header check',
  '-5': 'unknown compression method',
  '-6': 'incorrect data check',
};

/** Pieces that are inflated ahead: large, because each wakes a thread. */
const AHEAD_PIECE = 1 << 20;
const NOTHING = Buffer.alloc(0);

interface Isal {
  init(state: Pointer): void;
  reset(state: Pointer): void;
  inflate(state: Pointer): number;
  /** The same in another thread; all that the state points to has to stay. */
  inflateElsewhere(state: Pointer): Promise<number>;
  /** Where the bytes are: what memmove(3) returns when it moves nothing. */
  addressOf(bytes: Pointer): number;
}

let isal: Isal | null | undefined;

/** The fastest engine there is. */
export const fastestInflater: MakeInflater = (kind) =>
  (kind === 'gzip' ? makeIsalInflater() : null) ?? makeInflater(kind);

/** The same for what is large and inflated alone: a second thread inflates while the consumer is at work. */
export const inflaterAhead: MakeInflater = (kind) =>
  (kind === 'gzip' ? makeIsalInflaterAhead() : null) ?? makeInflater(kind);

/** Null where the library is not installed, or is not as expected. */
export function makeIsalInflater(): SyncInflater | null {
  isal ??= findIsal();
  return isal === null ? null : new IsalInflater(isal);
}

export function makeIsalInflaterAhead(): Inflater | null {
  isal ??= findIsal();
  return isal === null ? null : new AheadInflater(isal);
}

function findIsal(): Isal | null {
  // The offsets above are those of 64-bit little-endian machines.
  if (process.arch !== 'x64' && process.arch !== 'arm64') return null;
  try {
    const library = loadLibrary('libisal.so.2');
    const memmove = loadLibrary('libc.so.6').func('memmove', 'uint64', ['void *', 'void *', 'size_t']);
    const inflate = library.func('isal_inflate', 'int', ['void *']);
    const found: Isal = {
      init: library.func('isal_inflate_init', 'void', ['void *']) as Isal['init'],
      reset: library.func('isal_inflate_reset', 'void', ['void *']) as Isal['reset'],
      inflate: inflate as Isal['inflate'],
      inflateElsewhere: promisify(inflate.async) as Isal['inflateElsewhere'],
      addressOf: (bytes) => Number(memmove(bytes, bytes, 0)),
    };
    return isSound(found) ? found : null;
  } catch {
    return null;
  }
}

/** Two members, one of them damaged in its checksum: the library must give back the first and refuse the second. */
function isSound(found: Isal): boolean {
  const text = Buffer.from('veneer '.repeat(99));
  const damaged = gzipSync(text);
  damaged.writeUInt32LE(crc32(text) ^ 1, damaged.length - 8);
  const inflater = new IsalInflater(found);
  const out: Buffer[] = [];
  try {
    for (const piece of inflater.push(Buffer.concat([gzipSync(text), damaged]))) out.push(Buffer.from(piece));
  } catch {
    const whole = Buffer.concat(out);
    return whole.length >= text.length && whole.subarray(0, text.length).equals(text);
  }
  return false;
}

/** The library's state, and where it stands in a stream of members. */
class IsalStream {
  readonly #isal: Isal;
  readonly state = Buffer.alloc(STATE_BYTES);
  #input: Buffer = NOTHING;
  /** Bytes of the input to go. */
  #left = 0;
  /** All of the last piece's buffer was filled: there may be more without more input. */
  #wasFull = false;
  /** The next byte begins a member or padding. */
  #between = true;
  #members = 0;
  /** Padding behind the last member has begun. */
  #ended = false;

  constructor(found: Isal) {
    this.#isal = found;
    found.init(this.state);
  }

  /** The state points into `input` until {@link next} says false; nothing is read behind its end. */
  begin(input: Buffer): void {
    this.#input = input;
    this.#left = input.length;
    this.#wasFull = false;
    this.state.writeBigUInt64LE(BigInt(this.#isal.addressOf(input)), STATE.next_in);
    this.state.writeUInt32LE(input.length, STATE.avail_in);
  }

  /**
   * Makes ready for a call of the library that writes to `output`. False when the input is used up; the rest of it when
   * that begins a member that ISA-L would get wrong.
   */
  next(output: bigint, size: number): boolean | Buffer {
    if (this.#ended) return false;
    if (this.#left === 0 && (this.#between || !this.#wasFull)) return false;
    if (this.#between) {
      const at = this.#input.length - this.#left;
      // As zlib's gunzip: a zero is padding, anything else has to be another member.
      if (this.#members > 0 && this.#input[at] === 0) {
        this.#ended = true;
        return false;
      }
      if (this.#left < 4 || (this.#input[at + 3]! & FOR_ZLIB) !== 0) return this.#input.subarray(at);
      this.#between = false;
      this.#members++;
      this.#isal.reset(this.state);
      this.state.writeUInt32LE(ISAL_GZIP, STATE.crc_flag);
    }
    this.state.writeBigUInt64LE(output, STATE.next_out);
    this.state.writeUInt32LE(size, STATE.avail_out);
    return true;
  }

  /** Bytes that the call has written, of `size`; `result` is what it returned. */
  settle(result: number, size: number): number {
    if (result < 0) throw corrupt('gzip', REASONS[result] ?? `error ${result}`);
    const before = this.#left;
    this.#left = this.state.readUInt32LE(STATE.avail_in);
    const made = size - this.state.readUInt32LE(STATE.avail_out);
    if (this.#left > before || made < 0) throw corrupt('gzip', 'the engine is confused');
    this.#wasFull = made === size;
    this.#between = this.state.readInt32LE(STATE.block_state) === ISAL_BLOCK_FINISH;
    if (!this.#between && made === 0 && this.#left === before && before > 0)
      throw corrupt('gzip', 'the engine does not go on');
    return made;
  }

  /** Throws when the input has ended inside a member. */
  end(): void {
    if (!this.#between && !this.#ended) throw corrupt('gzip', 'unexpected end of file');
  }
}

/** zlib, for all from a member on that ISA-L would get wrong. */
function inflaterForTheRest(): SyncInflater {
  const rest = makeInflater('gzip');
  if (rest === null) throw corrupt('gzip', 'its header cannot be read here');
  return rest;
}

class IsalInflater implements SyncInflater {
  readonly #isal: Isal;
  readonly #stream: IsalStream;
  readonly #output = Buffer.allocUnsafeSlow(PIECE);
  readonly #outputAt: bigint;
  #rest: SyncInflater | null = null;

  constructor(found: Isal) {
    this.#isal = found;
    this.#stream = new IsalStream(found);
    this.#outputAt = BigInt(found.addressOf(this.#output));
  }

  *push(input: Buffer): Generator<Buffer, void, undefined> {
    if (this.#rest !== null) return yield* this.#rest.push(input);
    if (input.length === 0) return;
    const stream = this.#stream;
    stream.begin(input);
    for (;;) {
      const next = stream.next(this.#outputAt, PIECE);
      if (next === false) return;
      if (next !== true) {
        this.#rest = inflaterForTheRest();
        return yield* this.#rest.push(next);
      }
      const made = stream.settle(this.#isal.inflate(stream.state), PIECE);
      if (made > 0) yield this.#output.subarray(0, made);
    }
  }

  finish(): Iterable<Buffer> {
    if (this.#rest !== null) return this.#rest.finish();
    this.#stream.end();
    return [];
  }

  close(): void {
    this.#rest?.close();
  }
}

/** Inflates the next piece in a thread of libuv's pool while the consumer has the last one. */
class AheadInflater implements Inflater {
  readonly #isal: Isal;
  readonly #stream: IsalStream;
  /** One is with the consumer, the other is being filled. */
  readonly #outputs: readonly { readonly bytes: Buffer; readonly at: bigint }[];
  #turn = 0;
  /** Inflated, and not yielded yet. */
  #ready: Buffer = NOTHING;
  #rest: SyncInflater | null = null;

  constructor(found: Isal) {
    this.#isal = found;
    this.#stream = new IsalStream(found);
    this.#outputs = [0, 1].map(() => {
      const bytes = Buffer.allocUnsafeSlow(AHEAD_PIECE);
      return { bytes, at: BigInt(found.addressOf(bytes)) };
    });
  }

  async *push(input: Buffer): AsyncGenerator<Buffer, void, undefined> {
    if (this.#rest !== null) return yield* this.#rest.push(input);
    if (input.length === 0) return;
    const stream = this.#stream;
    stream.begin(input);
    for (;;) {
      const { bytes, at } = this.#outputs[this.#turn]!;
      const next = stream.next(at, AHEAD_PIECE);
      if (next === false) return;
      if (next !== true) {
        yield* this.#takeReady();
        this.#rest = inflaterForTheRest();
        return yield* this.#rest.push(next);
      }
      const inflated = this.#isal.inflateElsewhere(stream.state);
      try {
        yield* this.#takeReady();
      } finally {
        // Also when the consumer wants no more: the memory must not go while it is written to.
        await inflated;
      }
      const made = stream.settle(await inflated, AHEAD_PIECE);
      this.#ready = bytes.subarray(0, made);
      this.#turn = 1 - this.#turn;
    }
  }

  *finish(): Generator<Buffer, void, undefined> {
    yield* this.#takeReady();
    if (this.#rest !== null) yield* this.#rest.finish();
    else this.#stream.end();
  }

  close(): void {
    this.#rest?.close();
  }

  *#takeReady(): Generator<Buffer, void, undefined> {
    const ready = this.#ready;
    this.#ready = NOTHING;
    if (ready.length > 0) yield ready;
  }
}
