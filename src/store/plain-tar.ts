/** What every work on a plain tar begins with. */
import { createHash } from 'node:crypto';
import type { ByteSource } from '../bytes/io.ts';
import { detectCompression } from '../compress/index.ts';
import { VeneerError } from '../errors.ts';

const HASH_CHUNK = 4 << 20;

/** Throws `cli/compressed` when these first bytes are not a plain tar's. */
export function checkPlainTar(head: Buffer, name: string): void {
  const kind = detectCompression(head);
  if (kind === 'none') return;
  throw new VeneerError('cli/compressed', `Cannot index ${name}: it is compressed (${kind})`, {
    hint: 'uncompress it first, or make a self-contained image of it: veneer convert BLOB -o FILE',
  });
}

/** `sha256:…` of all bytes. */
export function hashSource(source: ByteSource, signal: AbortSignal): string {
  const hash = createHash('sha256');
  for (let at = 0; at < source.size; at += HASH_CHUNK) {
    signal.throwIfAborted();
    hash.update(source.read(at, Math.min(HASH_CHUNK, source.size - at)));
  }
  return `sha256:${hash.digest('hex')}`;
}
