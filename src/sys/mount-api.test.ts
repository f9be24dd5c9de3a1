import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import {
  attachMount,
  createFs,
  detachMount,
  MAX_FS_STRING,
  MAX_MOUNT_DATA,
  MOUNT_ATTR,
  MS,
  mountFs,
  mountOld,
  openFs,
  readFsLog,
  setFsFlag,
  setFsString,
} from './mount-api.ts';

const skip = process.getuid?.() !== 0 && process.env.CI === undefined && 'mounting needs root';

describe('the mount API', { skip }, () => {
  test('a mount is made, attached, and detached while busy', () => {
    const target = mkdtempSync(join(tmpdir(), 'veneer-api-'));
    const fs = openFs('tmpfs');
    setFsString(fs, 'mode', '0711');
    createFs(fs);
    const mount = mountFs(fs, MOUNT_ATTR.NODEV);
    closeSync(fs);
    writeFileSync(`/proc/self/fd/${mount}/file`, 'seen');
    attachMount(mount, target);
    assert.equal(readFileSync(join(target, 'file'), 'utf8'), 'seen');
    // The descriptor keeps the mount in use.
    assert.throws(() => detachMount(target, { lazy: false }), {
      code: 'sys/EBUSY',
      message: new RegExp(target),
    });
    detachMount(target, { lazy: true });
    assert.throws(() => detachMount(target, { lazy: true }), { code: 'sys/EINVAL' });
    closeSync(mount);
    rmdirSync(target);
  });

  test('the old call mounts too', () => {
    const target = mkdtempSync(join(tmpdir(), 'veneer-api-'));
    mountOld('veneer', target, 'tmpfs', MS.NODEV, 'size=64k');
    assert.match(
      readFileSync('/proc/self/mountinfo', 'latin1'),
      new RegExp(` ${target} rw,nodev.*[ ,]size=64k`),
    );
    detachMount(target, { lazy: false });
    rmdirSync(target);
    assert.throws(() => mountOld('x', target, 'tmpfs', 0, 'x'.repeat(MAX_MOUNT_DATA + 1)), {
      code: 'sys/EINVAL',
    });
  });

  test('errors carry what the kernel wrote into the log', () => {
    assert.throws(() => openFs('no-such-fs'), { code: 'sys/ENODEV', message: /no-such-fs.*ENODEV/ });
    const fs = openFs('tmpfs');
    assert.throws(() => setFsString(fs, 'size', 'huge'), {
      code: 'sys/EINVAL',
      message: /size=huge.*EINVAL\): .*Bad value for 'size'/,
    });
    assert.throws(() => setFsFlag(fs, 'no-such-flag'), { message: /no-such-flag.*Unknown parameter/ });
    assert.deepEqual(readFsLog(fs), []);
    // Longer values end at strndup_user.
    setFsString(fs, 'source', 'x'.repeat(MAX_FS_STRING));
    assert.throws(() => setFsString(fs, 'source', 'x'.repeat(MAX_FS_STRING + 1)), { code: 'sys/EINVAL' });
    closeSync(fs);
  });
});
