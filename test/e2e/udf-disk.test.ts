/** `veneer index --format udf` on disks that are full, and on disks whose power goes. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { appendTrailer, stripTrailer } from '../../src/store/udf-append.ts';
import { makeSmallDisk } from '../support/disk-lab.ts';
import { archive, file } from '../support/tar-builder.ts';
import { cleanEnv, LAUNCHER } from './run-veneer.ts';

const { signal } = new AbortController();
const WAYS = { names: 'bytes', whiteouts: 'sidecar', signal } as const;
/** Its trailer takes some 4 MB. */
const TAR = archive(...Array.from({ length: 8000 }, (_, i) => file(`d${i % 40}/file ${i}`, `${i}`)));

function writeDurably(path: string, bytes: Buffer): void {
  writeFileSync(path, bytes);
  const fd = openSync(path, 'r');
  fsyncSync(fd);
  closeSync(fd);
}

test('a full disk leaves the tar as it was', async (t) => {
  const disk = makeSmallDisk(t, 24 << 20);
  if (disk === null) return;
  const path = join(disk.directory, 'layer.tar');
  writeDurably(path, TAR);
  const ballast = join(disk.directory, 'ballast');
  for (const room of [0, 1 << 20]) {
    // all but `room` bytes of the disk
    const fd = openSync(ballast, 'w');
    assert.throws(() => {
      for (;;) writeFileSync(fd, Buffer.alloc(1 << 16, 1));
    }, /ENOSPC/);
    closeSync(fd);
    if (room > 0) writeFileSync(ballast, Buffer.alloc(statSync(ballast).size - room, 1));
    await assert.rejects(appendTrailer(path, WAYS), { code: 'io/no-space' });
    assert.ok(readFileSync(path).equals(TAR));
    rmSync(ballast);
    assert.deepEqual(
      readdirSync(disk.directory).filter((name) => name !== 'lost+found'),
      ['layer.tar'],
      'no journal stays',
    );
  }
  assert.equal((await appendTrailer(path, WAYS)).appended, true);
});

test('what is said to be done stays when the power goes', async (t) => {
  const disk = makeSmallDisk(t, 32 << 20);
  if (disk === null) return;
  const path = join(disk.directory, 'layer.tar');
  writeDurably(path, TAR);
  await appendTrailer(path, WAYS);
  const whole = readFileSync(path);
  disk.cutPower();
  disk.restorePower();
  assert.ok(readFileSync(path).equals(whole));
  await stripTrailer(path, { signal });
  disk.cutPower();
  disk.restorePower();
  assert.ok(readFileSync(path).equals(TAR));
});

test('when the power goes meanwhile, the next run completes the trailer or takes it off', async (t) => {
  const disk = makeSmallDisk(t, 32 << 20);
  if (disk === null) return;
  const path = join(disk.directory, 'layer.tar');
  writeDurably(path, TAR);
  await appendTrailer(path, WAYS);
  const whole = readFileSync(path);
  for (let round = 0; round < 6; round++) {
    await stripTrailer(path, { signal });
    const child = spawn(process.execPath, [LAUNCHER, 'index', '--format', 'udf', path], {
      env: cleanEnv(),
      stdio: 'ignore',
    });
    const ended = new Promise((resolve) => child.on('close', resolve));
    // somewhere between the journal and the end
    const journal = join(disk.directory, '.layer.tar.veneer-append');
    for (let i = 0; i < 20_000 && child.exitCode === null; i++) {
      if (existsSync(journal)) break;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await new Promise((resolve) => setTimeout(resolve, 8 * round));
    disk.cutPower();
    await ended;
    disk.restorePower();
    assert.ok(readFileSync(path).subarray(0, TAR.length).equals(TAR), `round ${round}`);
    if (round % 2 === 0) await appendTrailer(path, WAYS);
    else if (statSync(path).size > TAR.length) {
      await stripTrailer(path, { signal });
      assert.ok(readFileSync(path).equals(TAR), `round ${round}`);
    }
    await appendTrailer(path, WAYS);
    assert.ok(readFileSync(path).equals(whole), `round ${round}`);
    assert.equal(existsSync(journal), false);
  }
});
