/** `veneer checkout`: what is made, what an update changes, what of users' it never destroys, what a kill leaves. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  cpSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { makeSmallDisk } from '../support/disk-lab.ts';
import { noise } from '../support/image-builder.ts';
import { whyNoKernel } from '../support/kernel-mount.ts';
import { Oracle } from '../support/oracle.ts';
import { missing, requireTool } from '../support/require-tool.ts';
import {
  archive,
  device,
  dir,
  fifo,
  file,
  hardLink,
  sparseFile,
  symlink,
  whiteout,
} from '../support/tar-builder.ts';
import { type Snapshot, snapshotDirectory } from '../support/tree-snapshot.ts';
import { assertSameSnapshot } from '../support/tree-snapshot-diff.ts';
import { CliLab, cleanEnv, LAUNCHER, parseLines, type Ran, type RunOptions } from './run-veneer.ts';

const isRoot = process.getuid?.() === 0;

/** Two versions of an image: everything that can happen to a name happens to one. */
const base = [
  dir('.', { mode: 0o551, mtime: 1_600_000_000, mtimeNsec: 7 }),
  dir('etc', { mode: 0o755, mtime: 1_000 }),
  file('etc/same', 'same'),
  file('etc/edited', 'one'),
  file('etc/chmod', 'mode', { mode: 0o600 }),
  file('etc/touched', 'time', { mtime: 5 }),
  file('etc/gone', 'gone'),
  file('etc/becomes-dir', 'x'),
  dir('gone/deep/er', { mode: 0o500 }),
  file('gone/deep/file', 'x'),
  dir('becomes-file'),
  file('becomes-file/inside', 'x'),
  symlink('link', 'etc/same'),
  file('bin/su', 'program', { mode: 0o4755, uid: 0, gid: 8 }),
  hardLink('bin/su-link', 'bin/su'),
  file('pair/a', 'pair'),
  hardLink('pair/b', 'pair/a'),
  file('pair/c', 'other'),
  dir('closed', { mode: 0o555, mtime: 77 }),
  file('closed/inside', 'old', { mode: 0 }),
  fifo('pipe'),
  device('null', 'char', 1, 3),
  sparseFile('holes', 3_000_000, [{ offset: 1_048_576, data: 'middle' }], '1.0'),
  file('large', noise(700_000, 3)),
  file('xattr', 'x', { xattrs: { 'user.a': '1', 'user.b': '2' } }),
  file('odd\xff\n', 'o'),
];
const change = [
  dir('.', { mode: 0o555, mtime: 1_600_000_001 }),
  file('etc/edited', 'two'),
  file('etc/chmod', 'mode', { mode: 0o644, uid: 7 }),
  file('etc/touched', 'time', { mtime: 6, mtimeNsec: 1 }),
  whiteout('etc/gone'),
  whiteout('etc/becomes-dir'),
  dir('etc/becomes-dir', { mode: 0o711 }),
  file('etc/becomes-dir/new', 'n'),
  whiteout('gone'),
  whiteout('becomes-file'),
  file('becomes-file', 'now a file'),
  symlink('link', 'etc/edited', { mtime: 9 }),
  whiteout('pair/b'),
  file('pair/b', 'pair'),
  hardLink('pair/d', 'pair/b'),
  file('closed/inside', 'new', { mode: 0 }),
  file('closed/more', 'm'),
  dir('closed', { mode: 0o555, mtime: 78 }),
  file('large', noise(700_000, 4)),
  file('xattr', 'x', { xattrs: { 'user.a': '3' } }),
  dir('added/tree', { mode: 0o700, mtime: 3 }),
  file('added/tree/file', noise(40_000, 5)),
];
/** The second layer as an image of its own may not delete what is not there. */
const V1 = [archive(...base)];
const V2 = [archive(...base), archive(...change)];

interface Lab {
  readonly cli: CliLab;
  /** Runs veneer as the lab's user and expects success. */
  veneer(...words: string[]): Promise<Ran>;
  options: RunOptions;
}

async function makeLab(t: TestContext, uid?: number): Promise<Lab> {
  const cli = new CliLab(t);
  const options: RunOptions = uid === undefined ? {} : { uid, env: { HOME: cli.path('home') } };
  if (uid !== undefined) {
    chmodSync(cli.directory, 0o777);
    await cli.pull('warm-up', [archive(file('x', 'x'))]);
    rmSync(cli.root, { recursive: true });
  }
  const lab: Lab = {
    cli,
    options,
    async veneer(...words) {
      const ran = await cli.veneer(words, options);
      assert.equal(ran.code, 0, `${words.join(' ')}: ${ran.stderr}`);
      return ran;
    },
  };
  return lab;
}

/** The two versions, pulled as the lab's user. */
async function pullBoth(lab: Lab): Promise<void> {
  const layouts = new CliLab({ after: () => {} });
  try {
    for (const [name, layers] of [
      ['app:1', V1],
      ['app:2', V2],
    ] as const) {
      await layouts.pull(name, layers);
      chmodSync(layouts.directory, 0o755);
      await lab.veneer(
        'pull',
        `oci:${layouts.path(`layout-${name.replace(':', '-')}`)}:latest`,
        '--name',
        name,
      );
    }
  } finally {
    rmSync(layouts.directory, { recursive: true, force: true });
  }
}

async function look(path: string): Promise<Snapshot> {
  const oracle = new Oracle();
  try {
    return await snapshotDirectory(oracle, path);
  } finally {
    await oracle.close();
  }
}

/** What the kernel shows of an image. */
async function kernelView(lab: Lab, image: string): Promise<Snapshot> {
  const at = lab.cli.path('kernel');
  mkdirSync(at, { recursive: true });
  await lab.veneer('mount', image, at);
  try {
    return await look(at);
  } finally {
    await lab.veneer('umount', at);
  }
}

const assertSame = (wanted: Snapshot, found: Snapshot): void => assertSameSnapshot(wanted, found, 'checkout');
const read = (path: string): string => readFileSync(path, 'utf8');
const names = (path: string): string[] => readdirSync(path).sort();

describe('veneer checkout', {
  skip: isRoot ? false : 'needs root to compare with the kernel and to change users',
}, () => {
  it('is what the kernel shows, new and updated, there and back', async (t) => {
    const why = whyNoKernel();
    if (why !== null) return missing(t, why);
    const lab = await makeLab(t);
    await pullBoth(lab);
    const [one, two] = [await kernelView(lab, 'app:1'), await kernelView(lab, 'app:2')];
    const at = lab.cli.path('rootfs');
    await lab.veneer('checkout', 'app:1', at);
    assertSame(one, await look(at));
    const ran = await lab.veneer('checkout', '--update', 'app:2', at, '--json');
    assertSame(two, await look(at));
    assert.deepEqual((parseLines(ran.text)[0] as { changes: object }).changes, {
      added: 6,
      removed: 6,
      changed: 4,
      type: 2,
      attributes: 6,
    });
    await lab.veneer('checkout', '--update', 'app:1', at);
    assertSame(one, await look(at));
    // Nothing of ours is left in it or beside it.
    assert.deepEqual(
      names(lab.cli.directory).filter((name) => name.startsWith('.veneer')),
      [],
    );
    // Into a directory that is there.
    mkdirSync(lab.cli.path('empty'));
    await lab.veneer('checkout', 'app:2', lab.cli.path('empty'));
    assertSame(two, await look(lab.cli.path('empty')));
  });

  it('leaves alone what an update has no business with', async (t) => {
    const lab = await makeLab(t);
    await pullBoth(lab);
    const at = lab.cli.path('rootfs');
    await lab.veneer('checkout', 'app:1', at);
    const before = lstatSync(join(at, 'etc/same'), { bigint: true });
    writeFileSync(join(at, 'etc/own'), 'mine');
    writeFileSync(join(at, 'pair/c'), 'mine too');
    writeFileSync(join(at, 'gone/deep/own'), 'kept');
    const ran = await lab.veneer('checkout', '--update', 'app:2', at);
    assert.match(ran.stderr, /\/gone\/deep: not in the image any more, but stays/);
    const after = lstatSync(join(at, 'etc/same'), { bigint: true });
    assert.deepEqual([after.ino, after.ctimeNs], [before.ino, before.ctimeNs]);
    assert.equal(read(join(at, 'etc/own')), 'mine');
    assert.equal(read(join(at, 'pair/c')), 'mine too');
    assert.deepEqual(names(join(at, 'gone/deep')), ['own']);
    // And it is still known to be changed, when its turn comes.
    writeFileSync(join(at, 'etc/edited'), 'edited');
    const refused = await lab.cli.veneer(['checkout', '--update', 'app:1', at], lab.options);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /it would destroy what was done there: \/etc\/edited \(changed\)/);
  });

  it('refuses to destroy what users did, and says what; --force does it', async (t) => {
    const lab = await makeLab(t);
    await pullBoth(lab);
    const at = lab.cli.path('rootfs');
    await lab.veneer('checkout', 'app:1', at);
    const { mtime } = statSync(join(at, 'etc/gone'));
    writeFileSync(join(at, 'etc/gone'), 'GONE');
    // The same size and the same time: only the change time tells.
    utimesSync(join(at, 'etc/gone'), mtime, mtime);
    chmodSync(join(at, 'etc/edited'), 0o711);
    rmSync(join(at, 'large'));
    mkdirSync(join(at, 'added'));
    writeFileSync(join(at, 'added/tree'), 'in the way');
    writeFileSync(join(at, 'becomes-file/own'), 'in the way');
    rmSync(join(at, 'link'));
    mkdirSync(join(at, 'link'));
    const before = await look(at);
    const refused = await lab.cli.veneer(['checkout', '--update', 'app:2', at], lab.options);
    assert.equal(refused.code, 1);
    for (const told of [
      '/etc/gone (changed)',
      '/etc/edited (attributes)',
      '/large (deleted)',
      '/added/tree (in the way)',
      '/becomes-file/own (in the way)',
      '/link (changed)',
    ])
      assert.ok(refused.stderr.includes(told), `${told} in ${refused.stderr}`);
    assertSame(before, await look(at));
    const forced = await lab.veneer('checkout', '--update', '--force', 'app:2', at, '--json');
    const [report] = parseLines(forced.text) as [{ replaced: object[] }];
    assert.equal(report.replaced.length, 6);
    await lab.veneer('checkout', 'app:2', lab.cli.path('fresh'));
    assertSame(await look(lab.cli.path('fresh')), await look(at));
  });

  it('what stands where a directory was is not destroyed, nor what is deep in one that goes', async (t) => {
    const lab = await makeLab(t);
    await lab.cli.pull('app:1', [archive(dir('d'), file('d/e/f', '1'), dir('x/y/z'), file('x/y/z/f', '1'))]);
    await lab.cli.pull('app:2', [
      archive(dir('d'), file('d/e/f', '1'), file('d/e/g', '2'), file('x', 'file')),
    ]);
    const at = lab.cli.path('rootfs');
    await lab.veneer('checkout', 'app:1', at);
    rmSync(join(at, 'd'), { recursive: true });
    writeFileSync(join(at, 'd'), 'of the user');
    writeFileSync(join(at, 'x/y/z/own'), 'of the user');
    const before = await look(at);
    const refused = await lab.cli.veneer(['checkout', '--update', 'app:2', at], lab.options);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /: \/d \(changed\), \/x\/y\/z\/own \(in the way\)$/m);
    assertSame(before, await look(at));
    await lab.veneer('checkout', '--update', '--force', 'app:2', at);
    assert.equal(read(join(at, 'd/e/g')), '2');
    assert.equal(read(join(at, 'x')), 'file');
    for (const path of ['d', 'd/e']) assert.equal(statSync(join(at, path)).mode & 0o777, 0o755, path);
  });

  it('what only looks changed is not taken for changed', async (t) => {
    const lab = await makeLab(t);
    await pullBoth(lab);
    const at = lab.cli.path('rootfs');
    await lab.veneer('checkout', 'app:1', at);
    // Another change time and inode, the same content: copied away and back, as backups do.
    const copy = read(join(at, 'etc/edited'));
    rmSync(join(at, 'etc/edited'));
    writeFileSync(join(at, 'etc/edited'), copy);
    linkSync(join(at, 'large'), lab.cli.path('outside'));
    await lab.veneer('checkout', '--update', 'app:2', at);
    assert.equal(read(join(at, 'etc/edited')), 'two');
    // What was linked elsewhere keeps its content there.
    assert.deepEqual(readFileSync(lab.cli.path('outside')), noise(700_000, 3));
  });

  it('an update works when the store has the old image no more, and when the checkout was moved', async (t) => {
    const lab = await makeLab(t);
    await lab.cli.pull('app:1', [archive(file('a', 'one'), file('b', 'same'), file('c', '1'))]);
    const [at, moved] = [lab.cli.path('rootfs'), lab.cli.path('moved')];
    await lab.veneer('checkout', 'app:1', at);
    await lab.veneer('rm', 'app:1');
    await lab.veneer('gc');
    await lab.cli.pull('app:2', [archive(file('a', 'two'), file('b', 'same'), file('d', '2'))]);
    renameSync(at, moved);
    await lab.veneer('checkout', '--update', 'app:2', moved);
    assert.deepEqual(
      names(moved).map((name) => read(join(moved, name))),
      ['two', 'same', '2'],
    );
    // A directory that was never one, or is another one now.
    mkdirSync(at);
    const none = await lab.cli.veneer(['checkout', '--update', 'app:2', at]);
    assert.match(none.stderr, /no image was checked out there/);
    writeFileSync(join(at, 'x'), '');
    const full = await lab.cli.veneer(['checkout', 'app:2', at]);
    assert.match(full.stderr, /it is not empty/);
    const again = await lab.cli.veneer(['checkout', 'app:2', moved]);
    assert.match(again.stderr, /it has app:2 already/);
  });

  it('--link: files of several checkouts are one, read-only; nothing of another checkout is touched', async (t) => {
    const lab = await makeLab(t);
    await pullBoth(lab);
    const [a, b] = [lab.cli.path('a'), lab.cli.path('b')];
    await lab.veneer('checkout', '--link', 'app:1', a);
    await lab.veneer('checkout', '--link', 'app:1', b);
    const inode = (path: string): number => lstatSync(path).ino;
    assert.equal(inode(join(a, 'large')), inode(join(b, 'large')));
    assert.equal(lstatSync(join(a, 'large')).mode & 0o222, 0);
    const before = await look(b);
    await lab.veneer('checkout', '--update', 'app:2', a);
    const { mode, mtime } = lstatSync(join(a, 'etc/chmod'));
    assert.equal(mode & 0o777, 0o444);
    assert.ok(mtime);
    const ignore = (snapshot: Snapshot): Snapshot =>
      new Map([...snapshot].map(([path, entry]) => [path, { ...entry, nlink: 0 }]));
    assertSame(ignore(before), ignore(await look(b)));
    await lab.veneer('checkout', '--update', 'app:2', b);
    assert.equal(inode(join(a, 'large')), inode(join(b, 'large')));
    // Somebody writes to one all the same: known, and the next checkout gets the right bytes.
    chmodSync(join(a, 'large'), 0o644);
    writeFileSync(join(a, 'large'), noise(700_000, 9));
    const refused = await lab.cli.veneer(['checkout', '--update', 'app:1', a]);
    assert.match(refused.stderr, /\/large \(changed\)/);
    await lab.veneer('checkout', '--link', 'app:2', lab.cli.path('c'));
    assert.deepEqual(readFileSync(lab.cli.path('c', 'large')), noise(700_000, 4));
    // Files that nobody has any more go.
    for (const name of ['a', 'b', 'c']) rmSync(lab.cli.path(name), { recursive: true });
    const [report] = parseLines((await lab.veneer('gc', '--json')).text) as [
      { checkouts: { objects: number } },
    ];
    assert.ok(report.checkouts.objects > 10);
    assert.deepEqual(names(join(lab.cli.root, 'checkouts')), []);
    const left = readdirSync(join(lab.cli.root, 'objects'), { recursive: true, withFileTypes: true });
    assert.deepEqual(
      left.filter((one) => one.isFile()),
      [],
    );
  });

  it('as a user without any rights', async (t) => {
    const lab = await makeLab(t, 65_534);
    await pullBoth(lab);
    const at = lab.cli.path('rootfs');
    const ran = await lab.veneer('checkout', 'app:1', at);
    assert.match(ran.stderr, /\/null: is not made: operation not permitted/);
    assert.match(ran.stderr, /\/bin\/su: mode is not set: setuid and setgid are left out/);
    assert.match(ran.stderr, /you own \d+ names that belong to somebody else/);
    assert.ok(!existsSync(join(at, 'null')));
    assert.equal(lstatSync(join(at, 'bin/su')).uid, 65_534);
    await lab.veneer('checkout', '--update', 'app:2', at);
    await lab.veneer('checkout', 'app:2', lab.cli.path('fresh'));
    assertSame(await look(lab.cli.path('fresh')), await look(at));
    assert.equal(lstatSync(join(at, 'closed')).mode & 0o7777, 0o555);
    assert.equal(read(join(at, 'closed/inside')), 'new');
    const link = lab.cli.path('linked');
    await lab.veneer('checkout', '--link', 'app:1', link);
    await lab.veneer('checkout', '--update', 'app:2', link);
    await lab.veneer('checkout', '--link', 'app:2', lab.cli.path('fresh-linked'));
    assertSame(await look(lab.cli.path('fresh-linked')), await look(link));
  });

  it('no symlink leads out, whoever planted it', async (t) => {
    const lab = await makeLab(t);
    await lab.cli.pull('app:1', [archive(dir('d'), file('d/f', 'one'), dir('e'), file('e/g', 'x'))]);
    await lab.cli.pull('app:2', [
      archive(dir('d'), file('d/f', 'two'), file('d/new', 'n'), symlink('e', lab.cli.path('outside'))),
    ]);
    const [at, outside] = [lab.cli.path('rootfs'), lab.cli.path('outside')];
    mkdirSync(outside);
    writeFileSync(join(outside, 'f'), 'not yours');
    writeFileSync(join(outside, 'g'), 'not yours');
    await lab.veneer('checkout', 'app:1', at);
    rmSync(join(at, 'd'), { recursive: true });
    symlinkSync(outside, join(at, 'd'));
    const refused = await lab.cli.veneer(['checkout', '--update', 'app:2', at]);
    assert.equal(refused.code, 1);
    await lab.veneer('checkout', '--update', '--force', 'app:2', at);
    assert.deepEqual(names(outside), ['f', 'g']);
    assert.equal(read(join(outside, 'f')), 'not yours');
    assert.deepEqual(names(join(at, 'd')), ['f', 'new']);
    // The other way: a directory where the image has a symlink now.
    await lab.veneer('checkout', '--update', 'app:1', at);
    assert.deepEqual(names(outside), ['f', 'g']);
    assert.equal(read(join(at, 'e/g')), 'x');
  });

  it('killed at any moment: a new one is not there, an update is finished by the next', {
    timeout: 240_000,
  }, async (t) => {
    const lab = await makeLab(t);
    const files = (seed: number): Buffer[] =>
      Array.from({ length: 400 }, (_, i) =>
        file(`d${i % 20}/f${i}`, noise(2000 + i, i % 3 === 0 ? 1 : seed), {
          mode: i % 5 === 0 ? 0o640 : 0o600 + seed,
        }),
      );
    const links = (seed: number): Buffer[] => [hardLink('h1', `d1/f${seed}1`), hardLink('h2', 'd2/f2')];
    await lab.cli.pull('app:1', [archive(...files(1), file('old', 'x'), ...links(2))]);
    await lab.cli.pull('app:2', [archive(...files(2), dir('new'), file('new/x', 'x'), ...links(4))]);
    const fresh = lab.cli.path('fresh');
    await lab.veneer('checkout', 'app:2', fresh);
    const wanted = await look(fresh);
    const at = lab.cli.path('rootfs');
    let [killed, half] = [0, 0];
    for (let wait = 5; killed < 5 && wait < 2000; wait += 30) {
      rmSync(at, { recursive: true, force: true });
      await lab.veneer('checkout', 'app:1', at);
      const code = await killAfter(lab, wait, 'checkout', '--update', '--no-fsync', 'app:2', at);
      if (code !== null) continue;
      if (names(at).some((name) => name.startsWith('.veneer'))) half++;
      killed++;
      await lab.veneer('checkout', '--update', 'app:2', at);
      assertSame(wanted, await look(at));
    }
    assert.ok(killed > 3, `${killed} were killed`);
    t.diagnostic(`${killed} killed, ${half} of them in the middle`);
    rmSync(at, { recursive: true, force: true });
    for (let wait = 5; wait < 400; wait += 50) {
      const code = await killAfter(lab, wait, 'checkout', '--no-fsync', 'app:2', at);
      assert.ok(code === null ? !existsSync(at) || names(at).length === names(fresh).length : existsSync(at));
      if (existsSync(at)) break;
    }
    if (!existsSync(at)) await lab.veneer('checkout', 'app:2', at);
    assertSame(wanted, await look(at));
    assert.deepEqual(
      names(lab.cli.directory).filter((name) => name.startsWith('.veneer')),
      [],
    );
  });

  for (const type of ['btrfs', 'xfs'] as const) {
    it(`on ${type}: shares the blocks of files that begin at a block of their tar`, async (t) => {
      if (requireTool(t, 'filefrag') === null) return;
      const disk = makeSmallDisk(t, 400 << 20, type);
      if (disk === null) return;
      const cli = new CliLab(t);
      const data = [noise(1_000_000, 1), noise(1_000_000, 2)] as const;
      // Headers take 512 bytes: the first file's data stands at the eighth, the other's at no multiple of 4096.
      const padding = Array.from({ length: 7 }, (_, i) => file(`empty${i}`, ''));
      const tar = archive(...padding, file('shared', data[0]), file('copied', data[1]));
      assert.deepEqual([tar.indexOf(data[0]) % 4096, tar.indexOf(data[1]) % 4096 > 0], [0, true]);
      await cli.pull('app', [tar]);
      const store = join(disk.directory, 'store');
      cpSync(cli.root, store, { recursive: true, mode: 0 });
      const ran = await cli.veneer(['checkout', '--root', store, 'app', join(disk.directory, 'co')]);
      assert.equal(ran.code, 0, ran.stderr);
      const shares = (name: string): boolean => {
        const path = join(disk.directory, 'co', name);
        return /shared/.test(execFileSync('filefrag', ['-sv', path], { encoding: 'utf8' }));
      };
      assert.deepEqual([shares('shared'), shares('copied')], [true, false]);
      for (const [i, name] of ['shared', 'copied'].entries())
        assert.ok(readFileSync(join(disk.directory, 'co', name)).equals(data[i]!), name);
    });
  }
});

/** Exit code, null when it was killed before it ended. */
async function killAfter(lab: Lab, milliseconds: number, ...words: string[]): Promise<number | null> {
  const child = spawn(process.execPath, [LAUNCHER, ...words], {
    env: cleanEnv({ VENEER_ROOT: lab.cli.root }),
    stdio: 'ignore',
  });
  const ended = once(child, 'close');
  // The start of the program takes as long as it takes: count from its first sign of life.
  while (child.exitCode === null && !isAtWork(lab, words.at(-1)!)) await delay(1);
  await delay(milliseconds);
  child.kill('SIGKILL');
  const [code] = await ended;
  return code as number | null;
}

/** Its record says that it began. */
function isAtWork(lab: Lab, at: string): boolean {
  const folder = join(lab.cli.root, 'checkouts');
  for (const name of existsSync(folder) ? names(folder) : []) {
    try {
      const record = JSON.parse(read(join(folder, name, 'checkout.json'))) as {
        path: string;
        next: object | null;
      };
      if (record.path === at && record.next !== null) return true;
    } catch {
      // Not written yet.
    }
  }
  return false;
}
