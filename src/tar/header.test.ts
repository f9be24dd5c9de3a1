import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { makeHeader, putChecksum, putNumber } from '../../test/support/tar-builder.ts';
import { BLOCK, checksumMatches, detectFormat, hasMisplacedPrefix, parseNumber, sumBlock } from './header.ts';

const field = (text: string): number => parseNumber(Buffer.from(text, 'latin1'), 0, text.length);

test('octal fields: padding with spaces and NULs on either side, or none', () => {
  for (const text of [
    '0000644\0',
    '   644 \0',
    '644\0\0\0\0\0',
    '644     ',
    '\x00644\0',
    '0000644 ',
    '00000644',
    ' 644\0xyz',
  ]) {
    assert.equal(field(text), 0o644, JSON.stringify(text));
  }
  assert.equal(field('\0\0\0\0'), 0);
  assert.equal(field('    '), 0);
  assert.equal(field('777777777777'), 2 ** 36 - 1);
});

test('what is no number is NaN', () => {
  for (const text of ['8\0', '-1\0', '1x', '0x1f', 'abc', '\x7f', '+AAAA']) {
    assert.ok(Number.isNaN(field(text)), JSON.stringify(text));
  }
});

test('numbers that the builder writes come back, octal or base-256', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.maxSafeInteger(), fc.nat(), fc.bigInt(-(2n ** 94n), 2n ** 94n)),
      fc.constantFrom(8, 12),
      (value, width) => {
        const block = Buffer.alloc(width);
        const fits =
          BigInt(value) < 2n ** BigInt(width * 8 - 2) && BigInt(value) >= -(2n ** BigInt(width * 8 - 2));
        fc.pre(fits);
        putNumber(block, 0, width, value);
        const safe = Number.isSafeInteger(Number(value)) && BigInt(Number(value)) === BigInt(value);
        const want = safe ? Number(value) : value < 0 ? -Infinity : Infinity;
        assert.equal(parseNumber(block, 0, width), want);
      },
    ),
  );
});

test('base-256 at the edges of the safe integers', () => {
  const block = Buffer.alloc(12);
  for (const [value, want] of [
    [2n ** 53n - 1n, Number.MAX_SAFE_INTEGER],
    [2n ** 53n, Infinity],
    [-(2n ** 53n) + 1n, Number.MIN_SAFE_INTEGER],
    [-(2n ** 53n), -Infinity],
    [-1n, -1],
  ] as const) {
    putNumber(block, 0, 12, value);
    assert.equal(parseNumber(block, 0, 12), want, String(value));
  }
});

test('the sum of a block by words is the sum by bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: BLOCK, maxLength: BLOCK }), fc.nat(3), (bytes, shift) => {
      const block = Buffer.alloc(BLOCK + 12, 0xff);
      block.set(bytes, shift * 4);
      const words = new Int32Array(block.buffer, block.byteOffset, block.length >> 2);
      const sum = bytes.reduce((a, b) => a + b, 0);
      assert.equal(sumBlock(block, shift * 4, words, shift), sum);
      assert.equal(sumBlock(Buffer.from(bytes), 0, null, 0), sum);
    }),
  );
  const full = Buffer.alloc(BLOCK, 0xff);
  assert.equal(sumBlock(full, 0, new Int32Array(new Uint8Array(full).buffer), 0), BLOCK * 255);
});

test('both checksums are good, others are not', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: BLOCK, maxLength: BLOCK }), (bytes) => {
      const block = Buffer.from(bytes);
      const matches = (): boolean => checksumMatches(block, 0, sumBlock(block, 0, null, 0));
      putChecksum(block, 'unsigned');
      assert.ok(matches());
      putChecksum(block, 'signed');
      // A negative sum has no octal form.
      assert.equal(matches(), !block.toString('latin1', 148, 156).includes('-'));
      putChecksum(block, 'wrong');
      const high = block.filter((byte, i) => byte > 127 && (i < 148 || i >= 156)).length;
      assert.equal(matches(), false, `with ${high} high bytes`);
    }),
  );
});

test('dialects by magic', () => {
  for (const dialect of ['v7', 'ustar', 'star', 'gnu'] as const) {
    assert.equal(detectFormat(makeHeader({ name: 'x', dialect }), 0), dialect);
  }
  const withMagic = (magic: string): string =>
    detectFormat(makeHeader({ name: 'x', patch: (block) => void block.write(magic, 257, 'latin1') }), 0);
  assert.equal(withMagic('ustar\0\0\0'), 'ustar');
  assert.equal(withMagic('ustar 00'), 'v7');
  assert.equal(withMagic('USTAR\x0000'), 'v7');
});

test('a prefix in a GNU header is one only where no times can stand', () => {
  const header = (patch: (block: Buffer) => void): boolean =>
    hasMisplacedPrefix(makeHeader({ name: 'x', dialect: 'gnu', patch }), 0);
  assert.equal(
    header(() => {}),
    false,
  );
  assert.equal(
    header((block) => void block.write('usr/share', 345, 'latin1')),
    true,
  );
  assert.equal(
    header((block) => void block.write('usr/sh\xe9re', 345, 'latin1')),
    false,
  );
  assert.equal(
    header((block) => {
      putNumber(block, 345, 12, 1_600_000_000);
      putNumber(block, 357, 12, -1);
    }),
    false,
  );
});
