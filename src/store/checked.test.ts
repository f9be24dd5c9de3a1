import assert from 'node:assert/strict';
import { chmodSync, existsSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import {
  buildImage,
  memorySource,
  sampleTars,
  temporaryDirectory,
} from '../../test/support/image-builder.ts';
import { findChainRecord } from './chain-records.ts';
import { fsck } from './fsck.ts';
import { CHAIN_IMAGE } from './layout.ts';
import { mountable } from './mountable.ts';
import { pullImage } from './pull.ts';
import type { ImageRecord } from './records.ts';
import { Store } from './store.ts';
import { verify } from './verify.ts';

async function sample(t: TestContext): Promise<{ store: Store; record: ImageRecord; primary: string }> {
  const store = Store.open(join(temporaryDirectory(t), 'store'), { fsync: false });
  t.after(() => store.close());
  const record = await pullImage(store, memorySource(buildImage(sampleTars())), { name: 'app:1' });
  return { store, record, primary: join(store.layout.chain(record.chainId), CHAIN_IMAGE) };
}

/** Another last byte, in the same inode. */
function change(path: string): void {
  const bytes = readFileSync(path);
  bytes[bytes.length - 1]! ^= 1;
  chmodSync(path, 0o644);
  writeFileSync(path, bytes);
}

describe('the metadata image before a mount', () => {
  const refused = { code: 'store/mismatch', message: /its digest is/ };

  test('is hashed', async (t) => {
    const { store, record, primary } = await sample(t);
    change(primary);
    await assert.rejects(mountable(store, record, 'merged'), refused);
    await assert.rejects(mountable(store, record, 'merged'), refused);
  });

  test('is hashed again after a change that keeps size and time of modification', async (t) => {
    const { store, record, primary } = await sample(t);
    await mountable(store, record, 'merged');
    await mountable(store, record, 'merged');
    const { atime, mtime } = statSync(primary);
    change(primary);
    utimesSync(primary, atime, mtime);
    await assert.rejects(mountable(store, record, 'merged'), refused);
  });

  test('is hashed again when the note is of another file', async (t) => {
    const { store, record, primary } = await sample(t);
    await mountable(store, record, 'merged');
    const copy = readFileSync(primary);
    copy[copy.length - 1]! ^= 1;
    rmSync(primary);
    writeFileSync(primary, copy);
    await assert.rejects(mountable(store, record, 'merged'), refused);
  });

  test('is not read while its inode is the one that was right', async (t) => {
    const { store, record, primary } = await sample(t);
    await mountable(store, record, 'merged');
    change(primary);
    const { ino, ctimeNs, size } = statSync(primary, { bigint: true });
    const chain = findChainRecord(dirname(primary), record.chainId)!;
    writeFileSync(`${primary}.checked`, `${chain.image.digest} ${ino}:${ctimeNs}:${size}\n`);
    await mountable(store, record, 'merged');
    const problems = (await verify(store)).problems.map(({ path }) => path);
    assert.ok(problems.includes(primary), 'but verify reads it all the same');
    writeFileSync(`${primary}.checked`, 'rubbish');
    await assert.rejects(mountable(store, record, 'merged'), refused);
  });

  test('is noted when it has been as it is for a while', async (t) => {
    const { store, record, primary } = await sample(t);
    await mountable(store, record, 'merged');
    assert.equal(existsSync(`${primary}.checked`), false, 'it may still change within one tick of the clock');
    await setTimeout(2100);
    await mountable(store, record, 'merged');
    const { ino } = statSync(primary);
    assert.match(readFileSync(`${primary}.checked`, 'utf8'), new RegExp(`^sha256:[0-9a-f]{64} ${ino}:`));
  });

  test('has no strangers beside it', async (t) => {
    const { store, record } = await sample(t);
    await setTimeout(2100);
    await mountable(store, record, 'merged');
    await mountable(store, record, 'layers');
    const { problems } = await fsck(store, {});
    assert.deepEqual(problems, []);
  });
});
