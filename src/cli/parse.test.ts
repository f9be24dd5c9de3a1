import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { asText, defineCommand, manyOf } from './command.ts';

type Flags = {
  readonly long: boolean;
  readonly null: boolean;
  readonly sync: boolean;
  readonly output?: string;
  readonly kind: 'a' | 'b';
  readonly device?: readonly string[];
  readonly rw?: string;
};

const command = defineCommand<Flags, string[]>({
  name: 'try',
  brief: 'A command',
  usage: ['try'],
  examples: [],
  parameters: {
    flags: {
      long: { kind: 'boolean', brief: '', withNegated: false, default: false },
      null: { kind: 'boolean', brief: '', withNegated: false, default: false },
      sync: { kind: 'boolean', brief: '', default: true },
      output: { kind: 'parsed', parse: asText, optional: true, brief: '' },
      kind: { kind: 'enum', values: ['a', 'b'], default: 'a', brief: '' },
      device: { kind: 'parsed', parse: asText, variadic: true, optional: true, brief: '' },
      rw: { kind: 'parsed', parse: asText, optional: true, brief: '' },
    },
    aliases: { l: 'long', o: 'output' },
    positional: manyOf('THING', 'What', 0),
  },
  digits: { 0: 'null' },
  spellings: { '--rw': ['--rw=(none)'] },
  run: async () => undefined,
});

const parse = async (...words: string[]) => {
  const { flags, args } = await command.read(words);
  return { ...(flags as unknown as Flags), root: flags.root, json: flags.json, args };
};

describe('words of a command', () => {
  it('has defaults', async () => {
    const { long, sync, kind, output, device, json, args } = await parse();
    assert.deepEqual(
      { long, sync, kind, output, device, json, args },
      {
        long: false,
        sync: true,
        kind: 'a',
        output: undefined,
        device: undefined,
        json: false,
        args: [],
      },
    );
  });

  const cases: [string[], Partial<Awaited<ReturnType<typeof parse>>>][] = [
    [['-l', 'x'], { long: true, args: ['x'] }],
    [['-l0', 'x'], { long: true, null: true, args: ['x'] }],
    [['-0'], { null: true }],
    [['-lo', 'file', 'x'], { long: true, output: 'file', args: ['x'] }],
    [['-ofile'], { output: 'file' }],
    [['-o=file'], { output: 'file' }],
    [['-o', '-'], { output: '-' }],
    [['--output=a=b'], { output: 'a=b' }],
    [['--no-sync'], { sync: false }],
    [['--kind', 'b'], { kind: 'b' }],
    [['--device', 'a', '--device=b'], { device: ['a', 'b'] }],
    [['--rw', 'x'], { rw: '(none)', args: ['x'] }],
    [['--rw=dir', 'x'], { rw: 'dir', args: ['x'] }],
    [['x', '--json', '--root', '/r'], { json: true, root: '/r', args: ['x'] }],
    [['--', '-l', '--rw'], { long: false, args: ['-l', '--rw'] }],
    [['-'], { args: ['-'] }],
  ];
  for (const [words, expected] of cases) {
    it(words.join(' '), async () => {
      const parsed = await parse(...words);
      for (const [name, value] of Object.entries(expected))
        assert.deepEqual(parsed[name as 'args'], value, name);
    });
  }

  const wrong: [string[], RegExp][] = [
    [['--nope'], /no such flag: --nope/],
    [['--lon'], /no such flag: --lon; did you mean --long\?/],
    [['-x'], /no such flag: -x/],
    [['-lx'], /no such flag: -x/],
    [['-1'], /no such flag: -1/],
    [['--output'], /--output wants a value/],
    [['--output='], /--output wants a value/],
    [['-o'], /--output wants a value/],
    [['--kind', 'c'], /--kind is a or b, not "c"/],
    [['--output', 'a', '--output', 'b'], /--output is given twice/],
    [['--no-long'], /no such flag/],
    [['---'], /no such flag: ---/],
    [['--a b'], /no such flag: --a b/],
  ];
  for (const [words, message] of wrong) {
    it(`refuses ${words.join(' ')}`, async () => {
      await assert.rejects(parse(...words), { code: 'cli/usage', message });
    });
  }
});
