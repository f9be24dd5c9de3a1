/** An open file as a data source. */
import { readSync } from 'node:fs';
import type { ByteSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';

export function fileSource(file: number, size: number): ByteSource {
  return {
    size,
    read(offset, length, scratch) {
      const bytes = scratch?.subarray(0, length) ?? Buffer.allocUnsafe(length);
      for (let done = 0; done < length; ) {
        const got = readSync(file, bytes, done, length - done, offset + done);
        if (got === 0)
          throw new VeneerError('io/failed', `Cannot read a layer: its file ends at ${offset + done}`);
        done += got;
      }
      return bytes;
    },
  };
}
