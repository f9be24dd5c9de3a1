import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { attachLoop, readLoopBacking } from './loop.ts';

const skip = process.getuid?.() !== 0 && process.env.CI === undefined && 'loop devices need root';

describe('loop devices', { skip }, () => {
  test('read the file, refuse writing, and clear themselves', async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'veneer-loop-'));
    t.after(() => rmSync(dir, { recursive: true }));
    const file = join(dir, 'a file');
    writeFileSync(file, Buffer.alloc(8192, 'x'));
    for (const blockSize of [512, 4096]) {
      const loop = attachLoop(file, blockSize);
      const name = loop.path.slice('/dev/'.length);
      assert.equal(readFileSync(loop.path).length, 8192);
      assert.equal(Number(readFileSync(`/sys/block/${name}/queue/logical_block_size`, 'utf8')), blockSize);
      assert.equal(readFileSync(`/sys/block/${name}/ro`, 'utf8').trim(), '1');
      assert.throws(() => writeSync(loop.fd, 'y'));
      assert.equal(readLoopBacking(loop.path), file);
      closeSync(loop.fd);
      for (let i = 0; i < 100 && readLoopBacking(loop.path) === file; i++) {
        await new Promise((done) => setTimeout(done, 20));
      }
      assert.notEqual(readLoopBacking(loop.path), file);
    }
  });

  test('refuse a block size that no device has, and a file that is not there', (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'veneer-loop-'));
    t.after(() => rmSync(dir, { recursive: true }));
    writeFileSync(join(dir, 'file'), Buffer.alloc(4096));
    assert.throws(() => attachLoop(join(dir, 'file'), 100), { code: 'sys/EINVAL' });
    assert.throws(() => attachLoop(join(dir, 'gone'), 512), { code: 'ENOENT' });
  });
});
