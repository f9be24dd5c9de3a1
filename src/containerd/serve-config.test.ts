import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { VeneerError } from '../errors.ts';
import { readServeConfig } from './serve-config.ts';

const directory = mkdtempSync(join(tmpdir(), 'veneer-config-'));
after(() => rmSync(directory, { recursive: true, force: true }));

let count = 0;
function write(text: string): string {
  const path = join(directory, `${count++}.toml`);
  writeFileSync(path, text);
  return path;
}

const refused =
  (...patterns: RegExp[]) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof VeneerError);
    assert.equal(error.code, 'serve/config');
    for (const pattern of patterns) assert.match(error.message, pattern);
    return true;
  };

test('defaults without a file', () => {
  const config = readServeConfig(null, {});
  assert.equal(config.address, '/run/veneer/veneer.sock');
  assert.equal(config.containerd, '/run/containerd/containerd.sock');
  assert.equal(config.mounts, 'overlay');
  assert.equal(config.root, undefined);
});

test('flags go before the file, the file before defaults', () => {
  const file = write('root = "/data"\nmounts = "erofs"\nlog_level = "warn"\n');
  const config = readServeConfig(file, { mounts: 'vmdk', root: undefined });
  assert.deepEqual([config.root, config.mounts, config.log_level], ['/data', 'vmdk', 'warn']);
});

test('what is wrong is named, with the file or the command line', () => {
  const cases: [text: string, patterns: RegExp[]][] = [
    ['mounts = "zfs"', [/mounts/]],
    ['adress = "/x"', [/adress/, /no such key/]],
    ['address = "relative"', [/address/, /absolute/]],
    ['conversions = -1', [/conversions/]],
    ['metrics = "nowhere"', [/metrics/]],
    ['metrics = "127.0.0.1:65536"', [/metrics/, /65535/]],
    ['root = 5', [/root/]],
    ['root = "/a:b"', [/root/]],
    ['root = "/a,b"', [/root/]],
    ['root = ', []],
  ];
  for (const [text, patterns] of cases) {
    const file = write(text);
    assert.throws(() => readServeConfig(file, {}), refused(new RegExp(file), ...patterns), text);
  }
  const file = write('mounts = "erofs"');
  assert.throws(() => readServeConfig(file, { address: 'x' }), refused(/the command line/, /address/));
  assert.throws(() => readServeConfig(join(directory, 'none.toml'), {}), refused(/none\.toml/));
  assert.throws(() => readServeConfig(file, { format: 'udf' }), refused(/erofs mounts of udf/));
});

test('where metrics may be asked', () => {
  for (const metrics of [
    'off',
    'unix:/run/x.sock',
    'unix:/run/x:70000',
    '127.0.0.1:9469',
    '[::1]:80',
    'localhost:1',
  ])
    assert.equal(readServeConfig(null, { metrics }).metrics, metrics);
});

test('the file in deploy/ says the defaults', () => {
  const { root, metrics, ...rest } = readServeConfig(
    new URL('../../deploy/config.toml', import.meta.url).pathname,
    {},
  );
  assert.deepEqual([root, metrics], ['/var/lib/veneer', 'unix:/run/veneer/metrics.sock']);
  assert.deepEqual(rest, readServeConfig(null, {}));
});
