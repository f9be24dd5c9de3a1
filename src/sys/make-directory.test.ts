import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { makeDirectory } from './make-directory.ts';

function scratch(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'veneer-mkdir-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

describe('makeDirectory', () => {
  it('makes what is missing, topmost first, and nothing twice', (t) => {
    const top = scratch(t);
    const path = join(top, 'a/b');
    assert.deepEqual(makeDirectory(path, 0o700), [join(top, 'a'), path]);
    assert.equal(statSync(path).mode & 0o777, 0o700);
    assert.deepEqual(makeDirectory(path, 0o700), []);
    assert.deepEqual(makeDirectory(join(path, 'c'), 0o700), [join(path, 'c')]);
  });

  it('ends where no directory can be made', (t) => {
    const top = scratch(t);
    symlinkSync('/nonexistent', join(top, 'dangling'));
    writeFileSync(join(top, 'file'), '');
    const cases = [
      ['/proc/veneer', 'ENOENT'],
      ['/proc/veneer/a/b', 'ENOENT'],
      [join(top, 'dangling'), 'EEXIST'],
      [join(top, 'dangling/a'), 'EEXIST'],
      [join(top, 'file'), 'EEXIST'],
      [join(top, 'file/a'), 'ENOTDIR'],
    ];
    for (const [path, code] of cases) assert.throws(() => makeDirectory(path!, 0o700), { code }, path);
  });

  it('a symlink to a directory is one', (t) => {
    const top = scratch(t);
    symlinkSync(top, join(top, 'link'));
    assert.deepEqual(makeDirectory(join(top, 'link'), 0o700), []);
    assert.deepEqual(makeDirectory(join(top, 'link/a'), 0o700), [join(top, 'link/a')]);
  });
});
