import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { withCode } from '../../test/support/pull-source.ts';
import { formatReference, normalizeReference, parseImageSource, parseReference } from './reference.ts';

const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`;

describe('parseReference', () => {
  const good: [text: string, normalised: string][] = [
    ['debian', 'docker.io/library/debian:latest'],
    ['debian:12', 'docker.io/library/debian:12'],
    ['library/debian', 'docker.io/library/debian:latest'],
    ['docker.io/debian', 'docker.io/library/debian:latest'],
    ['index.docker.io/debian', 'docker.io/library/debian:latest'],
    ['me/app:v1', 'docker.io/me/app:v1'],
    [`docker.io/library/x:tag@${DIGEST}`, `docker.io/library/x:tag@${DIGEST}`],
    [`x@${DIGEST}`, `docker.io/library/x@${DIGEST}`],
    ['localhost/x', 'localhost/x:latest'],
    ['localhost:5000/a/b/c:T', 'localhost:5000/a/b/c:T'],
    ['registry.example.com/a', 'registry.example.com/a:latest'],
    ['host:80/a:80', 'host:80/a:80'],
    ['UPPER/a', 'UPPER/a:latest'],
    ['127.0.0.1:5000/a', '127.0.0.1:5000/a:latest'],
    ['[::1]:5000/a', '[::1]:5000/a:latest'],
    ['[2001:db8::1]/a', '[2001:db8::1]/a:latest'],
    ['a.b/c__d.e--f_g/h', 'a.b/c__d.e--f_g/h:latest'],
    ['xn--n3h.com/a', 'xn--n3h.com/a:latest'],
    ['foo:5000', 'docker.io/library/foo:5000'],
  ];
  for (const [text, normalised] of good) {
    it(`reads ${text}`, () => {
      assert.equal(formatReference(parseReference(text)), normalised);
      assert.deepEqual(parseReference(normalised), parseReference(text));
    });
  }

  const bad = [
    ...[
      '',
      ':',
      '/',
      '@',
      'x:',
      'x@',
      ':tag',
      `@${DIGEST}`,
      '/x',
      'x/',
      'x//y',
      'Upper',
      'a.b/Upper',
      'x:.tag',
      'x:-tag',
    ],
    ...[
      `x:${'t'.repeat(129)}`,
      'x@sha256:abc',
      `x@${DIGEST.toUpperCase()}`,
      `x@md5:${'a'.repeat(32)}`,
      'a'.repeat(64),
    ],
    ...[
      'a_b.com/c',
      '-a.com/c',
      'a-.com/c',
      'a..b/c',
      'host:/x',
      'host:0/x',
      'host:65536/x',
      'host:99999999/x',
      'a/b:c/d',
    ],
    ...[
      'a.b/c___d',
      'a.b/c..d',
      'a.b/_c',
      'a.b/c_',
      'x y',
      'x\n',
      'x:a b',
      'ü',
      'a.b/ü',
      `a.b/${'x'.repeat(256)}`,
      '[::1/x',
    ],
    ...[
      './x',
      '../x',
      '/abs/x',
      '~/x',
      'x@y@z',
      'a.b/c?d',
      'a.b/c#d',
      'a.b/%2e%2e',
      'user:pw@host/x',
      '[:::::]/x',
      '[::1]x/y',
    ],
  ];
  for (const text of bad) {
    it(`refuses ${JSON.stringify(text.slice(0, 40))}`, () => {
      assert.throws(() => parseReference(text), withCode('oci/reference'));
    });
  }

  it('hints at prefixes when it looks like a path', () => {
    assert.throws(() => parseReference('./x'), { hint: /oci:DIR/ });
  });

  it('either refuses a text or gives what formats and parses to the same', () => {
    const unit = fc.constantFrom(
      ...'abz019AZ._-:/@[]% ',
      'localhost',
      'docker.io',
      DIGEST,
      '__',
      '--',
      'ü',
      '\0',
    );
    fc.assert(
      fc.property(fc.array(unit, { maxLength: 12 }), (parts) => {
        const text = parts.join('');
        const normalised = normalizeReference(text);
        if (normalised === text) return;
        assert.equal(formatReference(parseReference(normalised)), normalised);
        assert.match(normalised, /^[!-~]+$/);
      }),
      { numRuns: 2000 },
    );
  });

  it('reads long hostile text without delay', () => {
    for (const text of [
      `a${'-'.repeat(900)}`,
      `${'a-'.repeat(450)}/x`,
      `a.b/${'a_'.repeat(450)}`,
      'a'.repeat(100_000),
    ]) {
      assert.throws(() => parseReference(text), withCode('oci/reference'));
    }
  });
});

describe('parseImageSource', () => {
  it('reads every kind', () => {
    const reference = parseReference('debian');
    assert.deepEqual(parseImageSource('debian'), { kind: 'registry', reference });
    assert.deepEqual(parseImageSource('docker://debian'), { kind: 'registry', reference });
    assert.deepEqual(parseImageSource('oci:dir'), { kind: 'layout', dir: 'dir' });
    assert.deepEqual(parseImageSource('oci:/a/b:v1'), { kind: 'layout', dir: '/a/b', tag: 'v1' });
    const tag = 'docker.io/library/x:1';
    assert.deepEqual(parseImageSource(`oci:a:${tag}`), { kind: 'layout', dir: 'a', tag });
    assert.deepEqual(parseImageSource(`oci:a@b@${DIGEST}`), { kind: 'layout', dir: 'a@b', digest: DIGEST });
    assert.deepEqual(parseImageSource('oci:a@b'), { kind: 'layout', dir: 'a@b' });
    assert.deepEqual(parseImageSource('docker-archive:x.tar'), { kind: 'docker-archive', file: 'x.tar' });
    const named = { kind: 'docker-archive', file: 'x.tar', name: 'debian:12' };
    assert.deepEqual(parseImageSource('docker-archive:x.tar:debian:12'), named);
    assert.deepEqual(parseImageSource('oci-archive:x.tar:debian:12'), named);
  });

  it('refuses what is none', () => {
    for (const text of [
      '',
      'oci:',
      'oci::tag',
      'oci:dir:',
      'docker-archive:',
      `oci:@${DIGEST}`,
      'https://x/y',
      'oci:a\0b',
    ]) {
      assert.throws(() => parseImageSource(text), withCode('oci/reference'), text);
    }
  });
});
