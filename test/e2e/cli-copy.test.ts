/** `veneer cp`: what comes out, what is refused, what a failure leaves. */
import assert from 'node:assert/strict';
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { Oracle } from '../support/oracle.ts';
import { archive, device, dir, fifo, file, hardLink, sparseFile, symlink } from '../support/tar-builder.ts';
import { snapshotDirectory } from '../support/tree-snapshot.ts';
import { assertSameSnapshot } from '../support/tree-snapshot-diff.ts';
import { CliLab, parseLines, runVeneer } from './run-veneer.ts';

const isRoot = process.getuid?.() === 0;
const rootOnly = isRoot ? false : 'needs root';

const capability = '\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0';
const tar = archive(
  dir('.', { mode: 0o751, mtime: 1_600_000_000, mtimeNsec: 7 }),
  dir('bin', { mode: 0o2755, uid: 5, gid: 6, mtime: 1_000, mtimeNsec: 1 }),
  file('bin/su', 'program', { mode: 0o4755, uid: 0, gid: 8, mtime: -5, mtimeNsec: 999_999_999 }),
  file('bin/ping', 'ping', { mode: 0o755, xattrs: { 'security.capability': capability, 'user.a': 'b\0c' } }),
  dir('closed', { mode: 0o555 }),
  file('closed/inside', 'x', { mode: 0 }),
  hardLink('closed/second', 'bin/su'),
  hardLink('third', 'bin/su'),
  symlink('abs', '/etc/passwd', { uid: 3, gid: 4, mtime: 77, mtimeNsec: 8 }),
  symlink('up', '../../../outside'),
  device('block', 'block', 300, 70_000),
  device('char', 'char', 1, 5),
  fifo('pipe', { mode: 0o620 }),
  hardLink('pipe-again', 'pipe'),
  sparseFile(
    'holes',
    5_000_000,
    [
      { offset: 1_048_576, data: 'middle' },
      { offset: 3_000_000, data: Buffer.alloc(9000, 'z') },
    ],
    '1.0',
  ),
  sparseFile('all-hole', 2_000_000, [], '1.0'),
  file('odd\xff\n', 'o'),
  file('empty', ''),
  dir('a/b/c/d'),
);

describe('veneer cp', () => {
  const lab = new CliLab({ after });
  let count = 0;
  /** A fresh folder below the scratch folder. */
  const folder = (): string => {
    const path = lab.path(`dest-${count++}`);
    mkdirSync(path);
    return path;
  };
  before(() => lab.pull('t:1', [tar]));

  it('a whole image equals what the kernel shows', { skip: rootOnly }, async () => {
    const target = lab.path('rootfs');
    const copied = await lab.veneer(['cp', '--json', 't:1', target]);
    assert.equal(copied.code, 0, copied.stderr);
    const [report] = parseLines(copied.text);
    assert.deepEqual(report!.problems, []);
    assert.equal(report!.hardLinks, 3);
    const mnt = folder();
    assert.equal((await lab.veneer(['mount', 't:1', mnt])).code, 0);
    const oracle = new Oracle();
    try {
      const expected = await snapshotDirectory(oracle, mnt);
      assert.ok(expected.size > 18);
      assertSameSnapshot(expected, await snapshotDirectory(oracle, target), 'mount and copy');
    } finally {
      await oracle.close();
      await lab.veneer(['umount', mnt]);
    }
  });

  it('holes stay holes', async () => {
    const at = folder();
    await lab.veneer(['cp', 't:1:/holes', 't:1:/all-hole', at]);
    const holes = statSync(`${at}/holes`);
    assert.equal(holes.size, 5_000_000);
    assert.ok(holes.blocks * 512 < 100_000, `${holes.blocks} blocks`);
    assert.equal(statSync(`${at}/all-hole`).blocks, 0);
    assert.equal(readFileSync(`${at}/holes`).toString('latin1', 1_048_576, 1_048_582), 'middle');
  });

  it('names the copy as cp does', async () => {
    const at = folder();
    assert.equal((await lab.veneer(['cp', 't:1:/empty', `${at}/new-name`])).code, 0);
    assert.equal((await lab.veneer(['cp', 't:1:/empty', at])).code, 0);
    assert.equal((await lab.veneer(['cp', 't:1:/a', `${at}/tree`])).code, 0);
    assert.equal((await lab.veneer(['cp', 't:1:/a', at])).code, 0);
    assert.equal((await lab.veneer(['cp', 't:1:/a/b/.', `${at}/contents`])).code, 0);
    assert.equal((await lab.veneer(['cp', 't:1:/a/b/.', folder()])).code, 0);
    assert.deepEqual(readdirSync(at).sort(), ['a', 'contents', 'empty', 'new-name', 'tree']);
    assert.deepEqual(readdirSync(`${at}/contents`), ['c']);
    const ran = await lab.veneer(['cp', 't:1:/empty', 't:1:/a', `${at}/nowhere`]);
    assert.equal(ran.code, 1);
    assert.match(ran.stderr, /it is not a directory\nhint: mkdir/);
  });

  it('a symlink is copied, or with -L what it leads to', async () => {
    const at = folder();
    await lab.veneer(['cp', 't:1:/abs', at]);
    assert.equal(readlinkSync(`${at}/abs`), '/etc/passwd');
    const ran = await lab.veneer(['cp', '-L', 't:1:/abs', `${at}/followed`]);
    assert.equal(ran.code, 1);
    assert.match(ran.stderr, /Cannot find \/abs/);
  });

  it('refuses what is there, and --force replaces and merges', async () => {
    const at = folder();
    mkdirSync(`${at}/bin`);
    writeFileSync(`${at}/bin/su`, 'old');
    writeFileSync(`${at}/bin/kept`, 'kept');
    const before = lstatSync(`${at}/bin/su`).ino;
    const refused = await lab.veneer(['cp', 't:1:/bin', at]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /bin: it is there already\nhint: --force/);
    assert.equal(readFileSync(`${at}/bin/su`, 'utf8'), 'old');
    const forced = await lab.veneer(['cp', '-f', 't:1:/bin', at]);
    assert.equal(forced.code, 0, forced.stderr);
    assert.deepEqual(readdirSync(`${at}/bin`).sort(), ['kept', 'ping', 'su']);
    assert.equal(readFileSync(`${at}/bin/su`, 'utf8'), 'program');
    assert.notEqual(lstatSync(`${at}/bin/su`).ino, before);
    const again = await lab.veneer(['cp', '-f', 't:1', `${at}/all`]);
    assert.equal(again.code, isRoot ? 0 : 1, again.stderr);
    const twice = await lab.veneer(['cp', '-f', 't:1', `${at}/all`]);
    assert.equal(twice.code, isRoot ? 0 : 1, twice.stderr);
    assert.ok(!readdirSync(`${at}/all`).some((name) => name.startsWith('.veneer-')));
  });

  describe('symlinks in the destination', () => {
    it('never lead a write out of it', async () => {
      const at = folder();
      const outside = folder();
      writeFileSync(`${outside}/su`, 'mine');
      symlinkSync(outside, `${at}/bin`);
      const ran = await lab.veneer(['cp', '-f', 't:1:/bin', at]);
      assert.equal(ran.code, 1);
      assert.match(ran.stderr, /is in its place/);
      assert.deepEqual(readdirSync(outside), ['su']);
      assert.equal(readFileSync(`${outside}/su`, 'utf8'), 'mine');
    });

    it('are replaced where a file goes', async () => {
      const at = folder();
      const outside = folder();
      writeFileSync(`${outside}/victim`, 'mine');
      symlinkSync(`${outside}/victim`, `${at}/empty`);
      const ran = await lab.veneer(['cp', '-f', 't:1:/empty', at]);
      assert.equal(ran.code, 0, ran.stderr);
      assert.ok(lstatSync(`${at}/empty`).isFile());
      assert.equal(readFileSync(`${outside}/victim`, 'utf8'), 'mine');
    });

    it('deeper down too', async () => {
      const at = folder();
      const outside = folder();
      mkdirSync(`${at}/a/b`, { recursive: true });
      symlinkSync(outside, `${at}/a/b/c`);
      const ran = await lab.veneer(['cp', '-f', 't:1:/a', at]);
      assert.equal(ran.code, 1);
      assert.deepEqual(readdirSync(outside), []);
    });
  });

  it('a failed copy leaves nothing', async () => {
    const at = folder();
    // The image's data ends too early: damage that shows only while copying.
    const image = lab.path('short.erofs');
    const source = lab.path('short.tar');
    writeFileSync(
      source,
      archive(dir('d', { mode: 0 }), file('d/1', 'one'), file('d/2', Buffer.alloc(100_000, 2))),
    );
    assert.equal((await runVeneer(['index', source, '-o', image])).code, 0);
    writeFileSync(source, readFileSync(source).fill(0).subarray(0, 2048));
    const ran = await runVeneer(['cp', `${image}:/d`, `${at}/d`, '--device', source]);
    assert.equal(ran.code, 1);
    assert.match(ran.stderr, /^veneer: Cannot /);
    assert.deepEqual(readdirSync(at), []);
  });

  it('a full disk is told in words', { skip: rootOnly }, async () => {
    const at = folder();
    const { run } = await import('./run-veneer.ts');
    const mounted = await run('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', at]);
    assert.equal(mounted.code, 0, mounted.stderr);
    try {
      const big = lab.path('big.tar');
      writeFileSync(big, archive(file('big', Buffer.alloc(1 << 20, 1))));
      await runVeneer(['convert', big, '-o', lab.path('big.erofs')]);
      const ran = await runVeneer(['cp', '--json', `${lab.path('big.erofs')}:/big`, at]);
      assert.equal(ran.code, 1);
      const [{ error }] = parseLines(ran.stderr) as [{ error: { code: string; message: string } }];
      assert.equal(error.code, 'io/no-space');
      assert.match(error.message, /^Cannot copy \/big: no space left/i);
      assert.deepEqual(readdirSync(at), []);
    } finally {
      await run('umount', [at]);
    }
  });
});
