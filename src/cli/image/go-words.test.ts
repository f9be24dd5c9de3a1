import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { VeneerError } from '../../errors.ts';
import { type GoFlag, readGoWords } from './go-words.ts';

const KNOWN = new Map<string, GoFlag>([
  ['on', { key: 'on', kind: 'switch' }],
  ['a.text', { key: 'text', kind: 'text' }],
  ['t', { key: 'text', kind: 'text' }],
  ['many', { key: 'many', kind: 'texts' }],
]);
const read = (...words: string[]) => readGoWords({ name: 'image x' }, KNOWN, ['ARG'], words);

describe("words as Go's flag package reads them", () => {
  it('flags and arguments in any order', () => {
    const { flags, args } = read('--many', '-a', 'word', '-many=', '--on', '-a.text', '--', '--many=x\ny');
    assert.deepEqual(flags as unknown, { on: true, many: ['-a', '', 'x\ny'], text: '--' });
    assert.deepEqual(args, ['word']);
  });

  it('the last value counts; switches take one behind "="', () => {
    assert.deepEqual(read('-t', '1', '--a.text=2', '--on', '--on=false', 'x').flags as unknown, {
      on: false,
      many: [],
      text: '2',
    });
  });

  it('"--" ends the flags', () => assert.deepEqual(read('--', '--on').args, ['--on']));

  it('says which word is wrong', () => {
    const cases: [words: string[], reason: RegExp][] = [
      [['x', '--nope=1'], /no such flag: --nope/],
      [['x', '--=1'], /no such flag: --=1/],
      [['x', '---on'], /no such flag: ---on/],
      [['x', '--on=maybe'], /--on is true or false, not "maybe"/],
      [['x', '--many'], /--many wants a value/],
      [['x', 'y'], /one argument too many: "y"/],
      [[], /ARG is missing/],
      [[''], /an argument is empty/],
    ];
    for (const [words, reason] of cases)
      assert.throws(
        () => read(...words),
        (error) => error instanceof VeneerError && error.code === 'cli/usage' && reason.test(error.message),
        words.join(' '),
      );
  });
});
