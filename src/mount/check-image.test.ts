import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import {
  DEVICE_SLOT,
  EROFS_SUPER_MAGIC,
  EROFS_SUPER_OFFSET,
  INCOMPAT_DEVICE_TABLE,
  SUPERBLOCK,
} from '../erofs/format.ts';
import { VeneerError } from '../errors.ts';
import { checkImage } from './check-image.ts';
import type { ErofsImage } from './types.ts';

const SLOTS = EROFS_SUPER_OFFSET + SUPERBLOCK.size;

/** Header of an image of four 512-byte blocks with two devices of two blocks each, tagged `aaa` and 64 times `b`. */
function makeHeader(): Buffer {
  const bytes = Buffer.alloc(2048);
  const put = (at: number, value: number, width: number): unknown => bytes.writeUIntLE(value, at, width);
  put(EROFS_SUPER_OFFSET + SUPERBLOCK.at.magic, EROFS_SUPER_MAGIC, 4);
  put(EROFS_SUPER_OFFSET + SUPERBLOCK.at.blkszbits, 9, 1);
  put(EROFS_SUPER_OFFSET + SUPERBLOCK.at.blocks, 4, 4);
  put(EROFS_SUPER_OFFSET + SUPERBLOCK.at.feature_incompat, INCOMPAT_DEVICE_TABLE, 4);
  put(EROFS_SUPER_OFFSET + SUPERBLOCK.at.extra_devices, 2, 2);
  put(EROFS_SUPER_OFFSET + SUPERBLOCK.at.devt_slotoff, SLOTS / DEVICE_SLOT.size, 2);
  ['aaa', 'b'.repeat(64)].forEach((tag, index) => {
    const slot = SLOTS + index * DEVICE_SLOT.size;
    bytes.write(tag, slot + DEVICE_SLOT.at.tag, 'latin1');
    put(slot + DEVICE_SLOT.at.blocks, 2, 4);
  });
  return bytes;
}

function makeImage(t: TestContext): { image: ErofsImage; dir: string } {
  const dir = mkdtempSync(join(tmpdir(), 'veneer-check-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const primary = join(dir, 'image');
  writeFileSync(primary, makeHeader());
  const devices = ['aaa', 'b'.repeat(64)].map((tag, index) => {
    const path = join(dir, `device-${index}`);
    writeFileSync(path, Buffer.alloc(1024));
    return { path, size: 1024, tag };
  });
  return { image: { primary, devices }, dir };
}

test('a sound image passes, with and without tags to compare', (t) => {
  const { image } = makeImage(t);
  assert.deepEqual(checkImage(image, 'it'), { blockSize: 512, kind: 'file' });
  const untagged = image.devices.map(({ path, size }) => ({ path, size }));
  assert.equal(checkImage({ ...image, devices: untagged }, 'it').blockSize, 512);
});

test('swapped, missing, surplus and shrunk devices are refused', (t) => {
  const { image, dir } = makeImage(t);
  const refuse = (devices: ErofsImage['devices'], code: string, message: RegExp): void =>
    assert.throws(() => checkImage({ ...image, devices }, 'layer 3 of 9'), { code, message, hint: /fsck/ });
  const [a, b] = image.devices as [ErofsImage['devices'][0], ErofsImage['devices'][0]];
  refuse([b, a], 'mount/mismatch', /device 1 of layer 3 of 9: the image was made for aaa, given is b+ /);
  refuse([a], 'mount/mismatch', /wants 2 devices, 1 are given/);
  refuse([a, b, a], 'mount/mismatch', /wants 2 devices, 3 are given/);
  refuse(
    [{ ...a, path: join(dir, 'none') }, b],
    'mount/missing',
    /device 1 of layer 3 of 9: .*none does not exist/,
  );
  writeFileSync(a.path, Buffer.alloc(512));
  // Also when the caller believes the smaller size: the image's own table wants more.
  refuse([{ ...a, size: 512 }, b], 'mount/mismatch', /has 512 bytes, expected 1024/);
});

test('a cut image, another file, a directory and an empty file are refused', (t) => {
  const { image, dir } = makeImage(t);
  const refuse = (message: RegExp): void =>
    assert.throws(() => checkImage(image, 'it'), { code: 'mount/invalid-image', message });
  for (const [bytes, message] of [
    [makeHeader().subarray(0, 2047), /has 2047 of 2048 bytes/],
    [makeHeader().subarray(0, 1100), /not an EROFS image/],
    [Buffer.alloc(0), /not an EROFS image/],
    [Buffer.alloc(4096), /not an EROFS image/],
  ] as const) {
    writeFileSync(image.primary, bytes);
    refuse(message);
  }
  mkdirSync(join(dir, 'folder'));
  assert.throws(() => checkImage({ primary: join(dir, 'folder'), devices: [] }, 'it'), {
    code: 'mount/invalid-image',
    message: /neither a file nor a block device/,
  });
});

test('a header with any bytes changed passes or is refused, nothing else', (t) => {
  const { image } = makeImage(t);
  const edits = fc.array(
    fc.tuple(fc.integer({ min: EROFS_SUPER_OFFSET, max: 1535 }), fc.integer({ min: 0, max: 255 })),
  );
  fc.assert(
    fc.property(edits, (changes) => {
      const bytes = makeHeader();
      for (const [at, value] of changes) bytes[at] = value;
      writeFileSync(image.primary, bytes);
      try {
        checkImage(image, 'it');
      } catch (error) {
        assert.ok(error instanceof VeneerError, String(error));
      }
    }),
  );
});
