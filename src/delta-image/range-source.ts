/** A run of bytes in a file, as bytes of their own. */
import type { ByteSource } from '../bytes/io.ts';
import type { FileRange } from '../oci/source.ts';

/** `file`: the whole file that the range is in. */
export function rangeSource(file: ByteSource, { offset, length }: FileRange): ByteSource {
  return {
    size: length,
    read: (at, count, scratch) => file.read(offset + at, count, scratch),
  };
}
