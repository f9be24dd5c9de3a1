/** Blobs are made into layers as they come into real containerd, and let go when nobody wants them. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type { ClientDuplexStream } from '@grpc/grpc-js';
import {
  Content,
  WriteAction,
  type WriteContentRequest,
  WriteContentRequestSchema,
  type WriteContentResponse,
} from '../../src/containerd/gen/content_pb.ts';
import { contextOf, RpcClient } from '../../src/containerd/rpc-client.ts';
import { chainOf } from '../../src/store/chain-ids.ts';
import { hasChain } from '../../src/store/chain-records.ts';
import { hasLayer } from '../../src/store/layers.ts';
import { Store } from '../../src/store/store.ts';
import { CONTAINERD_VERSIONS, type ContainerdLab, openContainerdLab } from '../support/containerd-lab.ts';
import { buildImage, compressTar, noise, sampleTars } from '../support/image-builder.ts';
import type { TestBlob } from '../support/images.ts';
import { missing } from '../support/require-tool.ts';
import { archive, file } from '../support/tar-builder.ts';

const NAME = 'example.org/arrives:1';
const VENEER = ['--snapshotter', 'veneer'] as const;

async function until(done: () => boolean): Promise<void> {
  const limit = Date.now() + 20_000;
  while (!done()) {
    assert.ok(Date.now() < limit, 'it does not come');
    await delay(50);
  }
}

test('an image is converted and merged while it is stored, gone when nobody asks, and none is then until one does', async (t) => {
  const lab = await openContainerdLab(t, '2');
  if (lab === null) return;
  const store = Store.open(lab.root);
  t.after(() => store.close());
  const image = buildImage(sampleTars());
  await lab.importImage(image, NAME, '--no-unpack');
  await until(() => image.diffIds.every((diffId) => hasLayer(store, diffId)));
  await until(() => hasChain(store, chainOf(image.diffIds)));
  assert.deepEqual(await lab.snapshots(), [], 'nobody has asked');
  await lab.ctr('images', 'rm', '--sync', NAME);
  await lab.untilEmpty();

  // It was in vain, so nothing is begun any more until somebody asks.
  await lab.importImage(image, NAME, '--no-unpack');
  await assertNothingComes(lab);
  await lab.importImage(image, NAME, ...VENEER);
  assert.equal((await lab.snapshots()).length, image.diffIds.length);
  const next = buildImage([archive(file('another', 'file'))]);
  await lab.importImage(next, 'example.org/next:1', '--no-unpack');
  await until(() => hasLayer(store, next.diffIds[0]!));
});

/** Longer than it takes to convert them, where somebody does. */
async function assertNothingComes(lab: ContainerdLab): Promise<void> {
  for (let i = 0; i < 20; i++) {
    await delay(100);
    assert.deepEqual(readdirSync(join(lab.root, 'layers')), []);
  }
}

/** An upload by hand, as a client of containerd makes it for a layer that it fetches. */
class HandUpload {
  readonly #session: ClientDuplexStream<WriteContentRequest, WriteContentResponse>;
  readonly #blob: TestBlob;
  #sent = 0;

  constructor(t: TestContext, lab: ContainerdLab, blob: TestBlob, namespace = lab.namespace) {
    const client = new RpcClient(lab.socket);
    this.#blob = blob;
    this.#session = client.open(Content.method.write, contextOf(namespace));
    this.#session.on('error', () => {});
    t.after(() => {
      this.#session.cancel();
      client.close();
    });
  }

  async #ask(request: MessageInitShape<typeof WriteContentRequestSchema>): Promise<WriteContentResponse> {
    const answer = once(this.#session, 'data');
    this.#session.write(create(WriteContentRequestSchema, request));
    return (await answer)[0] as WriteContentResponse;
  }

  async begin(): Promise<void> {
    const ref = `layer-${this.#blob.digest}`;
    await this.#ask({ action: WriteAction.STAT, ref, total: BigInt(this.#blob.size) });
  }

  async send(data: Buffer): Promise<void> {
    await this.#ask({ action: WriteAction.WRITE, offset: BigInt(this.#sent), data });
    this.#sent += data.length;
  }

  async commit(): Promise<void> {
    const { digest, size } = this.#blob;
    const total = BigInt(size);
    await this.#ask({ action: WriteAction.COMMIT, total, offset: total, expected: digest });
  }
}

/** Whether our daemon is writing a layer. */
function isAtWork(lab: ContainerdLab): boolean {
  const tmp = join(lab.root, 'tmp');
  const works = readdirSync(tmp).filter((name) => /^work-[^.]*$/.test(name));
  return works.some((name) => readdirSync(join(tmp, name)).length > 0);
}

const LARGE = buildImage([archive(file('noise', noise(3 << 20)))]);

for (const version of CONTAINERD_VERSIONS) {
  test(`containerd ${version}: a layer is converted while it is uploaded`, async (t) => {
    const lab = await openContainerdLab(t, version);
    if (lab === null) return;
    const store = Store.open(lab.root);
    t.after(() => store.close());
    const [blob] = LARGE.layers;
    const bytes = blob!.bytes;
    await lab.ctr('namespaces', 'create', lab.namespace);
    const upload = new HandUpload(t, lab, blob!);
    await upload.begin();
    await upload.send(bytes.subarray(0, 1 << 20));
    const works = (): string[] =>
      readdirSync(join(lab.root, 'tmp')).filter((name) => /^work-[^.]*$/.test(name));
    await until(() => works().some((name) => readdirSync(join(lab.root, 'tmp', name)).length > 0));
    await upload.send(bytes.subarray(1 << 20));
    // All of it is there and has its digest; that nothing is called so yet is not for us to wait for.
    await until(() => hasLayer(store, LARGE.diffIds[0]!));
    await upload.commit();
    await lab.importImage(LARGE, NAME, ...VENEER);
    assert.equal((await lab.snapshots()).length, 1);
    await lab.ctr('images', 'rm', '--sync', NAME);
    await lab.untilEmpty();
  });
}

test('what containerd left of an upload is begun with once; one that it gets when it is there again, as well', async (t) => {
  const lab = await openContainerdLab(t, '2');
  if (lab === null) return;
  const store = Store.open(lab.root);
  t.after(() => store.close());
  const [blob] = LARGE.layers;
  await lab.ctr('namespaces', 'create', lab.namespace);
  const broken = new HandUpload(t, lab, blob!);
  await broken.begin();
  await broken.send(blob!.bytes.subarray(0, 1 << 20));
  await until(() => isAtWork(lab));
  await lab.stopContainerd('SIGKILL');
  await until(() => !isAtWork(lab));
  // Longer than it takes to look for containerd again.
  for (let i = 0; i < 60; i++) {
    await delay(100);
    assert.ok(!isAtWork(lab), 'it is begun with again');
  }
  await lab.startContainerd();
  await lab.ctr('namespaces', 'create', 'another');
  await delay(3000);
  const upload = new HandUpload(t, lab, blob!, 'another');
  await upload.begin();
  await upload.send(blob!.bytes);
  await until(() => hasLayer(store, LARGE.diffIds[0]!));
});

test('an upload that claims to be a blob stops nobody who has the blob, and becomes no layer', {
  timeout: 60_000,
}, async (t) => {
  const lab = await openContainerdLab(t, '2');
  if (lab === null) return;
  const [blob] = LARGE.layers;
  await lab.ctr('namespaces', 'create', 'elsewhere');
  const endless = new HandUpload(t, lab, blob!, 'elsewhere');
  await endless.begin();
  await endless.send(compressTar(archive(file('other', noise(1 << 20, 5))), 'gzip').subarray(0, 1 << 20));
  await delay(500);
  const trickle = setInterval(() => void endless.send(Buffer.alloc(1)), 1000);
  t.after(() => clearInterval(trickle));
  await lab.importImage(LARGE, NAME, ...VENEER);
  assert.equal((await lab.snapshots()).length, 1);
  await lab.viewed('veneer', chainOf(LARGE.diffIds), async (directory) => {
    assert.ok(readFileSync(join(directory, 'noise')).equals(noise(3 << 20)));
  });
  await lab.ctr('images', 'rm', '--sync', NAME);
  await lab.untilEmpty();
});

test('--no-convert-on-arrival: layers are converted when they are asked for', async (t) => {
  const lab = await openContainerdLab(t, '2', { serve: ['--no-convert-on-arrival'] });
  if (lab === null) return;
  const image = buildImage(sampleTars());
  await lab.importImage(image, NAME, '--no-unpack');
  await assertNothingComes(lab);
  await lab.importImage(image, NAME, ...VENEER);
  assert.equal((await lab.snapshots()).length, image.diffIds.length);
});

test('what nobody asked for does not fill a disk: a full one gets nothing, a large layer is let go of on its way', async (t) => {
  if (process.getuid?.() !== 0) return missing(t, 'mounting needs root');
  const root = mkdtempSync(join(tmpdir(), 'veneer-small-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256m', 'tmpfs', root]);
  t.after(() => {
    execFileSync('umount', ['--lazy', root]);
    rmSync(root, { recursive: true });
  });
  const lab = await openContainerdLab(t, '2', { root });
  if (lab === null) return;
  writeFileSync(join(root, 'filler'), Buffer.alloc(236 << 20));
  const image = buildImage(sampleTars());
  await lab.importImage(image, NAME, '--no-unpack');
  await assertNothingComes(lab);
  rmSync(join(root, 'filler'));

  const large = buildImage([archive(file('zeros', Buffer.alloc(400 << 20)))]);
  await lab.importImage(large, 'example.org/large:1', '--no-unpack');
  await until(() => readdirSync(join(root, 'tmp')).length > 0);
  await lab.untilEmpty();
});
