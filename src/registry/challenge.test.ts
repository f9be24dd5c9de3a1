import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseChallenges } from './challenge.ts';

const plain = (header: string) =>
  parseChallenges(header).map(({ scheme, params }) => [scheme, Object.fromEntries(params)]);

describe('parseChallenges', () => {
  it('reads what registries send', () => {
    const realm = 'https://auth.docker.io/token';
    assert.deepEqual(
      plain(`Bearer realm="${realm}",service="registry.docker.io",scope="repository:a/b:pull,push"`),
      [['bearer', { realm, service: 'registry.docker.io', scope: 'repository:a/b:pull,push' }]],
    );
    assert.deepEqual(plain('Basic realm="a, b"'), [['basic', { realm: 'a, b' }]]);
    assert.deepEqual(plain('Basic realm=x, Bearer realm="y" , service=z'), [
      ['basic', { realm: 'x' }],
      ['bearer', { realm: 'y', service: 'z' }],
    ]);
    assert.deepEqual(plain('Negotiate, Basic realm="x"'), [
      ['negotiate', {}],
      ['basic', { realm: 'x' }],
    ]);
    assert.deepEqual(plain('BEARER Realm = "a\\"b\\\\c"'), [['bearer', { realm: 'a"b\\c' }]]);
    assert.deepEqual(plain(', ,Basic realm="x",'), [['basic', { realm: 'x' }]]);
  });

  it('gives fewer challenges rather than wrong ones', () => {
    assert.deepEqual(plain(''), []);
    assert.deepEqual(plain('"x"'), []);
    assert.deepEqual(plain('Bearer realm="unclosed'), [['bearer', {}]]);
    assert.deepEqual(plain(`Bearer realm="${'x'.repeat(20_000)}"`), []);
  });

  it('reads back what it is given', () => {
    const scheme = fc.stringMatching(/^[a-z]{1,8}$/);
    const name = fc.stringMatching(/^[a-z]{1,8}$/);
    const value = fc.string({ maxLength: 20 });
    const challenge = fc.tuple(
      scheme,
      fc.uniqueArray(fc.tuple(name, value), { selector: ([key]) => key, maxLength: 4 }),
    );
    fc.assert(
      fc.property(fc.array(challenge, { maxLength: 4 }), (challenges) => {
        const quote = (text: string): string => `"${text.replace(/["\\]/g, '\\$&')}"`;
        const header = challenges
          .map(
            ([word, params]) => `${word} ${params.map(([key, text]) => `${key}=${quote(text)}`).join(', ')}`,
          )
          .join(', ');
        assert.deepEqual(
          plain(header),
          challenges.map(([word, params]) => [word, Object.fromEntries(params)]),
        );
      }),
    );
  });

  it('ends on any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'aB=", \t\\,;é') }), (text) =>
        Array.isArray(parseChallenges(text)),
      ),
    );
    parseChallenges(`${'a '.repeat(8000)}`);
    parseChallenges(`${'a="'.repeat(5000)}`);
    parseChallenges(`x ${','.repeat(16_000)}`);
  });
});
