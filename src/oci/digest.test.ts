import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { withCode } from '../../test/support/pull-source.ts';
import { chainId, chainIds, checkDigest, digestOf, isDigest, parseDigest } from './digest.ts';

const hex = (length: number) =>
  fc.string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: length, maxLength: length });

describe('parseDigest', () => {
  it('takes sha256 and sha512', () => {
    fc.assert(
      fc.property(hex(64), hex(128), (short, long) => {
        assert.deepEqual(parseDigest(`sha256:${short}`), { algorithm: 'sha256', hex: short });
        assert.deepEqual(parseDigest(`sha512:${long}`), { algorithm: 'sha512', hex: long });
      }),
    );
  });

  it('takes nothing else', () => {
    const good = 'a'.repeat(64);
    const bad = [
      ...[
        '',
        ':',
        'sha256',
        'sha256:',
        good,
        `sha256:${good}a`,
        `sha256:${good.slice(1)}`,
        `sha256:${good.toUpperCase()}`,
      ],
      ...[
        `SHA256:${good}`,
        `sha384:${good}`,
        `sha512:${good}`,
        ` sha256:${good}`,
        `sha256:${good}\n`,
        `sha256:${good.slice(1)}g`,
      ],
      ...[`sha256:../${good.slice(3)}`, `sha256+b64:${good}`, `sha256:${'１'.repeat(64)}`],
    ];
    for (const text of bad) {
      assert.equal(isDigest(text), false, text);
      assert.throws(() => parseDigest(text), withCode('oci/digest'));
    }
  });

  it('takes no arbitrary text', () => {
    fc.assert(fc.property(fc.string(), (text) => !isDigest(text)));
  });
});

describe('digestOf and checkDigest', () => {
  it('agree with node:crypto', () => {
    fc.assert(
      fc.property(
        fc.uint8Array(),
        fc.constantFrom('sha256' as const, 'sha512' as const),
        (bytes, algorithm) => {
          const digest = digestOf(bytes, algorithm);
          assert.equal(digest, `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`);
          checkDigest(bytes, digest, 'x');
          assert.throws(
            () => checkDigest(Buffer.concat([bytes, Buffer.from('!')]), digest, 'x'),
            withCode('oci/digest-mismatch'),
          );
        },
      ),
    );
  });
});

describe('chainId', () => {
  const a = `sha256:${'a'.repeat(64)}`;
  const b = `sha256:${'b'.repeat(64)}`;
  const c = `sha256:${'c'.repeat(64)}`;

  it('follows the definition', () => {
    const ab = `sha256:${createHash('sha256').update(`${a} ${b}`).digest('hex')}`;
    const abc = `sha256:${createHash('sha256').update(`${ab} ${c}`).digest('hex')}`;
    assert.equal(chainId([a]), a);
    assert.equal(chainId([a, b]), ab);
    assert.deepEqual(chainIds([a, b, c]), [a, ab, abc]);
    assert.deepEqual(chainIds([]), []);
  });

  it('refuses an empty list and bad digests', () => {
    assert.throws(() => chainId([]), withCode('oci/invalid'));
    assert.throws(() => chainId([a, 'x']), withCode('oci/digest'));
  });
});
