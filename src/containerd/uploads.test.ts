/** Folders as containerd's content store makes them for uploads; that it makes them so is tried in test/containerd/. */
import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { temporaryDirectory } from '../../test/support/image-builder.ts';
import { type Upload, Uploads } from './uploads.ts';

const HEX = 'ab'.repeat(32);
const LAYER = `default/7/layer-sha256:${HEX}`;
const GZIP = gzipSync('layer');
const SIZE = 5 << 20;

class Bench {
  readonly root: string;
  readonly uploads: Uploads;
  readonly seen: Upload[] = [];
  takes = true;
  #next = 0;

  constructor(t: TestContext) {
    this.root = join(temporaryDirectory(t), 'content');
    this.uploads = new Uploads({
      onUpload: (upload) => {
        this.seen.push(upload);
        return this.takes;
      },
      onProblem: (what) => assert.fail(what),
    });
    t.after(() => this.uploads.close());
  }

  /** Begins an upload as containerd does: notes first, then the file. */
  begin(ref: string, { total = SIZE, data = GZIP }: { total?: number | null; data?: Buffer } = {}): string {
    const directory = join(this.root, 'ingest', `upload-${this.#next++}`);
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, 'ref'), ref);
    if (total !== null) writeFileSync(join(directory, 'total'), String(total));
    const path = join(directory, 'data');
    writeFileSync(path, data);
    return path;
  }

  async settled(): Promise<readonly Upload[]> {
    await delay(300);
    return this.seen;
  }

  async untilSeen(count: number): Promise<void> {
    for (let i = 0; this.seen.length < count; i++) {
      assert.ok(i < 500, `${this.seen.length} of ${count} uploads are seen`);
      await delay(20);
    }
  }
}

test('layers of pulls and imports are told of, by what they will be', async (t) => {
  const bench = new Bench(t);
  mkdirSync(join(bench.root, 'ingest'), { recursive: true });
  const before = bench.begin(LAYER);
  bench.uploads.open(bench.root);
  await bench.untilSeen(1);
  const zstd = bench.begin(`k8s.io/12/tar-blobs/sha256/${HEX}`, {
    data: Buffer.from('28b52ffd00000000', 'hex'),
  });
  await bench.untilSeen(2);
  bench.begin(`default/3/layer-example.org/a:1@sha256:${HEX}`);
  await bench.untilSeen(3);
  const blob = (kind: string) => ({
    digest: `sha256:${HEX}`,
    size: SIZE,
    mediaType: `application/vnd.oci.image.layer.v1.tar+${kind}`,
  });
  const target = join(bench.root, 'blobs/sha256', HEX);
  const inode = (path: string) => statSync(path).ino;
  assert.deepEqual(bench.seen.slice(0, 2), [
    { path: before, inode: inode(before), target, blob: blob('gzip') },
    { path: zstd, inode: inode(zstd), target, blob: blob('zstd') },
  ]);
  assert.equal((await bench.settled()).length, 3, 'each once');
});

test('nothing else is: other documents, what is small, has no size or digest, or is not compressed', async (t) => {
  const bench = new Bench(t);
  mkdirSync(bench.root, { recursive: true });
  bench.uploads.open(bench.root);
  bench.begin(`default/1/manifest-sha256:${HEX}`);
  bench.begin(`default/1/config-sha256:${HEX}`);
  bench.begin(`default/1/layer-sha512:${HEX}`);
  bench.begin(`default/1/layer-sha256:${HEX}0`);
  bench.begin('default/1/veneer-diff-1');
  bench.begin('default/1/tar-layer.tar');
  bench.begin(LAYER, { total: 4096 });
  bench.begin(LAYER, { total: null });
  bench.begin(LAYER, { total: Number.NaN });
  bench.begin(LAYER, { data: Buffer.alloc(512, 'a tar') });
  bench.begin(LAYER, { data: Buffer.from('BZh91AY&SY') });
  assert.deepEqual(await bench.settled(), []);
});

test('an upload is offered until it is taken or over, and looked at when its first bytes come', async (t) => {
  const bench = new Bench(t);
  // The content store makes its folders with the first upload.
  bench.uploads.open(bench.root);
  bench.takes = false;
  const path = bench.begin(LAYER);
  await bench.untilSeen(3);
  renameSync(path, join(bench.root, 'blob'));
  rmSync(join(path, '..'), { recursive: true });
  await delay(100);
  const offers = bench.seen.length;
  assert.equal((await bench.settled()).length, offers, 'it is over');

  const empty = bench.begin(LAYER, { data: Buffer.alloc(0) });
  assert.equal((await bench.settled()).length, offers);
  bench.takes = true;
  appendFileSync(empty, GZIP);
  await bench.untilSeen(offers + 1);

  // What an upload left that nobody goes on with.
  const old = bench.begin(LAYER);
  utimesSync(old, 0, 0);
  assert.equal((await bench.settled()).length, offers + 1);
  appendFileSync(old, GZIP);
  await bench.untilSeen(offers + 2);

  bench.uploads.close();
  bench.begin(LAYER);
  assert.equal((await bench.settled()).length, offers + 2, 'nobody watches any more');
});
