import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from 'smol-toml';
import { VeneerError } from '../errors.ts';
import { containerdConfig, parseVersion } from './print-config.ts';

const ADDRESS = '/run/veneer "x"/veneer.sock';

test('versions as containerd and distributions write them', () => {
  for (const [text, expected] of [
    ['2.1', [2, 1, 0]],
    ['v1.7.24', [1, 7, 24]],
    ['1.7.24~ds1', [1, 7, 24]],
    ['2.1.9', [2, 1, 9]],
  ] as const) {
    const { major, minor, patch } = parseVersion(text);
    assert.deepEqual([major, minor, patch], expected);
  }
  assert.throws(() => parseVersion('latest'), /latest/);
});

test('the stanza is TOML that names both proxies, and the differ first', () => {
  for (const version of ['1.7.4', '1.7.24', '2.0.0', '2.1.9', '2.2.0']) {
    const config = parse(containerdConfig(parseVersion(version), ADDRESS, 'linux/amd64')) as Record<
      string,
      unknown
    >;
    assert.equal(config.version, version.startsWith('1.') ? 2 : 3);
    const proxies = config.proxy_plugins as Record<string, Record<string, unknown>>;
    assert.deepEqual(
      Object.values(proxies).map(({ type }) => type),
      ['snapshot', 'diff'],
    );
    for (const { address } of Object.values(proxies)) assert.equal(address, ADDRESS);
    assert.equal('capabilities' in proxies.veneer!, version !== '1.7.4');
    const plugins = config.plugins as Record<string, Record<string, unknown>>;
    assert.deepEqual(plugins['io.containerd.service.v1.diff-service']!.default, ['veneer-diff', 'walking']);
  }
});

test('a containerd without proxy differs is refused', () => {
  for (const version of ['1.6.20', '1.7.3', 'v1.7.0'])
    assert.throws(
      () => containerdConfig(parseVersion(version), ADDRESS, 'linux/amd64'),
      (error) =>
        error instanceof VeneerError && error.code === 'serve/config' && error.message.includes(version),
    );
  containerdConfig(parseVersion('1.7'), ADDRESS, 'linux/amd64');
});
