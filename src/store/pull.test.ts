import assert from 'node:assert/strict';
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  buildImage,
  changedBlobs,
  compressTar,
  memorySource,
  noise,
  sampleTars,
  temporaryDirectory,
} from '../../test/support/image-builder.ts';
import { sha256 } from '../../test/support/images.ts';
import { archive, dir, file, hardLink } from '../../test/support/tar-builder.ts';
import type { ProgressEvent } from '../progress/events.ts';
import { ensureChain } from './chains.ts';
import { openDownload } from './downloads.ts';
import { fsck } from './fsck.ts';
import { gc } from './gc.ts';
import { listImages } from './images.ts';
import { listLayers } from './layers.ts';
import { mountable } from './mountable.ts';
import { openTree } from './open-tree.ts';
import { pullImage } from './pull.ts';
import { readChainRecord } from './records.ts';
import { removeImage } from './rm.ts';
import { Store } from './store.ts';

function openStore(t: Parameters<typeof temporaryDirectory>[0], fsync = false): Store {
  const store = Store.open(join(temporaryDirectory(t), 'store'), { fsync });
  t.after(() => store.close());
  return store;
}

/** Nothing unfinished is left beside this store's own empty work directory. */
function assertTidy(store: Store, options: { downloads?: number } = {}): void {
  const { layout } = store;
  const leftovers = readdirSync(layout.tmp).filter((name) => !['downloads', 'locks'].includes(name));
  for (const name of leftovers) {
    const path = join(layout.tmp, name);
    if (statSync(path).isDirectory()) assert.deepEqual(readdirSync(path), [], path);
  }
  assert.deepEqual(readdirSync(layout.locks), []);
  assert.deepEqual(readdirSync(layout.leases), []);
  assert.equal(readdirSync(layout.downloads).length, options.downloads ?? 0);
}

test('an image is stored, found and readable', async (t) => {
  const store = openStore(t, true);
  const tars = sampleTars();
  const image = buildImage(tars);
  const record = await pullImage(store, memorySource(image, { name: 'sample:latest' }));
  assert.equal(record.name, 'sample:latest');
  assert.equal(record.platform, 'linux/amd64');
  assert.deepEqual(listImages(store), [record]);
  for (const [i, tar] of tars.entries()) {
    const layer = store.layout.layer(image.diffIds[i]!);
    assert.deepEqual(readFileSync(join(layer, 'layer.tar')), tar);
    assert.equal(statSync(join(layer, 'layer.tar')).mode & 0o777, 0o444);
  }
  assert.equal(statSync(store.layout.root).mode & 0o777, 0o700);
  assertTidy(store);
  const open = await openTree(store, record);
  const read = async (...path: string[]): Promise<string> => {
    let node = open.tree.root;
    for (const name of path) node = node.children!.get(name)!;
    const chunks: Buffer[] = [];
    for await (const chunk of open.readFile(node)) chunks.push(chunk);
    return Buffer.concat(chunks).toString('latin1');
  };
  assert.equal(await read('etc', 'hostname'), 'changed\n');
  assert.equal(open.tree.root.children!.get('etc')!.children!.has('removed'), false);
  assert.equal(await read('usr', 'bin', 'tool-link'), noise(70_000, 7).toString('latin1'));
  assert.equal(await read('srv', 'empty'), '');
  open.close();
  assert.equal((await fsck(store)).ok, true);
});

test('gzip, zstd and plain blobs of one tar are one layer', async (t) => {
  const store = openStore(t);
  const [tar] = sampleTars();
  for (const compression of ['gzip', 'zstd', 'none'] as const) {
    const opened: string[] = [];
    const image = buildImage([{ tar: tar!, compression }]);
    const source = memorySource(image, { name: compression, onOpen: (blob) => opened.push(blob) });
    await pullImage(store, source);
    assert.equal(opened.length, compression === 'gzip' ? 1 : 0, 'a layer that is there is not fetched again');
  }
  const layers = listLayers(store);
  assert.equal(layers.length, 1);
  assert.deepEqual(layers[0]!.images, ['gzip', 'none', 'zstd']);
  assert.deepEqual(
    new Set(layers[0]!.blobs),
    new Set([sha256(compressTar(tar!, 'gzip')), sha256(compressTar(tar!, 'zstd')), sha256(tar!)]),
  );
  assert.equal(layers[0]!.blob.digest, sha256(compressTar(tar!, 'gzip')), 'the others were never verified');
});

test('an image may have a layer twice, or none at all', async (t) => {
  const store = openStore(t);
  const [base, change] = sampleTars();
  const opened: string[] = [];
  const twice = buildImage([base!, change!, base!, base!]);
  await pullImage(store, memorySource(twice, { name: 'twice', onOpen: (blob) => opened.push(blob) }));
  assert.equal(opened.length, 2);
  const record = await pullImage(store, memorySource(buildImage([]), { name: 'empty' }));
  const [mount] = await mountable(store, record, 'merged');
  assert.deepEqual(mount!.devices, []);
  assert.deepEqual(await mountable(store, record, 'layers'), []);
  assert.equal((await fsck(store)).problems.length, 0);
});

test('the name moves to the new image, and other names stay', async (t) => {
  const store = openStore(t);
  const old = buildImage(sampleTars());
  await pullImage(store, memorySource(old, { name: 'app:latest' }));
  await pullImage(store, memorySource(old, { name: 'ignored' }), { name: 'app:old' });
  const fresh = buildImage(sampleTars(' again'));
  await pullImage(store, memorySource(fresh, { name: 'app:latest' }));
  assert.deepEqual(
    listImages(store).map((image) => [image.name, image.manifest.digest]),
    [
      ['app:latest', fresh.manifest.digest],
      ['app:old', old.manifest.digest],
    ],
  );
});

for (const local of [true, false]) {
  const where = local ? 'a local source' : 'a registry';
  const cases = [
    { what: 'a flipped byte', change: (bytes: Buffer) => flip(bytes, bytes.length >> 1) },
    { what: 'a flipped last byte', change: (bytes: Buffer) => flip(bytes, bytes.length - 1) },
    { what: 'a cut blob', change: (bytes: Buffer) => bytes.subarray(0, bytes.length - 9) },
    { what: 'no bytes at all', change: () => Buffer.alloc(0) },
    { what: 'a longer blob', change: (bytes: Buffer) => Buffer.concat([bytes, bytes]) },
    { what: 'something else of the same size', change: (bytes: Buffer) => noise(bytes.length) },
  ];
  for (const { what, change } of cases) {
    test(`${what} from ${where} is refused and leaves nothing`, async (t) => {
      const store = openStore(t);
      const image = buildImage(sampleTars());
      const source = memorySource(
        image,
        { local, name: 'app:latest' },
        changedBlobs(image, ({ bytes }) => change(bytes)),
      );
      await assert.rejects(pullImage(store, source), {
        name: 'VeneerError',
        code: /^(store\/mismatch|compress\/|tar\/)/,
      });
      assert.deepEqual(readdirSync(store.layout.layers), []);
      assert.deepEqual(readdirSync(store.layout.images), []);
      assertTidy(store);
      await pullImage(store, memorySource(image, { local, name: 'app:latest' }));
      assert.equal((await fsck(store)).problems.length, 0);
    });
  }
}

test('the merged image of one layer alone is the one that a merge makes', async (t) => {
  const whole = archive(
    dir('usr', { mode: 0o755 }),
    file('usr/large', noise(300_000)),
    file('etc/name', 'x'),
  );
  const changed = Buffer.from(whole);
  changed[200_000]! ^= 1;
  const unaligned = archive(file('zeros', Buffer.alloc(700)), file('half', noise(5000), { mode: 0o600 }));
  for (const [i, tars] of [[whole], [whole, changed], [unaligned], [sampleTars()[0]!]].entries()) {
    const store = openStore(t, true);
    for (const tar of tars) {
      const diffId = sha256(tar);
      const source = memorySource(buildImage([tar]), { name: `image-${diffId.slice(7, 15)}` });
      assert.equal((await pullImage(store, source, { dedupe: true })).chainId, diffId);
    }
    assertTidy(store);
    const diffId = sha256(tars.at(-1)!);
    const folder = store.layout.chain(diffId);
    const made = readChainRecord(join(folder, 'chain.json'));
    const bytes = readFileSync(join(folder, 'fsmeta.erofs'));
    assert.equal(made.version, i === 1 ? 2 : 1);
    rmSync(folder, { recursive: true });
    await ensureChain(store, [diffId]);
    assert.deepEqual(readChainRecord(join(folder, 'chain.json')), made);
    assert.ok(readFileSync(join(folder, 'fsmeta.erofs')).equals(bytes), `image ${i}`);
    assert.equal((await fsck(store)).ok, true);
  }
});

test('a layer alone that needs lower ones is refused as a merge refuses it, and leaves nothing', async (t) => {
  const store = openStore(t);
  const image = buildImage([archive(hardLink('link', 'nowhere'))]);
  await assert.rejects(pullImage(store, memorySource(image, { name: 'lone' })), { code: 'tree/invalid' });
  assert.deepEqual(readdirSync(store.layout.chains), []);
  assert.deepEqual(listImages(store), []);
  assertTidy(store);
});

test('a wrong diffID is refused though the blob is what the manifest says', async (t) => {
  const store = openStore(t);
  const [base, change] = sampleTars();
  const lying = buildImage([base!, change!], {
    diffIds: [sha256(base!), sha256(Buffer.from('something else'))],
  });
  await assert.rejects(pullImage(store, memorySource(lying)), { code: 'store/mismatch', message: /diffID/ });
  assert.equal(existsSync(store.layout.layer(sha256(Buffer.from('something else')))), false);
  assert.deepEqual(listImages(store), []);
});

test('documents with wrong digests are refused', async (t) => {
  const store = openStore(t);
  const image = buildImage(sampleTars());
  for (const field of ['manifestBytes', 'configBytes'] as const) {
    const source = memorySource(image);
    const resolve = source.resolve.bind(source);
    source.resolve = async (platform) => {
      const resolved = await resolve(platform);
      return { ...resolved, [field]: Buffer.concat([resolved[field], Buffer.from(' ')]) };
    };
    await assert.rejects(pullImage(store, source), { code: 'oci/digest-mismatch' });
  }
  assert.deepEqual(listImages(store), []);
});

test('a cut transfer is resumed where it stopped, in another process or this one', async (t) => {
  const store = openStore(t);
  const tar = archive(dir('srv'), file('srv/data', noise(500_000)));
  const image = buildImage([{ tar, compression: 'none' }]);
  const half = 1 << 18;
  const opened: number[] = [];
  const cut = memorySource(image, {
    local: false,
    onOpen: (_blob, offset) => opened.push(offset),
    onChunk(_blob, offset, chunk) {
      if (offset >= half) throw new Error('the line is cut');
      return chunk;
    },
  });
  await assert.rejects(pullImage(store, cut), { message: /the line is cut/ });
  assertTidy(store, { downloads: 1 });
  assert.equal(statSync(store.layout.download(image.layers[0]!.digest)).size, half);
  await pullImage(
    store,
    memorySource(image, { local: false, onOpen: (_blob, offset) => opened.push(offset) }),
  );
  assert.deepEqual(opened, [0, half]);
  assertTidy(store);
});

test('what an earlier download left is not trusted', async (t) => {
  const store = openStore(t);
  const tar = archive(file('data', noise(300_000)));
  const image = buildImage([{ tar, compression: 'none' }]);
  store.prepare();
  const blob = image.layers[0]!;
  for (const left of [
    noise(1000, 99),
    Buffer.concat([blob.bytes, Buffer.from('x')]),
    noise(blob.size, 98),
    blob.bytes,
  ]) {
    writeFileSync(store.layout.download(blob.digest), left);
    await pullImage(store, memorySource(image, { local: false, name: `left-${left.length}` }));
    assertTidy(store);
    removeImage(store, `left-${left.length}`);
    await gc(store);
  }
});

test('cancelling ends at once, keeps downloads and leaves no half layer', async (t) => {
  const store = openStore(t);
  const image = buildImage([{ tar: archive(file('data', noise(300_000))), compression: 'none' }]);
  const stop = new AbortController();
  const silent = memorySource(image, {
    local: false,
    onChunk(_blob, offset, chunk) {
      if (offset === 0) return chunk;
      setImmediate(() => stop.abort());
      return new Promise(() => {});
    },
  });
  await assert.rejects(pullImage(store, silent, { signal: stop.signal }), { code: 'io/cancelled' });
  assertTidy(store, { downloads: 1 });
  assert.deepEqual(listImages(store), []);
  await assert.rejects(pullImage(store, memorySource(image), { signal: stop.signal }), {
    code: 'io/cancelled',
  });
  await pullImage(store, memorySource(image, { local: false }));
  assertTidy(store);
});

test('cancelling ends what is rebuilt here, though that knows nothing of it', async (t) => {
  const store = openStore(t);
  const image = buildImage([archive(file('data', noise(300_000)))]);
  const stop = new AbortController();
  let pieces = 0;
  let released = false;
  async function* rebuilt(): AsyncGenerator<Buffer> {
    try {
      for (; pieces < 2000; pieces++) {
        if (pieces === 20) stop.abort();
        yield Buffer.alloc(1 << 18);
      }
    } finally {
      released = true;
    }
  }
  await assert.rejects(pullImage(store, memorySource(image), { rebuild: rebuilt, signal: stop.signal }), {
    code: 'io/cancelled',
  });
  assert.ok(pieces < 100, `${pieces} pieces`);
  assert.ok(released);
  assertTidy(store);
});

test('cancelling does not wait for a source that does not answer', async (t) => {
  const store = openStore(t);
  const stop = new AbortController();
  const silent = memorySource(buildImage(sampleTars()));
  const resolve = (): Promise<never> => {
    setImmediate(() => stop.abort());
    return new Promise(() => {});
  };
  await assert.rejects(pullImage(store, { ...silent, resolve }, { signal: stop.signal }), {
    code: 'io/cancelled',
  });
});

test('wrong bytes are told at once, though the source is silent after them', async (t) => {
  const store = openStore(t);
  const image = buildImage([{ tar: archive(file('data', noise(300_000))), compression: 'none' }]);
  const blob = image.layers[0]!;
  const stuck = memorySource(
    image,
    { local: false, onChunk: (_blob, offset, chunk) => (offset === 0 ? chunk : new Promise(() => {})) },
    new Map([[blob.digest, noise(blob.size, 7)]]),
  );
  await assert.rejects(pullImage(store, stuck), { code: /^tar\// });
  assertTidy(store);
});

test('a chunk that comes after the end of a download is written nowhere', async (t) => {
  const store = openStore(t);
  const image = buildImage([{ tar: archive(file('data', noise(300_000))), compression: 'none' }]);
  const descriptor = { ...image.layers[0]!, annotations: {} };
  const gate = Promise.withResolvers<void>();
  const source = memorySource(image, {
    onChunk: (_blob, offset, chunk) => (offset === 0 ? chunk : gate.promise.then(() => chunk)),
  });
  store.prepare();
  const download = openDownload(store, source, descriptor, undefined);
  const chunks = download.bytes[Symbol.asyncIterator]();
  const first = await chunks.next();
  const late = chunks.next();
  await download.dispose(true);
  // The lowest free number: that of the part.
  const path = join(store.layout.root, 'victim');
  const fd = openSync(path, 'w');
  gate.resolve();
  await late;
  await chunks.return?.();
  closeSync(fd);
  assert.equal(statSync(path).size, 0);
  assert.equal(statSync(store.layout.download(descriptor.digest)).size, first.value.length);
});

test('when one layer fails the others stop, and what was complete is used by the next try', async (t) => {
  const store = openStore(t);
  const tars = [
    archive(file('a', noise(200_000, 1))),
    archive(file('b', noise(400_000, 2))),
    archive(file('c', 'c')),
  ];
  const image = buildImage(tars);
  const broken = image.layers[1]!.digest;
  const source = memorySource(image, {
    onChunk(blob, offset, chunk) {
      if (blob === broken && offset > 300_000) throw new Error('no more of b');
      return chunk;
    },
  });
  await assert.rejects(pullImage(store, source, { concurrency: 2 }), { message: /no more of b/ });
  assertTidy(store);
  const kept = readdirSync(store.layout.layers).length;
  const events: ProgressEvent[] = [];
  await pullImage(store, memorySource(image), { onProgress: (event) => events.push(event) });
  const ends = events.filter((event) => event.type === 'end').map((event) => event.outcome);
  assert.equal(ends.filter((outcome) => outcome === 'exists').length, kept);
  assert.equal(ends.length, 4);
});

test('two pulls of the same layers do the work once', async (t) => {
  const root = join(temporaryDirectory(t), 'store');
  const image = buildImage(sampleTars());
  const opened: string[] = [];
  const stores = [Store.open(root, { fsync: false }), Store.open(root, { fsync: false })];
  const pulls = stores.flatMap((store, i) =>
    ['x', 'y'].map((name) =>
      pullImage(
        store,
        memorySource(image, { name: `${name}-${i}`, chunkSize: 2000, onOpen: (blob) => opened.push(blob) }),
      ),
    ),
  );
  await Promise.all(pulls);
  assert.equal(opened.length, 3);
  assert.equal(listImages(stores[0]!).length, 4);
  for (const store of stores) {
    assertTidy(store);
    store.close();
  }
  assert.deepEqual(readdirSync(join(root, 'tmp')).sort(), ['downloads', 'locks']);
});

test('progress tells of every layer', async (t) => {
  const store = openStore(t);
  const image = buildImage(sampleTars());
  const events: ProgressEvent[] = [];
  await pullImage(store, memorySource(image), { onProgress: (event) => events.push(event) });
  for (const [i, diffId] of image.diffIds.entries()) {
    const own = events.filter((event) => event.id === diffId);
    assert.equal(own[0]!.type, 'start');
    assert.deepEqual(own.at(-1), { type: 'end', id: diffId, outcome: 'done' });
    const advances = own.filter((event) => event.type === 'advance');
    assert.equal(advances.at(-1)!.done, image.layers[i]!.size);
  }
});

test('digests that the store does not take are refused before anything is written', async (t) => {
  const store = openStore(t);
  const image = buildImage(sampleTars().slice(0, 1), { diffIds: [`sha512:${'0'.repeat(128)}`] });
  await assert.rejects(pullImage(store, memorySource(image)), {
    code: 'store/unsupported',
    message: /sha512/,
  });
  assert.deepEqual(readdirSync(store.layout.blobs), []);
});

function flip(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at]! ^= 1;
  return copy;
}
