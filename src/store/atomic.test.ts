import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryDirectory } from '../../test/support/image-builder.ts';
import {
  makeDirectories,
  publishDirectory,
  unpublishDirectory,
  unpublishFile,
  writeFileAtomic,
} from './atomic.ts';

test('a file is replaced whole and leaves nothing beside it', async (t) => {
  const root = temporaryDirectory(t);
  const work = join(root, 'work');
  mkdirSync(work);
  const path = join(root, 'file');
  await writeFileAtomic(path, 'one', { work, fsync: true });
  await writeFileAtomic(path, 'two', { work, fsync: false, mode: 0o600 });
  assert.equal(readFileSync(path, 'utf8'), 'two');
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(work), []);
});

test('a write that cannot get its name leaves no temporary file', async (t) => {
  const root = temporaryDirectory(t);
  const work = join(root, 'work');
  mkdirSync(work);
  const path = join(root, 'taken');
  mkdirSync(join(path, 'inside'), { recursive: true });
  await assert.rejects(writeFileAtomic(path, 'x', { work, fsync: false }));
  assert.deepEqual(readdirSync(work), []);
});

test('a directory is published once, read-only', async (t) => {
  const root = temporaryDirectory(t);
  const make = (name: string): string => {
    const dir = join(root, name);
    mkdirSync(dir);
    writeFileSync(join(dir, 'data'), name);
    return dir;
  };
  const to = join(root, 'final');
  const options = { fsync: true, files: ['data'] };
  assert.equal(await publishDirectory(make('a'), to, options), true);
  assert.equal(await publishDirectory(make('b'), to, options), false);
  assert.equal(readFileSync(join(to, 'data'), 'utf8'), 'a');
  assert.equal(statSync(join(to, 'data')).mode & 0o777, 0o444);
  assert.equal(readFileSync(join(root, 'b', 'data'), 'utf8'), 'b', 'the loser is left to its owner');
});

test('what is unpublished is gone at once and whole elsewhere', (t) => {
  const root = temporaryDirectory(t);
  const work = join(root, 'work');
  mkdirSync(work);
  const path = join(root, 'final');
  mkdirSync(path);
  writeFileSync(join(path, 'data'), 'x');
  const trash = unpublishDirectory(path, { work, fsync: true });
  assert.ok(trash);
  assert.equal(statSync(path, { throwIfNoEntry: false }), undefined);
  assert.equal(readFileSync(join(trash, 'data'), 'utf8'), 'x');
  assert.equal(unpublishDirectory(path, { work, fsync: false }), null);
  assert.equal(unpublishFile(path, { fsync: false }), false);
});

test('directories are private and made with their parents', (t) => {
  const path = join(temporaryDirectory(t), 'a', 'b', 'c');
  makeDirectories([path], { fsync: true });
  makeDirectories([path], { fsync: true });
  assert.equal(statSync(path).mode & 0o777, 0o700);
});
