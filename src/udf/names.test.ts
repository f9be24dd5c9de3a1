import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeName, decodeTarget, encodeName, encodeTarget, whyNoName } from './names.ts';

const latin1 = (text: string): string => Buffer.from(text, 'utf8').toString('latin1');

const byteName = fc
  .uint8Array({ minLength: 1, maxLength: 254 })
  .map((bytes) => Buffer.from(bytes).toString('latin1').replace(/[/\0]/g, '_'));

test('every name of up to 254 bytes comes back as bytes', () => {
  fc.assert(
    fc.property(byteName, (name) => {
      fc.pre(!/^\.+[^.]{1,4}$/s.test(name));
      assert.equal(whyNoName(name, 'bytes'), null);
      const encoded = encodeName(name, 'bytes');
      assert.equal(encoded.length, name.length + 1);
      assert.equal(decodeName(encoded, 'bytes'), name);
    }),
  );
});

test('every UTF-8 name that is held comes back through Unicode', () => {
  const text = fc
    .string({ unit: 'binary', minLength: 1, maxLength: 130 })
    .map((name) => name.replace(/[/\0]/g, '_'));
  fc.assert(
    fc.property(text, (name) => {
      const bytes = latin1(name);
      if (whyNoName(bytes, 'unicode') !== null) {
        assert.ok(name.length > 127 || bytes.length > 254 || name.startsWith('..'));
        return;
      }
      const encoded = encodeName(bytes, 'unicode');
      assert.ok(encoded.length <= 255);
      assert.equal(decodeName(encoded, 'unicode'), bytes);
    }),
    { numRuns: 200 },
  );
});

test('the shortest of both forms', () => {
  assert.equal(encodeName('abc', 'unicode'), '\x08abc');
  assert.equal(encodeName(latin1('é'), 'unicode'), '\x08\xe9');
  assert.equal(encodeName(latin1('aЖ'), 'unicode'), '\x10\x00a\x04\x16');
  assert.equal(encodeName(latin1('😀'), 'unicode'), '\x10\xd8\x3d\xde\x00');
});

test('names that have no place say why', () => {
  assert.match(whyNoName('x'.repeat(255), 'bytes')!, /255 bytes/);
  assert.match(whyNoName('\xff', 'unicode')!, /not UTF-8/);
  assert.match(whyNoName(latin1('\ud800'), 'unicode') ?? 'x', /./);
  assert.match(whyNoName(latin1('Ж'.repeat(127)), 'unicode') ?? '', /^$/);
  assert.match(whyNoName(latin1(`${'Ж'.repeat(126)}aa`), 'unicode')!, /128 UTF-16 units/);
});

test('names that Linux would show as others have no place', () => {
  for (const name of [
    '..a',
    '..two',
    '...',
    '....',
    '...two',
    '..four',
    '..seven',
    '....two',
    '.x',
    '..',
    'a..b',
  ]) {
    const shown = ['..a', '..two', '...two', '..four'].includes(name);
    assert.equal(whyNoName(name, 'bytes') !== null, shown, name);
    assert.equal(whyNoName(name, 'unicode') !== null, shown, name);
  }
  // characters count, and in bytes each byte is one
  assert.match(whyNoName(latin1('..имя'), 'unicode')!, /another name/);
  assert.equal(whyNoName(latin1('..имя'), 'bytes'), null);
  assert.match(encodeTarget('d/..two', 'bytes') as string, /in the target, Linux/);
});

test('damaged names are no names', () => {
  assert.equal(decodeName('', 'bytes'), null);
  assert.equal(decodeName('\x10a', 'unicode'), null);
  assert.equal(decodeName('\x09a', 'bytes'), null);
});

const parts = fc.array(fc.oneof(fc.constantFrom('.', '..', 'a', 'usr'), byteName), {
  minLength: 1,
  maxLength: 6,
});

test('targets come back; slashes too many are told', () => {
  fc.assert(
    fc.property(fc.boolean(), parts, (absolute, names) => {
      const clean = names.map((name) => name.replaceAll('/', '_')).filter((name) => name !== '');
      fc.pre(clean.length > 0);
      const target = (absolute ? '/' : '') + clean.join('/');
      const encoded = encodeTarget(target, 'bytes');
      if (typeof encoded === 'string') {
        assert.match(encoded, /does not fit one block|254/);
        return;
      }
      assert.equal(encoded.shortened, false);
      assert.equal(decodeTarget(encoded.encoded, 'bytes'), target);
      const doubled = encodeTarget(`${target}//x/`, 'bytes');
      if (typeof doubled !== 'string') {
        assert.equal(doubled.shortened, true);
        assert.equal(decodeTarget(doubled.encoded, 'bytes'), `${target}/x`);
      }
    }),
  );
});

test('the root, and nothing but slashes', () => {
  const root = encodeTarget('/', 'bytes');
  assert.deepEqual(root, { encoded: '\x02\0\0\0', shortened: false });
  assert.equal((encodeTarget('//', 'bytes') as { shortened: boolean }).shortened, true);
  assert.equal(decodeTarget('\x05\xff\0\0a', 'bytes'), null);
  assert.equal(decodeTarget('\x05', 'bytes'), null);
});
