/** Writes batches side by side, a thread a core; a few files are written without one. */
import { threadFile } from '../threads/thread-file.ts';
import { runInThreads } from '../threads/thread-pool.ts';
import type { PlannedBatch, WrittenBatch } from './write-batch.ts';
import { FileWriter, type WriterOptions } from './write-files.ts';

/**
 * Writes what `batches` yields and tells `onWritten` of each. All threads have ended when it returns or throws; what
 * was written before an error stays.
 */
export async function writeBatches(
  batches: Iterable<PlannedBatch>,
  options: WriterOptions,
  onWritten: (planned: PlannedBatch, written: WrittenBatch) => void,
  signal?: AbortSignal,
): Promise<void> {
  const source = batches[Symbol.iterator]();
  const first = source.next();
  if (first.done) return;
  const second = source.next();
  if (second.done) {
    const writer = new FileWriter(options);
    try {
      onWritten(first.value, writer.write(first.value.batch));
    } finally {
      writer.close();
    }
    return;
  }
  const waiting = [first.value, second.value];
  const next = (): PlannedBatch | null => {
    signal?.throwIfAborted();
    const ready = waiting.shift();
    if (ready !== undefined) return ready;
    const result = source.next();
    return result.done ? null : result.value;
  };
  await runInThreads<PlannedBatch, WrittenBatch>({
    code: threadFile(import.meta.url, 'write-worker'),
    data: options,
    next,
    messageOf: ({ batch }) => batch,
    onDone: onWritten,
  });
}
