/**
 * How bytes reach the formats and leave them: formats never open files, they
 * read through a {@link ByteSource} and write through a {@link ByteSink}.
 */

/** Random access to immutable bytes, synchronous. */
export interface ByteSource {
  /** Length in bytes. */
  readonly size: number;
  /**
   * Exactly `length` bytes from `offset`; throws when the range is not inside `size`. May be a view: do not
   * write to it. With `scratch` (at least `length` bytes) the result may stand in it, which spares an allocation
   * to those who are done with the bytes before they read again.
   */
  read(offset: number, length: number, scratch?: Buffer): Buffer;
}

/**
 * Where an image goes. Pieces come in order, `at` being the byte offset of each;
 * only a self-contained image writes its header last, at 0. The chunk may be
 * reused as soon as `write` returns.
 */
export interface ByteSink {
  write(chunk: Buffer, at: number): void;
}

/** A buffer as a {@link ByteSource}. */
export function bufferSource(buffer: Buffer): ByteSource {
  return {
    size: buffer.length,
    read(offset, length) {
      if (offset < 0 || length < 0 || offset + length > buffer.length) {
        throw new RangeError(
          `Cannot read ${length} bytes at ${offset}: only ${buffer.length} bytes are there`,
        );
      }
      return buffer.subarray(offset, offset + length);
    },
  };
}
