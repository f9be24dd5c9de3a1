/** The blobs of a delta that stands in a layout. */
import { VeneerError } from '../errors.ts';
import { locateBlob } from '../oci/layout.ts';
import { directoryFiles } from '../oci/named-files.ts';
import type { FileRange } from '../oci/source.ts';
import { hashFile } from '../store/hash-file.ts';
import type { OpenDelta } from './open-delta.ts';

/** Where the delta of a layer stands, by its digest, which was checked. */
export type LocateDelta = (digest: string) => Promise<FileRange>;

/** Checks the digests of all of them: what is damaged is told before anything is begun. */
export async function layoutBlobs(delta: OpenDelta, dir: string): Promise<LocateDelta> {
  const files = await directoryFiles(dir);
  const ranges = new Map<string, FileRange>();
  for (const [digest, descriptor] of delta.manifest.layerDeltas) {
    const range = await locateBlob(files, dir, descriptor);
    const found = await hashFile(range.path);
    if (found !== digest) {
      throw new VeneerError(
        'oci/digest-mismatch',
        `Cannot use the blob ${digest} in ${dir}: its digest is ${found}`,
      );
    }
    ranges.set(digest, range);
  }
  return async (digest) => ranges.get(digest)!;
}
