/** The root hash that an image's flat disk has by its bytes, whatever the store says of it. */
import { planFlat } from '../../disk/image.ts';
import { DiskSource, planRuns } from '../../disk/source.ts';
import { hashDisk } from '../../disk/write-tree.ts';
import type { OnProgress } from '../../progress/events.ts';
import type { Store } from '../../store/store.ts';
import { flatSize, openStoredInput, readTail } from './input.ts';
import { treeParameters } from './trees.ts';

export async function rootHashOf(
  store: Store,
  name: string,
  { signal, onProgress }: { signal: AbortSignal; onProgress: OnProgress },
): Promise<string> {
  const input = await openStoredInput(store, name, { signal, keep: true });
  const source = new DiskSource(planRuns(planFlat(input.image, null, readTail)));
  const id = 'root-hash';
  const size = flatSize(input.image);
  onProgress({ type: 'start', id, what: `root hash of ${name}`, total: size });
  try {
    const parameters = treeParameters(input.image, input.digest);
    const { rootHash } = await hashDisk(source, size, parameters, () => {}, {
      signal,
      onProgress: (done) => onProgress({ type: 'advance', id, done }),
    });
    onProgress({ type: 'end', id, outcome: 'done' });
    return rootHash;
  } finally {
    source.close();
    input.release();
  }
}
