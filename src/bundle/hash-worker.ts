/** The thread that reads files for their digests: each message is a list of paths below an open directory. */
import { constants } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { VeneerError } from '../errors.ts';
import { openBeneath } from '../sys/open-beneath.ts';
import { serveThread } from '../threads/serve-thread.ts';
import { FileHasher } from './hash-file.ts';

export interface HashWorkerData {
  /** Descriptor of the directory. */
  readonly root: number;
}

const { root } = workerData as HashWorkerData;
const hasher = new FileHasher();

serveThread<readonly string[], (string | null)[]>((paths) => paths.map(digestOf));

/** Null where it is denied: who may lend himself the permission does so in one thread only. */
function digestOf(path: string): string | null {
  let file: number;
  try {
    file = openBeneath(root, path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (error instanceof VeneerError && error.code === 'sys/EACCES') return null;
    throw error;
  }
  return hasher.digest(file, 'sha256');
}
