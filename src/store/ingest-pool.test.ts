/** Blobs that are ingested while somebody is still writing them. */
import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { compressTar, noise, temporaryDirectory } from '../../test/support/image-builder.ts';
import { sha256 } from '../../test/support/images.ts';
import { archive, dir, file } from '../../test/support/tar-builder.ts';
import { IngestPool } from './ingest-pool.ts';

const tar = archive(dir('d'), file('d/noise', noise(5 << 20)), file('text', 'x'.repeat(70_000)));
const blob = compressTar(tar, 'gzip');

function open(t: TestContext): {
  path: string;
  out: string;
  ingest: (signal?: AbortSignal) => ReturnType<IngestPool['ingest']>;
} {
  const folder = temporaryDirectory(t);
  const [path, out] = [join(folder, 'data'), join(folder, 'layer')];
  writeFileSync(path, blob.subarray(0, 100_000));
  mkdirSync(out);
  const pool = new IngestPool(1);
  t.after(() => pool.close());
  const expectBlob = { digest: sha256(blob), size: blob.length };
  const input = { path, offset: 0, length: blob.length, grows: true };
  return {
    path,
    out,
    ingest: (signal) => pool.ingest(input, out, { id: 'layer', fsync: false, expectBlob, signal }),
  };
}

test('what is written piece by piece, and moved before its end is read, is the same layer', async (t) => {
  const { path, out, ingest } = open(t);
  const ingested = ingest();
  for (let at = 100_000; at < blob.length; at += 777_777) {
    await delay(30);
    appendFileSync(path, blob.subarray(at, at + 777_777));
  }
  // Behind the blob's end nothing counts.
  appendFileSync(path, 'more');
  const { diffId, blobDigest, tarSize } = await ingested;
  assert.deepEqual([diffId, blobDigest, tarSize], [sha256(tar), sha256(blob), tar.length]);
  assert.ok(readFileSync(join(out, 'layer.tar')).equals(tar));
});

test('what was another blob after all, or is taken away, is an error', async (t) => {
  const wrong = open(t);
  const ingested = wrong.ingest();
  appendFileSync(wrong.path, Buffer.concat([blob.subarray(100_000, -1), Buffer.of(blob.at(-1)! ^ 1)]));
  await assert.rejects(ingested, { code: /^(store\/mismatch|compress\/corrupt)$/ });

  const gone = open(t);
  const waiting = gone.ingest();
  while (readdirSync(gone.out).length === 0) await delay(10);
  await delay(50);
  rmSync(gone.path);
  await assert.rejects(waiting, { code: 'io/failed', message: /data: it was removed as it was written$/ });
});

test('who waits for more can be cancelled, and others use the thread meanwhile', async (t) => {
  const { path, ingest, out } = open(t);
  const stop = new AbortController();
  const waiting = ingest(stop.signal);
  while (readdirSync(out).length === 0) await delay(10);
  stop.abort();
  await assert.rejects(waiting, { code: 'io/cancelled' });
  appendFileSync(path, blob.subarray(100_000));
  for (const name of readdirSync(out)) rmSync(join(out, name));
  assert.equal((await ingest()).diffId, sha256(tar));
});
