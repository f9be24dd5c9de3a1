/**
 * Decompression without a thread in between: bytes in, bytes out, through one
 * buffer that is used again and again.
 *
 * Node's zlib streams hand every piece to another thread and allocate it anew:
 * waking threads and collecting buffers took about as long as inflating did
 * (measured on two cores). Under those streams lies a handle with a synchronous
 * write that has neither cost. It is not documented, so its shape is looked at
 * first; {@link makeInflater} gives null where it is another, and the streams serve.
 */
import { constants, createGunzip, createZstdDecompress } from 'node:zlib';
import { VeneerError } from '../errors.ts';

/** Output pieces, bytes. */
export const PIECE = 1 << 18;
/** The engines want a chunk size; the buffer they allocate of it is not used. */
const UNUSED_CHUNK = 64;
const NOTHING = Buffer.alloc(0);

interface Handle {
  writeSync(
    flush: number,
    input: Uint8Array,
    inputAt: number,
    inputLength: number,
    output: Uint8Array,
    outputAt: number,
    outputLength: number,
  ): void;
}

interface Engine {
  readonly errored: Error | null;
  on(event: 'error', listener: (error: Error) => void): unknown;
  destroy(): unknown;
}

/** Decompresses what is pushed into it, in order. Each piece is good until the next is asked for. */
export interface Inflater {
  /** Yields what has come out so far; one that works ahead keeps the last piece. Throws `compress/corrupt`. */
  push(input: Buffer): Iterable<Buffer> | AsyncIterable<Buffer>;
  /** Yields the rest. Throws `compress/corrupt` when the input has ended too early. */
  finish(): Iterable<Buffer>;
  close(): void;
}

/** Decompresses in the caller's own thread. */
export interface SyncInflater extends Inflater {
  push(input: Buffer): Iterable<Buffer>;
}

/** Gives an engine for a kind of compression, or null where it has none. */
export type MakeInflater = (kind: 'gzip' | 'zstd') => Inflater | null;

/** Node's own zlib and zstd. Null when they look different inside. */
export function makeInflater(kind: 'gzip' | 'zstd'): SyncInflater | null {
  const options = { chunkSize: UNUSED_CHUNK };
  const engine = kind === 'gzip' ? createGunzip(options) : createZstdDecompress(options);
  const { _handle: handle, _writeState: state } = engine as {
    _handle?: Partial<Handle> | null;
    _writeState?: unknown;
  };
  if (typeof handle?.writeSync === 'function' && state instanceof Uint32Array && state.length === 2) {
    return new NodeInflater(kind, engine, handle as Handle, state);
  }
  engine.destroy();
  return null;
}

class NodeInflater implements SyncInflater {
  readonly #kind: 'gzip' | 'zstd';
  readonly #engine: Engine;
  readonly #handle: Handle;
  /** After each write: free bytes of the output, bytes left of the input. */
  readonly #state: Uint32Array;
  readonly #output = Buffer.allocUnsafeSlow(PIECE);
  /** Padding behind the last gzip member has begun. */
  #ended = false;

  constructor(kind: 'gzip' | 'zstd', engine: Engine, handle: Handle, state: Uint32Array) {
    this.#kind = kind;
    this.#engine = engine;
    this.#handle = handle;
    this.#state = state;
    // errors are looked for after every write; without a listener the event would end the process
    engine.on('error', () => {});
  }

  *push(input: Buffer): Generator<Buffer, void, undefined> {
    const flush = this.#kind === 'gzip' ? constants.Z_NO_FLUSH : constants.ZSTD_e_continue;
    let left = input.length;
    while (left > 0 && !this.#ended) {
      let free: number;
      do {
        const before = left;
        free = this.#write(flush, input, input.length - left, left);
        left = this.#state[1]!;
        const made = PIECE - free;
        if (made > 0) yield this.#output.subarray(0, made);
        // Both engines stop at the end of what they know. A zstd stream goes on with the next frame;
        // behind a gzip member only another would have been taken, so the rest is padding.
        else if (left > 0 && (this.#kind === 'gzip' || left === before)) {
          if (this.#kind === 'zstd') throw this.#corrupt('the engine does not go on');
          this.#ended = true;
          return;
        }
      } while (free === 0);
    }
  }

  finish(): Iterable<Buffer> {
    if (!this.#ended) {
      this.#write(this.#kind === 'gzip' ? constants.Z_FINISH : constants.ZSTD_e_end, NOTHING, 0, 0);
    }
    return [];
  }

  close(): void {
    this.#engine.destroy();
  }

  /** Returns the free bytes of the output. */
  #write(flush: number, input: Buffer, at: number, length: number): number {
    this.#handle.writeSync(flush, input, at, length, this.#output, 0, PIECE);
    const { errored } = this.#engine;
    if (errored !== null) throw this.#corrupt(errored.message, errored);
    return this.#state[0]!;
  }

  #corrupt(reason: string, cause?: Error): VeneerError {
    return corrupt(this.#kind, reason, cause);
  }
}

export function corrupt(kind: 'gzip' | 'zstd', reason: string, cause?: unknown): VeneerError {
  return new VeneerError('compress/corrupt', `Cannot decompress ${kind}: ${reason}`, { cause });
}
