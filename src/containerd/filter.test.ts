import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { VeneerError } from '../errors.ts';
import { compileFilters, type FieldOf } from './filter.ts';

type Item = Readonly<Record<string, string>>;
const fieldOf: FieldOf<Item> = (item, path) => item[path.join('.')];

const matches = (item: Item, ...filters: string[]): boolean => compileFilters(filters, fieldOf)(item);

test('selectors, as containerd matches them', () => {
  const item = { name: 'web', 'labels.a.b': 'x,y', 'labels.empty': '' };
  const cases: [filter: string, expected: boolean][] = [
    ['', true],
    ['name', true],
    ['nothing', false],
    ['name==web', true],
    ['name=="web"', true],
    ['name==db', false],
    ['nothing==""', false],
    ['nothing!=x', true],
    ['name!=web', false],
    ['name~=^w', true],
    ['name~=/^w.b$/', true],
    ['name~=|eb|', true],
    ['name~=(', false],
    ['nothing~=^$', true],
    ['labels."a.b"=="x,y"', true],
    ['labels.a.b', true],
    ['labels.empty==""', true],
    ['name==web,labels.empty', true],
    ['name==web,nothing', false],
    ['name=="\\x77eb"', true],
    ['name=="\\u0077eb"', true],
    ['name=="\\167eb"', true],
    ['name!="\\U0010ffff"', true],
  ];
  for (const [filter, expected] of cases) assert.equal(matches(item, filter), expected, filter);
});

test('any of several filters is enough, none match everything', () => {
  assert.equal(matches({ name: 'a' }), true);
  assert.equal(matches({ name: 'a' }, 'name==b', 'name==a'), true);
  assert.equal(matches({ name: 'a' }, 'name==b', 'name==c'), false);
});

test('what is no filter is refused, and the message says where', () => {
  const cases: [filter: string, message: RegExp][] = [
    ['name=web', /character 5: an operator/],
    ['name==', /character 7: a value/],
    ['name==a b', /character 8: unexpected/],
    ['==a', /character 1: a field/],
    ['name==a,', /character 9: a field/],
    ['name=="a', /character/],
    ['name=="\\q"', /escape/],
    ['name=="\\U00110000"', /no character/],
  ];
  for (const [filter, message] of cases) {
    assert.throws(
      () => compileFilters([filter], fieldOf),
      (error) =>
        error instanceof VeneerError && error.code === 'snapshot/invalid' && message.test(error.message),
      filter,
    );
  }
});

test('any text quoted as JSON is matched as it is, and garbage never hangs', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme-ascii' }), (text) => {
      assert.ok(matches({ name: text }, `name==${JSON.stringify(text)}`));
    }),
  );
  fc.assert(
    fc.property(fc.string(), (text) => {
      try {
        matches({ name: 'x' }, text);
      } catch (error) {
        assert.ok(error instanceof VeneerError);
      }
    }),
  );
});
