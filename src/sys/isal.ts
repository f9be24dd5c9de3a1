/**
 * Inflating with Intel's ISA-L (libisal.so.2, Debian's package libisal2) where it is installed: about two and a half
 * times as fast as zlib, and inflating is most of what a pull does. containerd takes the same library's igzip for that.
 *
 * Its state is a struct of ours to hold (`struct inflate_state` of igzip_lib.h). Only the fields in {@link STATE} are
 * touched here. Should another release of the library lay it out otherwise, the probe finds out before the first use.
 */
import { crc32, gzipSync } from 'node:zlib';
import { corrupt, type Inflater, type MakeInflater, makeInflater, PIECE } from '../compress/inflater.ts';
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

interface Isal {
  init(state: Pointer): void;
  reset(state: Pointer): void;
  inflate(state: Pointer): number;
  /** Where the bytes are: what memmove(3) returns when it moves nothing. */
  addressOf(bytes: Pointer): number;
}

let isal: Isal | null | undefined;

/** The fastest engine there is. */
export const fastestInflater: MakeInflater = (kind) =>
  (kind === 'gzip' ? makeIsalInflater() : null) ?? makeInflater(kind);

/** Null where the library is not installed, or is not as expected. */
export function makeIsalInflater(): Inflater | null {
  isal ??= findIsal();
  return isal === null ? null : new IsalInflater(isal);
}

function findIsal(): Isal | null {
  // The offsets above are those of 64-bit little-endian machines.
  if (process.arch !== 'x64' && process.arch !== 'arm64') return null;
  try {
    const library = loadLibrary('libisal.so.2');
    const memmove = loadLibrary('libc.so.6').func('memmove', 'uint64', ['void *', 'void *', 'size_t']);
    const found: Isal = {
      init: library.func('isal_inflate_init', 'void', ['void *']) as Isal['init'],
      reset: library.func('isal_inflate_reset', 'void', ['void *']) as Isal['reset'],
      inflate: library.func('isal_inflate', 'int', ['void *']) as Isal['inflate'],
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

class IsalInflater implements Inflater {
  readonly #isal: Isal;
  readonly #state = Buffer.alloc(STATE_BYTES);
  readonly #output = Buffer.allocUnsafeSlow(PIECE);
  readonly #outputAt: bigint;
  /** The next byte begins a member or padding. */
  #between = true;
  #members = 0;
  /** Padding behind the last member has begun. */
  #ended = false;
  /** Whoever inflates from some member on, because ISA-L would get it wrong. */
  #rest: Inflater | null = null;

  constructor(found: Isal) {
    this.#isal = found;
    this.#outputAt = BigInt(found.addressOf(this.#output));
    found.init(this.#state);
  }

  *push(input: Buffer): Generator<Buffer, void, undefined> {
    if (this.#rest !== null) return yield* this.#rest.push(input);
    if (input.length === 0) return;
    const state = this.#state;
    // The state points into `input` while this generator, and so `input`, is alive; nothing is read behind avail_in.
    state.writeBigUInt64LE(BigInt(this.#isal.addressOf(input)), STATE.next_in);
    state.writeUInt32LE(input.length, STATE.avail_in);
    for (let left = input.length; !this.#ended; ) {
      if (this.#between) {
        if (left === 0) return;
        const at = input.length - left;
        // As zlib's gunzip: a zero is padding, anything else has to be another member.
        if (this.#members > 0 && input[at] === 0) {
          this.#ended = true;
          return;
        }
        if (left < 4 || (input[at + 3]! & FOR_ZLIB) !== 0) {
          this.#rest = makeInflater('gzip');
          if (this.#rest === null) throw corrupt('gzip', 'its header cannot be read here');
          return yield* this.#rest.push(input.subarray(at));
        }
        this.#between = false;
        this.#members++;
        this.#isal.reset(state);
        state.writeUInt32LE(ISAL_GZIP, STATE.crc_flag);
      }
      state.writeBigUInt64LE(this.#outputAt, STATE.next_out);
      state.writeUInt32LE(PIECE, STATE.avail_out);
      const result = this.#isal.inflate(state);
      if (result < 0) throw corrupt('gzip', REASONS[result] ?? `error ${result}`);
      const before = left;
      left = state.readUInt32LE(STATE.avail_in);
      const made = PIECE - state.readUInt32LE(STATE.avail_out);
      if (left > before || made < 0) throw corrupt('gzip', 'the engine is confused');
      this.#between = state.readInt32LE(STATE.block_state) === ISAL_BLOCK_FINISH;
      if (made > 0) yield this.#output.subarray(0, made);
      if (this.#between) continue;
      if (made === 0 && left === before && left > 0) throw corrupt('gzip', 'the engine does not go on');
      if (left === 0 && made < PIECE) return;
    }
  }

  finish(): void {
    if (this.#rest !== null) this.#rest.finish();
    else if (!this.#between && !this.#ended) throw corrupt('gzip', 'unexpected end of file');
  }

  close(): void {
    this.#rest?.close();
  }
}
