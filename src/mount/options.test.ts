import assert from 'node:assert/strict';
import { test } from 'node:test';
import { attributeBits, oldFlagBits, parseOptions } from './options.ts';

test('options are read as mount(8) reads them: the last of opposites wins', () => {
  assert.deepEqual(parseOptions([], false), ['ro']);
  assert.deepEqual(parseOptions([], true), []);
  assert.deepEqual(parseOptions(['nodev,nosuid', 'noexec'], false), ['ro', 'nosuid', 'nodev', 'noexec']);
  assert.deepEqual(parseOptions(['nosuid,suid,defaults,,dev'], true), []);
  assert.deepEqual(parseOptions(['noatime,strictatime'], true), ['strictatime']);
  assert.deepEqual(parseOptions(['strictatime,relatime,nodiratime'], true), ['nodiratime']);
  assert.deepEqual(parseOptions(['ro'], false), ['ro']);
  assert.deepEqual(parseOptions(['rw'], true), []);
});

test('unknown options and contradictions are refused by name', () => {
  for (const word of ['upperdir=/x', 'device=/dev/sda', 'bind', 'constructor', '__proto__']) {
    assert.throws(() => parseOptions([word], false), { code: 'mount/bad-option', message: new RegExp(word) });
  }
  assert.throws(() => parseOptions(['rw'], false), { code: 'mount/bad-option', hint: /--rw/ });
  assert.throws(() => parseOptions(['ro'], true), { code: 'mount/bad-option' });
});

test('flags become the bits of both mount calls', () => {
  // MOUNT_ATTR_RDONLY | NOSUID | NODEV | NOATIME and MS_* of the same
  const flags = parseOptions(['nosuid,nodev,noatime'], false);
  assert.equal(attributeBits(flags), 0x17);
  assert.equal(oldFlagBits(flags), 0x407);
  assert.equal(attributeBits([]), 0);
});
