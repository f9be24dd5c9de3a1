import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { withCode } from '../../test/support/pull-source.ts';
import {
  compatiblePlatforms,
  formatPlatform,
  hostPlatform,
  normalizePlatform,
  parsePlatform,
  rankPlatform,
} from './platform.ts';

const list = (text: string): string[] => compatiblePlatforms(parsePlatform(text)).map(formatPlatform);

describe('parsePlatform', () => {
  it('normalises', () => {
    const cases: [string, string][] = [
      ['linux/amd64', 'linux/amd64'],
      ['Linux/X86_64', 'linux/amd64'],
      ['linux/x86-64/v1', 'linux/amd64'],
      ['linux/amd64/v3', 'linux/amd64/v3'],
      ['linux/aarch64', 'linux/arm64'],
      ['linux/arm64/v8', 'linux/arm64'],
      ['linux/arm64/8', 'linux/arm64'],
      ['linux/arm64/v9', 'linux/arm64/v9'],
      ['linux/arm', 'linux/arm/v7'],
      ['linux/arm/6', 'linux/arm/v6'],
      ['linux/armhf', 'linux/arm/v7'],
      ['linux/armel', 'linux/arm/v6'],
      ['linux/i386', 'linux/386'],
      ['macos/arm64', 'darwin/arm64'],
      ['riscv64', 'linux/riscv64'],
      ['arm64', 'linux/arm64'],
      ['windows', `windows/${hostPlatform().architecture}`],
    ];
    for (const [text, expected] of cases) assert.equal(formatPlatform(parsePlatform(text)), expected, text);
    assert.equal(formatPlatform(normalizePlatform('', '')), 'unknown/unknown', 'a config that says nothing');
  });

  it('refuses what is none', () => {
    for (const text of [
      '',
      '/',
      'linux/',
      'a/b/c/d',
      'linux/amd 64',
      'linux/ü',
      'linux//v8',
      `linux/${'x'.repeat(65)}`,
    ]) {
      assert.throws(() => parsePlatform(text), withCode('oci/platform'), text);
    }
  });

  it('gives what formats and parses to the same', () => {
    const word = fc.constantFrom(
      'linux',
      'amd64',
      'arm',
      'arm64',
      'v1',
      'v7',
      'v8',
      '8',
      'v9.2',
      'i386',
      'x',
      'MacOS',
    );
    fc.assert(
      fc.property(word, word, fc.option(word), (os, architecture, variant) => {
        const platform = parsePlatform([os, architecture, ...(variant === null ? [] : [variant])].join('/'));
        assert.deepEqual(parsePlatform(formatPlatform(platform)), platform);
        assert.equal(rankPlatform(platform, platform), 0);
      }),
    );
  });
});

describe('compatiblePlatforms', () => {
  it('goes down as containerd does', () => {
    assert.deepEqual(list('linux/amd64'), ['linux/amd64', 'linux/386']);
    assert.deepEqual(list('linux/amd64/v3'), [
      'linux/amd64/v3',
      'linux/amd64/v2',
      'linux/amd64',
      'linux/386',
    ]);
    assert.deepEqual(list('linux/arm/v7'), ['linux/arm/v7', 'linux/arm/v6', 'linux/arm/v5']);
    assert.deepEqual(list('linux/arm64'), [
      'linux/arm64',
      'linux/arm/v8',
      'linux/arm/v7',
      'linux/arm/v6',
      'linux/arm/v5',
    ]);
    assert.deepEqual(list('linux/arm64/v8.2').slice(0, 4), [
      'linux/arm64/v8.2',
      'linux/arm64/v8.1',
      'linux/arm64',
      'linux/arm/v8',
    ]);
    assert.deepEqual(list('linux/arm64/v9.1').slice(0, 5), [
      ...['linux/arm64/v9.1', 'linux/arm64/v9', 'linux/arm64/v8.6', 'linux/arm64/v8.5', 'linux/arm64/v8.4'],
    ]);
    assert.deepEqual(list('linux/s390x'), ['linux/s390x']);
  });

  it('stays short for odd variants', () => {
    assert.ok(list('linux/amd64/v999999999').length < 5);
    assert.ok(list('linux/amd64/v99').length < 105);
  });
});

describe('hostPlatform', () => {
  it('is a Linux that Go knows', () => {
    assert.equal(hostPlatform().os, 'linux');
    if (process.arch === 'x64') assert.equal(formatPlatform(hostPlatform()), 'linux/amd64');
  });
});
