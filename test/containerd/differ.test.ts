/** The differ against containerd's real content store, with a snapshotter that only remembers. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { Metadata } from '@grpc/grpc-js';
import { Applier, type LayerTargets } from '../../src/containerd/apply.ts';
import { type CompareTargets, compareSnapshots, type SnapshotLayers } from '../../src/containerd/compare.ts';
import { blobInfo, readBlobBytes } from '../../src/containerd/content-client.ts';
import { Introspection } from '../../src/containerd/gen/introspection_pb.ts';
import type { Mount } from '../../src/containerd/gen/types_pb.ts';
import { type CallContext, RpcClient } from '../../src/containerd/rpc-client.ts';
import { fsck, gc, Store } from '../../src/store/index.ts';
import { locateLayerTar } from '../../src/store/layer-tar.ts';
import { hasLayer } from '../../src/store/layers.ts';
import { type ContainerdLab, openContainerdLab } from '../support/containerd-lab.ts';
import { buildImage, noise, sampleTars } from '../support/image-builder.ts';
import { sha256, type TestBlob } from '../support/images.ts';
import { archive, dir, file } from '../support/tar-builder.ts';

const NO_MOUNTS: Mount[] = [];

class Bench implements LayerTargets, CompareTargets {
  readonly store: Store;
  readonly client: RpcClient;
  readonly applier: Applier;
  readonly call: CallContext;
  readonly layers = new Map<number, string>();
  readonly exposed: number[] = [];
  /** What `findByMounts` says. */
  next: number | null = 1;
  views: (SnapshotLayers | null)[] = [];
  onAdd: () => void = () => {};
  onImage: () => void = () => {};
  garbage = 0;
  readonly problems: string[] = [];

  constructor(t: TestContext, lab: ContainerdLab, client = new RpcClient(lab.socket)) {
    this.store = Store.open(lab.root);
    this.store.prepare();
    this.client = client;
    this.applier = new Applier(this.store, this.client, this, {
      onImage: () => this.onImage(),
      onGarbage: () => this.garbage++,
      onProblem: (what) => this.problems.push(what),
    });
    const metadata = new Metadata();
    metadata.set('containerd-namespace', lab.namespace);
    this.call = { metadata };
    t.after(async () => {
      await this.applier.close();
      this.client.close();
      this.store.close();
    });
  }

  findByMounts(): number | null {
    return this.next;
  }

  async addLayer(id: number, diffId: string): Promise<boolean> {
    this.onAdd();
    if (!hasLayer(this.store, diffId)) return false;
    this.layers.set(id, diffId);
    return true;
  }

  expose(id: number): void {
    this.exposed.push(id);
  }

  layersOf(): SnapshotLayers | null {
    return this.views.shift() ?? null;
  }

  apply(blob: TestBlob, more: Partial<TestBlob> = {}, signal?: AbortSignal) {
    return this.applier.apply({ ...blob, ...more }, NO_MOUNTS, { ...this.call, signal });
  }

  /** What containerd has under the digest. */
  async read(digest: string): Promise<Buffer> {
    const pieces: Buffer[] = [];
    for await (const piece of readBlobBytes(this.client, digest, this.call)) pieces.push(Buffer.from(piece));
    return Buffer.concat(pieces);
  }
}

async function open(t: TestContext): Promise<{ lab: ContainerdLab; bench: Bench } | null> {
  const lab = await openContainerdLab(t, '2', { serve: null });
  return lab && { lab, bench: new Bench(t, lab) };
}

function assertTidy(store: Store): void {
  for (const name of readdirSync(store.layout.tmp)) {
    const path = join(store.layout.tmp, name);
    if (!name.endsWith('.lock')) assert.deepEqual(readdirSync(path), [], path);
  }
  assert.deepEqual(readdirSync(store.layout.leases), []);
}

test('layers are applied: gzip, zstd and plain, each as its own tar', async (t) => {
  const opened = await open(t);
  if (opened === null) return;
  const { lab, bench } = opened;
  const tars = sampleTars();
  const image = buildImage([
    tars[0]!,
    { tar: tars[1]!, compression: 'zstd' },
    { tar: tars[2]!, compression: 'none' },
  ]);
  await lab.importImage(image, 'example.org/three:1', '--no-unpack', '--local');
  for (const [i, blob] of image.layers.entries()) {
    bench.next = i;
    assert.deepEqual(await bench.apply(blob), {
      mediaType: 'application/vnd.oci.image.layer.v1.tar',
      digest: image.diffIds[i],
      size: tars[i]!.length,
    });
    assert.equal(bench.layers.get(i), image.diffIds[i]);
    assert.ok(readFileSync(locateLayerTar(bench.store, image.diffIds[i]!).path).equals(tars[i]!));
  }
  // Again, from what is stored, and under docker's name for it.
  bench.next = 7;
  const again = await bench.apply(image.layers[0]!, {
    mediaType: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  });
  assert.equal(again.digest, image.diffIds[0]);
  assert.equal(bench.layers.get(7), image.diffIds[0]);
  const { problems } = await fsck(bench.store);
  assert.deepEqual(
    problems.filter(({ severity }) => severity === 'error'),
    [],
  );
  assertTidy(bench.store);
});

/** As where containerd's files are not to be seen. */
class DistantClient extends RpcClient {
  reads = 0;

  override unary: RpcClient['unary'] = (method, request, call) => {
    if (method.parent.typeName === Introspection.typeName)
      return Promise.reject(new Error('it does not tell'));
    return super.unary(method, request, call);
  };

  override read: RpcClient['read'] = (method, request, call) => {
    if (method.name === 'Read') this.reads++;
    return super.read(method, request, call);
  };
}

test('where containerd keeps its files out of sight, blobs come through the socket', async (t) => {
  const lab = await openContainerdLab(t, '2', { serve: null });
  if (lab === null) return;
  const client = new DistantClient(lab.socket);
  const bench = new Bench(t, lab, client);
  const image = buildImage([archive(file('large', noise(9 << 20, 5))), sampleTars()[0]!]);
  await lab.importImage(image, 'example.org/distant:1', '--no-unpack', '--local');
  for (const [i, blob] of image.layers.entries()) {
    assert.equal((await bench.apply(blob)).digest, image.diffIds[i]);
  }
  assert.ok(client.reads >= 2);
  assertTidy(bench.store);
});

test('what is not for us goes to the next differ', async (t) => {
  const opened = await open(t);
  if (opened === null) return;
  const { lab, bench } = opened;
  const image = buildImage([sampleTars()[0]!]);
  await lab.importImage(image, 'example.org/one:1', '--no-unpack', '--local');
  const [blob] = image.layers;
  const unsupported = { code: 'containerd/unsupported' };
  for (const mediaType of [
    'application/vnd.oci.image.layer.v1.tar+gzip+encrypted',
    'application/vnd.oci.image.layer.v1.tar+xz',
    'application/octet-stream',
  ]) {
    await assert.rejects(bench.apply(blob!, { mediaType }), unsupported, mediaType);
  }
  assert.deepEqual(bench.exposed, [1, 1, 1]);
  bench.next = null;
  await assert.rejects(bench.apply(blob!), unsupported);
  assert.equal(bench.exposed.length, 3);
  assert.equal(hasLayer(bench.store, image.diffIds[0]!), false);
});

test('a blob is read in the namespace of the caller, and must be what its descriptor says', async (t) => {
  const opened = await open(t);
  if (opened === null) return;
  const { lab, bench } = opened;
  const image = buildImage([sampleTars()[0]!]);
  await lab.importImage(image, 'example.org/one:1', '--no-unpack', '--local');
  const [blob] = image.layers;
  const metadata = new Metadata();
  metadata.set('containerd-namespace', 'elsewhere');
  await assert.rejects(bench.applier.apply(blob!, NO_MOUNTS, { metadata }), { code: 'containerd/not-found' });
  await assert.rejects(bench.apply(blob!, { size: blob!.size + 1 }), { code: 'store/mismatch' });
  await assert.rejects(bench.apply(blob!, { digest: sha256(Buffer.from('no')) }), {
    code: 'containerd/not-found',
  });
  assert.deepEqual([...bench.layers], []);
  await lab.stopContainerd();
  await assert.rejects(bench.apply(blob!), { code: 'containerd/unavailable' });
  await lab.startContainerd();
  assert.equal((await bench.apply(blob!)).digest, image.diffIds[0]);
});

test('a damaged layer is an error that leaves nothing', async (t) => {
  const opened = await open(t);
  if (opened === null) return;
  const { lab, bench } = opened;
  const tar = archive(file('a', noise(1000)));
  const image = buildImage([
    { tar: Buffer.concat([tar.subarray(0, 1200), Buffer.alloc(2000, 'x')]), compression: 'none' },
  ]);
  await lab.importImage(image, 'example.org/bad:1', '--no-unpack', '--local');
  await assert.rejects(bench.apply(image.layers[0]!), { code: 'tar/corrupt' });
  assertTidy(bench.store);
  assert.deepEqual(readdirSync(bench.store.layout.layers), []);
});

test('many callers of one blob: it is converted once; one that goes away stops nobody', async (t) => {
  const opened = await open(t);
  if (opened === null) return;
  const { lab, bench } = opened;
  const tars = [1, 2, 3, 4].map((seed) => archive(dir('d'), file(`d/${seed}`, noise(8 << 20, seed))));
  const image = buildImage(tars);
  await lab.importImage(image, 'example.org/large:1', '--no-unpack', '--local');
  const gone = new AbortController();
  const first = bench.apply(image.layers[0]!, {}, gone.signal);
  const others = Array.from({ length: 20 }, (_, i) => bench.apply(image.layers[i % 4]!));
  gone.abort();
  await assert.rejects(first, { code: 'io/cancelled' });
  for (const [i, applied] of (await Promise.all(others)).entries())
    assert.equal(applied.digest, image.diffIds[i % 4]);
  assertTidy(bench.store);
});

test('a cancelled call leaves nothing, also of what was begun ahead', async (t) => {
  const opened = await open(t);
  if (opened === null) return;
  const { lab, bench } = opened;
  const image = buildImage([1, 2, 3].map((seed) => archive(file(`${seed}`, noise(16 << 20, seed)))));
  await lab.importImage(image, 'example.org/large:2', '--no-unpack', '--local');
  const gone = new AbortController();
  const applied = bench.apply(image.layers[0]!, {}, gone.signal);
  setTimeout(() => gone.abort(), 50);
  await assert.rejects(applied, { code: 'io/cancelled' });
  await bench.applier.close();
  assertTidy(bench.store);
  await gc(bench.store);
  assert.deepEqual(readdirSync(bench.store.layout.layers), []);
});

test('a layer that gets no lease leaves nothing', async (t) => {
  const opened = await open(t);
  if (opened === null) return;
  const { lab, bench } = opened;
  const image = buildImage(sampleTars().slice(0, 2));
  await lab.importImage(image, 'example.org/two:1', '--no-unpack', '--local');
  const { leases } = bench.store.layout;
  rmSync(leases, { recursive: true });
  await assert.rejects(bench.apply(image.layers[0]!), { code: 'io/failed' });
  await bench.applier.close();
  mkdirSync(leases);
  assertTidy(bench.store);
  assert.deepEqual([readdirSync(bench.store.layout.layers), bench.garbage], [[], 0]);
});

test('whoever fails with a layer leaves garbage, and it is told of; what listens and fails stops nobody', async (t) => {
  const opened = await open(t);
  if (opened === null) return;
  const { lab, bench } = opened;
  const image = buildImage(sampleTars().slice(0, 2));
  await lab.importImage(image, 'example.org/two:1', '--no-unpack', '--local');
  bench.onImage = () => {
    throw new Error('no more files');
  };
  bench.onAdd = () => {
    throw new Error('no');
  };
  await assert.rejects(bench.apply(image.layers[0]!), /^Error: no$/);
  bench.onAdd = () => {};
  for (const blob of image.layers) await bench.apply(blob);
  assert.equal(bench.garbage, 1);
  assert.deepEqual(bench.problems, ['tell of a new layer']);
});

test('a blob that comes in is converted; after the end nothing is begun', async (t) => {
  const opened = await open(t);
  if (opened === null) return;
  const { lab, bench } = opened;
  const image = buildImage(sampleTars().slice(0, 2));
  await lab.importImage(image, 'example.org/two:1', '--no-unpack', '--local');
  const [first, second] = image.layers;
  await bench.applier.blobArrived(first!.digest, BigInt(first!.size), bench.call);
  const { applier } = bench;
  while (!hasLayer(bench.store, image.diffIds[0]!)) await delay(10);
  const late = applier.blobArrived(second!.digest, BigInt(second!.size), bench.call);
  await applier.close();
  await late;
  await applier.blobArrived(second!.digest, BigInt(second!.size), bench.call);
  await assert.rejects(bench.apply(second!), { code: 'io/cancelled' });
  assert.equal(hasLayer(bench.store, image.diffIds[1]!), false);
  assertTidy(bench.store);
});

test('a stored layer that is swept in the same moment is converted again', async (t) => {
  const opened = await open(t);
  if (opened === null) return;
  const { lab, bench } = opened;
  const image = buildImage([sampleTars()[0]!]);
  await lab.importImage(image, 'example.org/one:1', '--no-unpack', '--local');
  await bench.apply(image.layers[0]!);
  let swept: Promise<unknown> | null = null;
  bench.onAdd = () => {
    swept ??= gc(bench.store);
  };
  const targets = bench.addLayer.bind(bench);
  bench.addLayer = async (id, diffId) => {
    bench.onAdd();
    await swept;
    return targets(id, diffId);
  };
  assert.equal((await bench.apply(image.layers[0]!)).digest, image.diffIds[0]);
  assert.ok(hasLayer(bench.store, image.diffIds[0]!));
  assertTidy(bench.store);
});

const LAYER = 'application/vnd.oci.image.layer.v1.tar';

/** Has containerd remove all that nothing refers to, as it does on its own from time to time. */
async function collect(lab: ContainerdLab): Promise<void> {
  await lab.ctr('leases', 'create', '--id', 'gone');
  await lab.ctr('leases', 'rm', '--sync', 'gone');
}

test('a layer over its parent is its own tar: gzip, zstd, plain, always the same blob', async (t) => {
  const opened = await open(t);
  if (opened === null) return;
  const { lab, bench } = opened;
  const tars = sampleTars();
  const image = buildImage(tars);
  await lab.importImage(image, 'example.org/three:1', '--no-unpack', '--local');
  for (const blob of image.layers) await bench.apply(blob);
  const [base, change] = image.diffIds;
  const below = { layers: [base!], upper: null, lower: null };
  const above = { layers: [base!, change!], upper: null, lower: null };
  const inflate: Record<string, (bytes: Buffer) => Buffer> = {
    '': gunzipSync,
    [`${LAYER}+gzip`]: gunzipSync,
    [`${LAYER}+zstd`]: zstdDecompressSync,
    [LAYER]: (bytes) => bytes,
  };
  // Clients ask for a difference under a lease, which keeps the blob until something refers to it.
  bench.call.metadata.set('containerd-lease', (await lab.ctr('leases', 'create')).trim());
  const make = (mediaType: string, ref = '', labels = {}) => {
    bench.views = [below, above];
    const sides = { left: NO_MOUNTS, right: NO_MOUNTS };
    return compareSnapshots(bench.store, bench.client, bench, sides, { mediaType, ref, labels }, bench.call);
  };
  for (const [mediaType, plain] of Object.entries(inflate)) {
    const blob = await make(mediaType);
    await collect(lab);
    assert.equal(blob.mediaType, mediaType === '' ? `${LAYER}+gzip` : mediaType);
    const bytes = await bench.read(blob.digest);
    assert.equal(sha256(bytes), blob.digest);
    assert.equal(bytes.length, blob.size);
    assert.ok(plain(bytes).equals(tars[1]!));
    const { labels } = await blobInfo(bench.client, blob.digest, bench.call);
    if (mediaType !== LAYER) assert.equal(labels['containerd.io/uncompressed'], change);
    assert.deepEqual(await make(mediaType, 'a-name-of-the-caller', { mine: 'x' }), blob);
  }
  const labelled = await (async () => {
    await lab.ctr('content', 'rm', (await make(LAYER)).digest);
    return make(LAYER, 'again', { mine: 'y' });
  })();
  assert.equal((await blobInfo(bench.client, labelled.digest, bench.call)).labels.mine, 'y');
  await assert.rejects(make('application/vnd.docker.image.rootfs.diff.tar.gzip'), {
    code: 'containerd/unsupported',
  });
  assert.equal((await lab.ctr('content', 'active')).trim().split('\n').length, 1, 'no upload is left');
});
