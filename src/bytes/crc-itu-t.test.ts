import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crcItuT } from './crc-itu-t.ts';

test('check values', () => {
  // CRC-16/XMODEM of "123456789", and the example of ECMA-167 1/7.2.6: the bytes 70 6A 77 have the CRC 3299
  assert.equal(crcItuT(Buffer.from('123456789')), 0x31c3);
  assert.equal(crcItuT(Buffer.from([0x70, 0x6a, 0x77])), 0x3299);
  assert.equal(crcItuT(Buffer.alloc(0)), 0);
});

test('a part of a buffer', () => {
  assert.equal(crcItuT(Buffer.from('..123456789..'), 2, 11), 0x31c3);
});
