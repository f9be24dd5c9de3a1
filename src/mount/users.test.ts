import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { findUsers } from './users.ts';

test('open files and working directories are found, with the process that has them', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'veneer-users-'));
  t.after(() => rmSync(dir, { recursive: true }));
  assert.deepEqual(findUsers(dir), []);
  writeFileSync(join(dir, 'file'), '');
  const fd = openSync(join(dir, 'file'), 'r');
  const child = spawn(process.execPath, ['-e', 'process.stdin.resume(); console.log()'], {
    cwd: dir,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  const users = findUsers(dir);
  assert.deepEqual(
    users.map(({ pid, how, path }) => ({ pid, how, path })).sort((a, b) => a.how.localeCompare(b.how)),
    [
      { pid: process.pid, how: 'an open file', path: join(dir, 'file') },
      { pid: child.pid, how: 'its working directory', path: dir },
    ],
  );
  child.stdin.end();
  await once(child, 'exit');
  closeSync(fd);
  assert.deepEqual(findUsers(dir), []);
});
