/** The thread that merges chains: it reads and writes for a while, and the daemon has others to answer. */
import { parentPort, workerData } from 'node:worker_threads';
import { type PlainError, plainError } from '../threads/plain-error.ts';
import { ensureChain } from './chains.ts';
import { TreesAhead } from './layer-trees.ts';
import { Store } from './store.ts';

/** Layers to merge; or, without an id, layers of a merge that will be asked for. */
export interface MergeJob {
  readonly id: number | null;
  readonly diffIds: readonly string[];
}

export interface MergeResult {
  readonly id: number;
  readonly error: PlainError | null;
}

const { root, fsync } = workerData as { root: string; fsync: boolean };
const store = Store.open(root, { fsync });
const ahead = new TreesAhead(store);
let last = Promise.resolve();

parentPort?.on('message', (job: MergeJob) => {
  // one after the other: two merges side by side would hold two sets of trees
  last = last.then(async () => {
    if (job.id === null) {
      for (const diffId of job.diffIds) ahead.read(diffId);
      return;
    }
    let error: PlainError | null = null;
    try {
      await ensureChain(store, job.diffIds, { ahead });
    } catch (thrown) {
      error = plainError(thrown);
    }
    ahead.clear();
    parentPort!.postMessage({ id: job.id, error } satisfies MergeResult);
  });
});
parentPort?.on('close', () => store.close());
