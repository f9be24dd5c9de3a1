import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { noise, temporaryDirectory } from '../../test/support/image-builder.ts';
import { sha256 } from '../../test/support/images.ts';
import { withCode } from '../../test/support/pull-source.ts';
import { createDelta, type Tar } from '../delta/create.ts';
import { checkLayerDelta } from './check-layer.ts';
import type { TarFile } from './tar-file.ts';

test('a new delta is held against its target, to the last byte', async (t) => {
  const folder = temporaryDirectory(t);
  const old = noise(700_000, 1);
  const now = Buffer.concat([noise(3000, 2), old.subarray(0, 600_000), noise(5000, 3)]);
  const put = (name: string, bytes: Buffer): { file: TarFile; tar: Tar } => {
    const path = join(folder, name);
    writeFileSync(path, bytes);
    const facts = { size: bytes.length };
    const digest = sha256(bytes);
    return {
      file: { ...facts, diffId: digest, path },
      tar: {
        ...facts,
        digest,
        bytes: { size: bytes.length, read: (offset, length) => bytes.subarray(offset, offset + length) },
      },
    };
  };
  const [source, target] = [put('old', old), put('now', now)];
  const path = join(folder, 'delta');
  writeFileSync(path, createDelta(target.tar, [source.tar]));
  const check = (file: TarFile): Promise<void> => checkLayerDelta(path, file, [source.file], undefined);
  await check(target.file);
  for (const at of [0, 300_000, now.length - 1]) {
    const other = Buffer.from(now);
    other[at]! ^= 1;
    const changed = { ...put('other', other).file, diffId: target.file.diffId };
    await assert.rejects(check(changed), withCode('delta/mismatch', /leads elsewhere/));
  }
  const longer = put('longer', Buffer.concat([now, Buffer.alloc(512)])).file;
  await assert.rejects(
    check({ ...longer, diffId: target.file.diffId }),
    withCode('delta/mismatch', /leads to/),
  );
});
