/**
 * Memory for one window, given back at once. Left to the garbage collector, which sees no need to hurry, every thread
 * would hold several windows that are done.
 */
import type { ByteSource } from '../bytes/io.ts';

export function takeBytes(length: number): Buffer<ArrayBuffer> {
  return Buffer.allocUnsafeSlow(length);
}

/** Nobody may touch it, or a view of it, after this. */
export function giveBack({ buffer }: Int32Array<ArrayBuffer> | Buffer<ArrayBuffer>): void {
  buffer.transfer(0);
}

/** Reads into `place`, also from sources whose bytes stand elsewhere. */
export function readInto(
  place: Buffer,
  read: (length: number, scratch: Buffer) => ReturnType<ByteSource['read']>,
): void {
  const bytes = read(place.length, place);
  if (bytes.buffer !== place.buffer || bytes.byteOffset !== place.byteOffset) bytes.copy(place);
}
