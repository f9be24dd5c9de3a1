/** `veneer mount` and `umount` with the real kernel. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { archive, dir, file, hardLink, whiteout } from '../support/tar-builder.ts';
import { skipReason } from './mount-lab.ts';
import { CliLab, parseLines, type Ran } from './run-veneer.ts';

const lower = archive(dir('etc'), file('etc/a', 'below'), file('etc/b', 'b'), file('keep', 'kept'));
const upper = archive(file('etc/a', 'above'), whiteout('etc/b'), hardLink('kept-too', 'keep'));

describe('veneer mount', { skip: skipReason }, () => {
  const lab = new CliLab({ after });
  const mnt = lab.path('mnt');
  const veneer = (...words: string[]): Promise<Ran> => lab.veneer(words);
  const ok = async (...words: string[]): Promise<string> => {
    const ran = await veneer(...words);
    assert.equal(ran.code, 0, `${words.join(' ')}: ${ran.stderr}`);
    return ran.text;
  };
  const mounted = (): string[] =>
    readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter((line) => line.includes(lab.directory));

  before(async () => {
    mkdirSync(mnt);
    await lab.pull('m:1', [lower, upper]);
  });
  after(async () => {
    while (mounted().length > 0 && (await veneer('umount', '--lazy', mnt)).code === 0);
  });

  for (const flags of [[], ['--layers'], ['--rw'], ['--rw', '--layers'], ['--backing', 'loop']]) {
    it(`shows the image: ${flags.join(' ') || 'as it is'}`, async () => {
      const text = await ok('mount', ...flags, 'm:1', mnt);
      assert.match(
        text,
        new RegExp(`^mounted m:1 on ${mnt} \\((read-only|writable, changes are thrown away)\\)\n$`),
      );
      assert.equal(readFileSync(`${mnt}/etc/a`, 'utf8'), 'above');
      assert.equal(readFileSync(`${mnt}/kept-too`, 'utf8'), 'kept');
      assert.deepEqual(readdirSync(`${mnt}/etc`), ['a']);
      if (flags.includes('--rw')) writeFileSync(`${mnt}/etc/a`, 'changed');
      else assert.throws(() => writeFileSync(`${mnt}/etc/a`, 'changed'), { code: 'EROFS' });
      const [row] = parseLines(await ok('mount', '--json'));
      assert.deepEqual([row!.label, row!.target, row!.state], ['m:1', mnt, 'mounted']);
      assert.match(await ok('umount', mnt), new RegExp(`^unmounted ${mnt}`));
      assert.deepEqual(mounted(), []);
      assert.equal((await veneer('mount', '--json')).text, '');
    });
  }

  it('--rw=UPPER keeps changes', async () => {
    const kept = lab.path('changes');
    mkdirSync(kept);
    await ok('mount', `--rw=${kept}`, 'm:1', mnt);
    writeFileSync(`${mnt}/new`, 'n');
    assert.match(await ok('umount', mnt), /its changes are in /);
    await ok('mount', `--rw=${kept}`, 'm:1', mnt);
    assert.equal(readFileSync(`${mnt}/new`, 'utf8'), 'n');
    await ok('umount', mnt);
  });

  it('-o passes options', async () => {
    await ok('mount', '-o', 'nosuid,nodev', 'm:1', mnt);
    assert.match(mounted()[0]!, /nosuid,nodev/);
    await ok('umount', mnt);
    const bad = await veneer('mount', '-o', 'nonsense', 'm:1', mnt);
    assert.equal(bad.code, 1);
    assert.match(bad.stderr, /nonsense/);
  });

  it('a busy mount says who uses it; --lazy takes it away', async () => {
    await ok('mount', 'm:1', mnt);
    const fd = openSync(`${mnt}/keep`, 'r');
    try {
      const busy = await veneer('umount', mnt);
      assert.equal(busy.code, 1);
      assert.match(busy.stderr, new RegExp(`${process.pid}`));
      await ok('umount', '-l', mnt);
      assert.ok(!existsSync(`${mnt}/keep`));
    } finally {
      closeSync(fd);
    }
    assert.deepEqual(mounted(), []);
  });

  it('a mounted image is not removed, and gc keeps it', async () => {
    await ok('mount', 'm:1', mnt);
    try {
      const refused = await veneer('rm', 'm:1');
      assert.equal(refused.code, 1);
      assert.match(refused.stderr, /it is mounted\nhint: .*--force/);
      await ok('rm', '--force', 'm:1');
      await ok('gc');
      assert.equal(readFileSync(`${mnt}/keep`, 'utf8'), 'kept');
    } finally {
      await ok('umount', mnt);
    }
    const [report] = parseLines(await ok('gc', '--json'));
    assert.equal((report!.layers as string[]).length, 2);
    await lab.pull('m:1', [lower, upper]);
  });

  it('a store that has become read-only is listed and read; umount says what it did and what it could not', async () => {
    await ok('mount', 'm:1', mnt);
    const bound = lab.root;
    for (const words of [
      ['--bind', bound, bound],
      ['-o', 'remount,bind,ro', bound],
    ])
      assert.equal(spawnSync('mount', words).status, 0);
    try {
      assert.match(await ok('images'), /^m:1 /m);
      assert.equal(await ok('cat', 'm:1:/keep'), 'kept');
      const ran = await veneer('umount', mnt);
      assert.equal(ran.code, 1);
      assert.match(ran.stderr, /Cannot remove the record of .*mnt, which is unmounted now: EROFS/);
    } finally {
      assert.equal(spawnSync('umount', [bound]).status, 0);
    }
    assert.deepEqual(mounted(), []);
    // While a mount namespace of another test has the mount, or one with its number, the record stays.
    const left = (): string[] => readdirSync(`${lab.root}/run`);
    for (let tries = 0; tries < 60 && (tries === 0 || left().length > 0); tries++) {
      await ok('mount', 'm:1', mnt);
      await ok('umount', mnt);
    }
    assert.deepEqual(left(), []);
  });

  describe('image files', () => {
    before(async () => {
      writeFileSync(lab.path('00.tar'), lower);
      writeFileSync(lab.path('01.tar'), upper);
      await ok('convert', '00.tar', '-o', 'base.erofs');
      await ok('index', '01.tar');
      await ok('merge', '-o', 'fsmeta.erofs', 'base.erofs', '01.tar.erofs');
    });

    const devices = ['--device', 'base.erofs', '--device', '01.tar'];
    for (const [what, words] of [
      ['a self-contained one', ['./base.erofs']],
      ['one without a path before it', ['base.erofs']],
      ['a merged one with its devices', ['fsmeta.erofs', ...devices]],
      ['one by loop devices', ['--backing', 'loop', 'fsmeta.erofs', ...devices]],
      ['a writable one', ['--rw', 'fsmeta.erofs', ...devices]],
    ] as const) {
      it(what, async () => {
        const merged = words.includes('fsmeta.erofs' as never);
        assert.match(await ok('mount', ...words, mnt), new RegExp(`^mounted .*\\.erofs on ${mnt} `));
        assert.equal(readFileSync(`${mnt}/etc/a`, 'utf8'), merged ? 'above' : 'below');
        assert.deepEqual(readdirSync(`${mnt}/etc`), merged ? ['a'] : ['a', 'b']);
        await ok('umount', mnt);
        assert.deepEqual(mounted(), []);
        assert.deepEqual(readdirSync(`${lab.root}/run`), []);
      });
    }

    it('the kernel gets metadata of our own, and never what our reader refuses', async () => {
      await ok('mount', './base.erofs', mnt);
      const [row] = parseLines(await ok('mount', '--json'));
      const [image] = row!.images as { primary: string; devices: { path: string }[] }[];
      assert.ok(image!.primary.startsWith(`${lab.root}/`));
      assert.deepEqual(
        image!.devices.map(({ path }) => path),
        [lab.path('base.erofs')],
      );
      await ok('umount', mnt);
      const damaged = readFileSync(lab.path('base.erofs'));
      // its root inode: past the end
      damaged.writeUInt16LE(0xffff, 1024 + 14);
      writeFileSync(lab.path('bad.erofs'), damaged);
      const ran = await veneer('mount', './bad.erofs', mnt);
      assert.equal(ran.code, 1);
      assert.match(ran.stderr, /^veneer: Cannot read EROFS image/);
      assert.deepEqual(mounted(), []);
    });

    it('devices that are missing, too many or others are refused', async () => {
      for (const [words, code, message] of [
        [['fsmeta.erofs'], 1, /device 1 of its table .* was not given\nhint: .*--device/],
        [['fsmeta.erofs', '--device', '01.tar', '--device', 'base.erofs'], 1, /01\.tar as device 1/],
        [['base.erofs', '--device', '01.tar'], 2, /its device table has 0/],
        [['--layers', './base.erofs'], 2, /for images in the store/],
        [['m:1', '--device', '01.tar'], 1, /m:1/],
      ] as const) {
        const ran = await veneer('mount', ...words, mnt);
        assert.equal(ran.code, code, ran.stderr);
        assert.match(ran.stderr, message);
      }
      assert.deepEqual(mounted(), []);
    });
  });

  it('says what is wrong', async () => {
    for (const [words, code, message] of [
      [['mount', 'm:1', lab.path('nowhere')], 1, /nowhere/],
      [['mount', 'm:2', mnt], 1, /Cannot find image "m:2"/],
      [['mount', '--rw=', 'm:1', mnt], 2, /--rw wants a value/],
      [['mount', '--rw=/proc/changes', 'm:1', mnt], 1, /Cannot keep changes in \/proc\/changes: ENOENT/],
      [['umount', mnt], 1, /Cannot unmount/],
    ] as const) {
      const ran = await veneer(...words);
      assert.equal(ran.code, code, ran.stderr);
      assert.match(ran.stderr, message);
    }
    assert.deepEqual(mounted(), []);
  });
});
