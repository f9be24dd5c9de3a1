import assert from 'node:assert/strict';
import {
  chmodSync,
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  buildImage,
  memorySource,
  sampleTars,
  temporaryDirectory,
} from '../../test/support/image-builder.ts';
import { missing } from '../../test/support/require-tool.ts';
import { bufferSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import { setImmutable } from '../sys/file-flags.ts';
import { HASH_BLOCK_SIZE, TreeBuilder, treeUuid, writeSuperblock } from '../verity/index.ts';
import {
  checkFsVerity,
  digestFile,
  findFsVerity,
  imageFiles,
  makeImmutable,
  sealImage,
} from './fs-verity.ts';
import { fsck } from './fsck.ts';
import { gc } from './gc.ts';
import { mountable } from './mountable.ts';
import { pullImage } from './pull.ts';
import type { ImageRecord } from './records.ts';
import { removeImage } from './rm.ts';
import { Store } from './store.ts';
import { verify } from './verify.ts';
import { ensureTree, findTree, type TreeFacts } from './verity.ts';

async function sample(t: TestContext): Promise<{ store: Store; record: ImageRecord }> {
  const store = Store.open(join(temporaryDirectory(t), 'store'), { fsync: false });
  t.after(() => store.close());
  const record = await pullImage(store, memorySource(buildImage(sampleTars())), { name: 'app:1' });
  return { store, record };
}

/** Makes a tree over some bytes. */
const makeTree =
  (bytes: Buffer, digest: string) =>
  async (fd: number): Promise<TreeFacts> => {
    const salt = Buffer.from(digest.slice(7), 'hex');
    const dataBlocks = Math.ceil(bytes.length / 512);
    const put = (chunk: Buffer, at: number): void => void writeSync(fd, chunk, 0, chunk.length, at);
    const builder = new TreeBuilder(dataBlocks, { dataBlockSize: 512, salt }, (chunk, at) =>
      put(chunk, HASH_BLOCK_SIZE + at),
    );
    const source = bufferSource(bytes);
    for (let at = 0; at < bytes.length; ) {
      const count = Math.min(builder.space.length, bytes.length - at);
      source.read(at, count).copy(builder.space);
      builder.take(count);
      at += count;
    }
    const rootHash = builder.finish().toString('hex');
    put(writeSuperblock({ dataBlockSize: 512, salt, dataBlocks, uuid: treeUuid(salt) }), 0);
    return { dataBlockSize: 512, dataBlocks, salt: salt.toString('hex'), rootHash };
  };

async function withTree(t: TestContext) {
  const { store, record } = await sample(t);
  const { digest, primary } = (await mountable(store, record, 'merged'))[0]!;
  const tree = await ensureTree(store, 'disk', digest, makeTree(readFileSync(primary), digest));
  return { store, record, digest, primary, tree };
}

function change(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at]! ^= 1;
  chmodSync(path, 0o644);
  writeFileSync(path, bytes);
}

test('a tree is made once and found again', async (t) => {
  const { store, digest, tree } = await withTree(t);
  const again = await ensureTree(store, 'disk', digest, () => assert.fail('made twice'));
  assert.deepEqual(again, tree);
  assert.deepEqual(findTree(store, 'disk', digest), tree);
  assert.equal(findTree(store, 'file', digest), null);
  assert.equal(statSync(tree.path).mode & 0o777, 0o444);
  assert.deepEqual((await fsck(store)).problems, []);
  const report = await verify(store);
  assert.deepEqual(report.problems, []);
});

test('two that make the same tree at once get one', async (t) => {
  const { store, record } = await sample(t);
  const { digest, primary } = (await mountable(store, record, 'merged'))[0]!;
  const bytes = readFileSync(primary);
  const made = await Promise.all(
    [1, 2, 3].map(() => ensureTree(store, 'file', digest, makeTree(bytes, digest))),
  );
  assert.deepEqual(made[1], made[0]);
  assert.deepEqual(made[2], made[0]);
});

test('a maker that fails leaves nothing', async (t) => {
  const { store, digest } = await withTree(t);
  await assert.rejects(
    ensureTree(store, 'file', digest, () => Promise.reject(new Error('no'))),
    /no/,
  );
  assert.equal(findTree(store, 'file', digest), null);
  assert.deepEqual(readdirSync(store.work()), []);
});

test('damage to a tree and its record is found by use, fsck and verify', async (t) => {
  const { store, digest, tree } = await withTree(t);
  const record = join(tree.path, '..', 'verity.json');
  const text = readFileSync(record, 'utf8');
  for (const [path, at] of [
    [tree.path, HASH_BLOCK_SIZE + 3],
    [record, text.indexOf(tree.rootHash) + 1],
    [record, text.indexOf(tree.salt) + 1],
    [record, text.indexOf(digest) + 20],
    [record, 0],
  ] as const) {
    const good = readFileSync(path);
    change(path, at);
    assert.throws(() => findTree(store, 'disk', digest), { code: /^store\/(?:mismatch|corrupt)$/ });
    assert.equal((await fsck(store)).ok, false);
    const { problems } = await verify(store);
    assert.ok(
      problems.some((problem) => problem.message.includes('verity')),
      JSON.stringify(problems),
    );
    writeFileSync(path, good);
  }
  // the superblock is no part of the tree proper: only its digest tells
  change(tree.path, 100);
  assert.deepEqual(
    (await verify(store)).problems.map(({ path }) => path),
    [tree.path],
  );
  change(tree.path, 100);
  writeFileSync(record, text.slice(0, 40));
  const repaired = await fsck(store, { repair: true });
  assert.equal(repaired.ok, true);
  assert.equal(findTree(store, 'disk', digest), null);
});

test('a sweep removes trees with what they protect', async (t) => {
  const { store, tree } = await withTree(t);
  await gc(store);
  assert.ok(existsSync(tree.path));
  await removeImage(store, 'app:1');
  const would = await gc(store, { dryRun: true });
  assert.ok(would.bytes > 0 && existsSync(tree.path));
  await gc(store);
  assert.equal(existsSync(tree.path), false);
});

test('fs-verity: what cannot be sealed is said, what is sealed elsewhere is not believed', async (t) => {
  const { store, record } = await withTree(t);
  const files = imageFiles(store, record);
  assert.equal(files.length, 2 * record.layers.length + 1);
  const sealed = await sealImage(store, record);
  if (sealed) {
    t.diagnostic('this file system has fs-verity: tested with it');
    for (const file of files) assert.deepEqual(checkFsVerity(store, file), { enforced: true, problem: null });
    return;
  }
  for (const file of files) assert.deepEqual(checkFsVerity(store, file), { enforced: false, problem: null });
  assert.equal((await verify(store)).fsVerity, null);
  // A record without fs-verity on the file: it was copied from elsewhere, or replaced.
  const { path, digest } = files[0]!;
  const fd = openSync(path, 'r');
  const fsVerity = await digestFile(fd, undefined);
  closeSync(fd);
  writeFileSync(store.layout.fsVerity(digest), JSON.stringify({ version: 1, digest, fsVerity }));
  assert.equal(findFsVerity(store, digest)?.fsVerity, fsVerity);
  await assert.rejects(mountable(store, record, 'merged'), {
    code: 'store/mismatch',
    message: /it was replaced/,
  });
  assert.match((await verify(store)).problems[0]!.message, /it was replaced/);
  assert.equal((await fsck(store)).ok, false);
  await removeImage(store, 'app:1');
  await gc(store);
  assert.equal(existsSync(store.layout.fsVerity(digest)), false);
});

test('the immutable flag is counted by verify, and fsck misses it on a file of an image that has it', async (t) => {
  if (process.getuid?.() !== 0) return missing(t, 'setting the flag needs root');
  const { store, record } = await withTree(t);
  const files = imageFiles(store, record);
  assert.equal((await verify(store)).immutable, 0);
  try {
    makeImmutable(store, record);
  } catch (error) {
    if (error instanceof VeneerError && error.code === 'store/unsupported') return missing(t, error.message);
    throw error;
  }
  try {
    assert.equal((await verify(store)).immutable, files.length);
    assert.deepEqual((await fsck(store)).problems, []);
    clear([files[1]!.path]);
    assert.equal((await verify(store)).immutable, files.length - 1);
    const { problems, ok } = await fsck(store);
    assert.deepEqual(
      problems.map(({ severity, path, message }) => [severity, path, message]),
      [['note', files[1]!.path, 'not immutable, as other files of app:1 are']],
    );
    assert.equal(ok, true);
  } finally {
    clear(files.map(({ path }) => path));
  }
});

function clear(paths: readonly string[]): void {
  for (const path of paths) {
    if (!existsSync(path)) continue;
    const fd = openSync(path, 'r');
    setImmutable(fd, false);
    closeSync(fd);
  }
}
