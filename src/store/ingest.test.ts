import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ingestLayer } from './ingest.ts';

/** Ingests a blob of two chunks under `ulimit -f`, so that the first write fails; prints what comes of it. */
const CHILD = `
import { ingestLayer } from ${JSON.stringify(new URL('./ingest.ts', import.meta.url).href)};
import { archive, file } from ${JSON.stringify(new URL('../../test/support/tar-builder.ts', import.meta.url).href)};
const good = archive(file('large', 'x'.repeat(1 << 20))).subarray(0, -1024);
async function* chunks() {
  yield good;
  // The first write has failed by now.
  await new Promise((resolve) => setTimeout(resolve, 200));
  yield Buffer.alloc(1024, 'no tar');
  yield Buffer.alloc(1024, 'no tar');
}
process.on('unhandledRejection', (error) => {
  console.log('unhandled', error.code);
  process.exit(1);
});
try {
  await ingestLayer(chunks(), process.argv[1], { id: 'layer', fsync: false });
} catch (error) {
  console.log('caught', error.name, error.code);
}
await new Promise((resolve) => setTimeout(resolve, 50));
`;

test('a tar that is broken where its file cannot be written is one error, and caught', () => {
  const dir = mkdtempSync(join(tmpdir(), 'veneer-ingest-'));
  try {
    const { stdout, stderr, status } = spawnSync(
      'sh',
      ['-c', 'ulimit -f 64 && exec "$@"', 'sh', process.execPath, '--input-type=module', '-e', CHILD, dir],
      { encoding: 'utf8' },
    );
    assert.match(stdout, /^caught VeneerError (io\/failed|io\/no-space|tar\/corrupt)\n$/, stderr);
    assert.equal(status, 0, stderr);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

test('a folder that is not there is an error of ours', async () => {
  async function* nothing(): AsyncGenerator<Buffer> {}
  await assert.rejects(ingestLayer(nothing(), '/dev/null/none', { id: 'layer', fsync: false }), {
    name: 'VeneerError',
    code: 'io/failed',
    message: /^Cannot write \/dev\/null\/none\/layer\.tar: /,
  });
});
