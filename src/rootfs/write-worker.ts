/** The thread that writes files: its data says where, each message is a batch, the answer says what came of it. */
import { workerData } from 'node:worker_threads';
import { serveThread } from '../threads/serve-thread.ts';
import type { WriteBatch, WrittenBatch } from './write-batch.ts';
import { FileWriter, type WriterOptions } from './write-files.ts';

const writer = new FileWriter(workerData as WriterOptions);

serveThread<WriteBatch, WrittenBatch>(
  (batch) => writer.write(batch),
  () => writer.close(),
);
