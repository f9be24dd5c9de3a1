/** Whether a new delta leads to its target, byte by byte: the last look before it gets a name. */
import { closeSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { readHeader } from '../delta/format.ts';
import { rebuildTar } from '../delta/rebuild.ts';
import { VeneerError } from '../errors.ts';
import { fileSource, openStored } from '../store/data-files.ts';
import { throwIfAborted } from '../store/locks.ts';
import { OpenTars, type TarFile } from './tar-file.ts';

/** Pieces of one round. */
const ROUND = 64;

/**
 * Throws `delta/mismatch` when the delta in the file `path` does not lead to `target`. Comparing costs a fraction of
 * hashing; that the digest of the target is right is known already.
 */
export async function checkLayerDelta(
  path: string,
  target: TarFile,
  sources: readonly TarFile[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const fail = (reason: string): never => {
    throw new VeneerError('delta/mismatch', `Cannot make the delta of layer ${target.diffId}: ${reason}`, {
      hint: 'this is an error in veneer; no delta was written',
    });
  };
  const tars = new OpenTars();
  const fd = openStored(path);
  try {
    const delta = fileSource(fd, path);
    const header = readHeader((offset, length) => delta.read(offset, length), delta.size);
    if (header.target.digest !== target.diffId || header.target.size !== target.size)
      fail(`it leads to ${header.target.digest} of ${header.target.size} bytes`);
    const wanted = tars.open(target);
    const files = new Map(sources.map((source) => [source.diffId, source]));
    let scratch = Buffer.allocUnsafeSlow(0);
    let at = 0;
    let round = 0;
    for (const piece of rebuildTar(delta, (diffId) => tars.open(files.get(diffId)!))) {
      if (scratch.length < piece.length) scratch = Buffer.allocUnsafeSlow(piece.length);
      if (!wanted.read(at, piece.length, scratch).equals(piece))
        fail(`between the bytes ${at} and ${at + piece.length} it leads elsewhere`);
      at += piece.length;
      if (++round % ROUND === 0) {
        throwIfAborted(signal);
        await turn();
      }
    }
    if (at !== target.size) fail(`it ends at byte ${at} of ${target.size}`);
  } finally {
    closeSync(fd);
    tars.close();
  }
}
