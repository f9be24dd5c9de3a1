/**
 * The floor that a pull stands on: inflates the given gzip blobs and hashes both what goes
 * in (the digest) and what comes out (the diffID), and nothing else. Nothing is written.
 *
 * floor.ts BLOB…
 *
 * One worker a core takes the largest blob that is left. Each drives zlib's own handle with
 * one output buffer, because the public streams allocate every chunk anew: measured, that
 * makes this floor a quarter lower than a pipeline of streams. Handing the hashing of the
 * largest blob to the other core was tried too and gained nothing.
 */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { constants, createGunzip } from 'node:zlib';

const PIECE = 1 << 18;

/** What lies under Node's zlib streams; not public. */
interface ZlibInternals {
  readonly _handle: {
    writeSync(
      flush: number,
      input: Uint8Array,
      inputAt: number,
      inputLength: number,
      output: Uint8Array,
      outputAt: number,
      outputLength: number,
    ): void;
  };
  /** After each write: free bytes of the output, bytes left of the input. */
  readonly _writeState: Uint32Array;
}

function inflateAndHash(blob: string, input: Buffer, output: Buffer): string {
  const digest = createHash('sha256');
  const diffId = createHash('sha256');
  const { _handle: handle, _writeState: state } = createGunzip({
    chunkSize: PIECE,
  }) as unknown as ZlibInternals;
  const file = openSync(blob, 'r');
  for (let length = readSync(file, input); length > 0; length = readSync(file, input)) {
    digest.update(input.subarray(0, length));
    let left = length;
    do {
      handle.writeSync(constants.Z_NO_FLUSH, input, length - left, left, output, 0, PIECE);
      diffId.update(output.subarray(0, PIECE - state[0]!));
      left = state[1]!;
    } while (state[0] === 0);
  }
  closeSync(file);
  return `${digest.digest('hex')} ${diffId.digest('hex')}`;
}

if (isMainThread) {
  const waiting = process.argv.slice(2).sort((a, b) => statSync(a).size - statSync(b).size);
  for (let i = 0; i < availableParallelism(); i++) {
    const worker = new Worker(new URL(import.meta.url));
    worker.on('message', (result: string | null) => {
      if (result !== null) process.stdout.write(`${result}\n`);
      worker.postMessage(waiting.pop() ?? null);
    });
  }
} else {
  const port = parentPort!;
  const input = Buffer.allocUnsafe(PIECE);
  const output = Buffer.allocUnsafe(PIECE);
  port.on('message', (blob: string | null) => {
    if (blob === null) port.close();
    else port.postMessage(inflateAndHash(blob, input, output));
  });
  port.postMessage(null);
}
