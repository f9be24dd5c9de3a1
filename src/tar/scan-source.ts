/** Scans a tar that stands in a file: reads windows, and jumps over payloads that nobody wants. */
import type { ByteSource } from '../bytes/io.ts';
import { TarScanner, type TarScanOptions } from './scan.ts';

export interface ScanSourceOptions extends TarScanOptions {
  /** Bytes to read at once, at most; 512 or more. */
  window?: number;
}

/** Small enough that payloads are jumped over, not read: faster than 256 KiB on trees of small files. */
const WINDOW = 1 << 16;
/** First window after a jump: with large payloads only one header is wanted there. */
const SMALL_WINDOW = 1 << 13;

/**
 * Drives a scanner over the whole of `source`; returns it, for its `entries`
 * and `findings`. Throws what {@link TarScanner} throws.
 */
export function scanSource(source: ByteSource, options: ScanSourceOptions): TarScanner {
  const scanner = new TarScanner(options);
  const most = Math.max(512, options.window ?? WINDOW);
  const scratch = Buffer.allocUnsafeSlow(most);
  let window = most;
  let offset = 0;
  while (offset < source.size && !scanner.ended) {
    const jump = Math.min(scanner.skippable, source.size - offset);
    if (jump > 0) {
      scanner.skip(jump);
      offset += jump;
      if (jump >= most) window = Math.min(SMALL_WINDOW, most);
      continue;
    }
    const length = Math.min(window, source.size - offset);
    scanner.write(source.read(offset, length, scratch));
    offset += length;
    window = Math.min(most, window * 2);
  }
  scanner.end();
  return scanner;
}
