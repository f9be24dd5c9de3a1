import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseImageFile, parseImagePath } from './image-path.ts';

describe('IMAGE:PATH', () => {
  const cases: [string, string, string][] = [
    ['node-app:latest:/etc/passwd', 'node-app:latest', '/etc/passwd'],
    ['node-app:latest', 'node-app:latest', '/'],
    ['localhost:5000/a/b:1.2', 'localhost:5000/a/b:1.2', '/'],
    ['localhost:5000/a/b:1.2:/x', 'localhost:5000/a/b:1.2', '/x'],
    ['host:5000/app:/a:/b', 'host:5000/app', '/a:/b'],
    ['sha256:abc:/', 'sha256:abc', '/'],
    ['./layer.erofs:/etc', './layer.erofs', '/etc'],
    ['/tmp/layer.erofs', '/tmp/layer.erofs', '/'],
    ['app://double', 'app', '//double'],
  ];
  for (const [argument, image, path] of cases) {
    it(argument, () => {
      const parsed = parseImagePath(argument);
      assert.deepEqual([parsed.image, parsed.path], [image, path]);
    });
  }

  it('splits what was joined, whatever the path', () => {
    fc.assert(
      fc.property(
        fc.stringMatching(/^[a-z0-9.]+(:[0-9]{1,5}\/[a-z]+)?(:[a-z0-9.]+)?$/),
        fc.string(),
        (image, rest) => {
          assert.deepEqual(parseImagePath(`${image}:/${rest}`), { image, path: `/${rest}`, hasPath: true });
        },
      ),
    );
  });

  it('says what is missing', () => {
    assert.throws(() => parseImagePath(':/etc'), { code: 'cli/usage', message: /names no image/ });
    assert.throws(() => parseImagePath(''), { code: 'cli/usage' });
    assert.throws(() => parseImageFile('debian:12'), { code: 'cli/usage', hint: /debian:12:\/PATH/ });
    assert.throws(() => parseImageFile('debian:12:etc/passwd'), {
      code: 'cli/usage',
      hint: /debian:12:\/etc\/passwd/,
    });
  });
});
