import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { VeneerError } from '../errors.ts';
import { parseIdMap } from '../rootfs/id-map.ts';
import { findUser } from './container-user.ts';
import { readRootfsFile } from './rootfs-file.ts';

describe('users of a container', () => {
  it('a line whose numbers are none is no user', () => {
    // Taken as a number it would be root.
    assert.throws(() => findUser('bob', 'bob:x:none:1::/:\n', ''), /there is no user bob/);
    assert.throws(() => findUser('bob', 'bob:x:1:4294967296::/:\n', ''), /there is no user bob/);
    assert.throws(() => findUser('0:g', '', 'g:x::\n'), /there is no group g/);
  });

  it('a comment is no user either', () => {
    assert.equal(findUser('', '# root:x:5:5::/:\n\n  #\nroot:x:0:3::/root:\n', '').gid, 3);
  });

  it('numbers beyond what an id can be are refused', () => {
    for (const spec of ['-1', '2147483648', '1:-1', '1:2147483648', `${'9'.repeat(400)}`])
      assert.throws(() => findUser(spec, '', ''), VeneerError, spec);
    assert.equal(findUser('2147483647', '', '').uid, 2147483647);
  });
});

describe('files of a root file system', () => {
  it('never lead out of it', (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'veneer-rootfs-'));
    t.after(() => rmSync(dir, { recursive: true, force: true }));
    const root = join(dir, 'root');
    mkdirSync(join(root, 'etc'), { recursive: true });
    writeFileSync(join(dir, 'secret'), 'outside');
    writeFileSync(join(root, 'secret'), 'inside');
    symlinkSync('../../../../secret', join(root, 'etc/up'));
    symlinkSync('/secret', join(root, 'etc/absolute'));
    symlinkSync(join(dir, 'secret'), join(root, 'etc/host'));
    symlinkSync('..', join(root, 'etc/parent'));
    symlinkSync('loop', join(root, 'etc/loop'));
    assert.equal(readRootfsFile(root, '/etc/up'), 'inside');
    assert.equal(readRootfsFile(root, '/etc/absolute'), 'inside');
    assert.equal(readRootfsFile(root, '/etc/parent/etc/parent/secret'), 'inside');
    assert.equal(readRootfsFile(root, '/etc/host'), '');
    assert.equal(readRootfsFile(root, '/etc/gone'), '');
    assert.throws(() => readRootfsFile(root, '/etc/loop'), /too many levels/);
    assert.throws(() => readRootfsFile(root, '/etc'), /not a regular file/);
  });
});

describe('id maps', () => {
  it('are two or three numbers of 32 bits', () => {
    assert.deepEqual(parseIdMap('0:1000', 'uid-map'), { container: 0, host: 1000, size: 1 });
    assert.deepEqual(parseIdMap('1:2:4294967295', 'uid-map'), { container: 1, host: 2, size: 4294967295 });
    for (const bad of ['', '1', '1:', '1:2:3:4', '1:2:4294967296', '-1:0', '1:x', '1:2:'])
      assert.throws(() => parseIdMap(bad, 'uid-map'), VeneerError, bad);
  });
});
