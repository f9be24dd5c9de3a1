/** unpack and repack by way of the store and of hooks.toml, as a user runs them. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { makeSmallDisk } from '../support/disk-lab.ts';
import { HookLab } from '../support/hook-lab.ts';
import { HookImage, IMAGES } from '../support/hook-unpack.ts';
import { MountLab, whyNoKernel } from '../support/kernel-mount.ts';
import { Oracle } from '../support/oracle.ts';
import { requireTool } from '../support/require-tool.ts';
import { archive, file, hardLink } from '../support/tar-builder.ts';
import { snapshotDirectory } from '../support/tree-snapshot.ts';
import { diffSnapshots } from '../support/tree-snapshot-diff.ts';
import { type Ran, runVeneer } from './run-veneer.ts';

const EXAMPLE = fileURLToPath(new URL('../../examples/hook-copies.py', import.meta.url));
const oracle = new Oracle();
const lab = new MountLab(oracle);
const programs = new HookLab();
const skip = whyNoKernel() ?? false;
const root = join(lab.directory, 'store');
const env = { VENEER_ROOT: root, HOME: lab.directory };
after(async () => {
  for (const path of mounted) await run('umount', path);
  await lab.close();
  await oracle.close();
  programs.remove();
});
const mounted = new Set<string>();

const run = (...words: string[]): Promise<Ran> => runVeneer(words, { env });
async function good(...words: string[]): Promise<string> {
  const { code, stderr, text } = await run(...words);
  assert.equal(code, 0, stderr);
  return text;
}
async function bad(message: RegExp, ...words: string[]): Promise<void> {
  const { code, stderr } = await run(...words);
  assert.equal(code, 1, stderr);
  assert.match(stderr, message);
}

/** A layout of its own for each test: repack writes to it. */
const layoutOf = async (name: string): Promise<HookImage> =>
  HookImage.make(lab.folder(name), 'layout', IMAGES.first);

const CHANGES = `
  echo more >> etc/passwd; rm etc/new; rm -r usr; mkdir usr; echo again > usr/again; chmod 700 old; ln etc/passwd linked
  mkdir -p fresh/dir; echo f > fresh/dir/f; mkfifo fresh/fifo; rm null; mkdir null; ln -s nowhere fresh/link; touch -d @5 lib
  mkdir -p vol; echo masked > vol/data`;

/** Of what was there before, of what these changes made, and of what they removed. */
const AFTER_REFRESH = `
  rm fresh/dir/f; mv fresh/dir twice; mkdir fresh/dir; echo g > fresh/dir/g; rm -r usr; mkdir usr; echo 3 > usr/third
  echo later > etc/later; chmod 750 fresh; ln linked fresh/linked; rm -r old; rmdir null; echo file > null; rm lib
  mkdir -p etc/new/deep; touch -d @7 fresh/fifo`;

const change = (bundle: string): void =>
  void execFileSync('sh', ['-euc', CHANGES], { cwd: join(bundle, 'rootfs') });

/** What was repacked as \`new\`, unpacked the plain way, is what the bundle is. */
async function checkRepacked(image: HookImage, bundle: string, tag = 'new'): Promise<void> {
  const plain = join(lab.folder('plain'), 'b');
  await good('image', 'unpack', '--image', `${image.layout}:${tag}`, '--hooks', 'none', plain);
  const expected = await snapshotDirectory(oracle, join(bundle, 'rootfs'));
  const seen = await snapshotDirectory(oracle, join(plain, 'rootfs'));
  // umoci's layers have whole seconds, and what is masked is not in them; overlayfs breaks links to lower files.
  const differences = diffSnapshots(expected, seen, {
    ignore: (path, field) =>
      /^vol(\/|$)/.test(path) ||
      ['mtimeNsec', 'nlink', 'hardLink'].includes(field) ||
      (path === '' && field === 'mtime'),
  });
  assert.deepEqual(differences, []);
}

async function layersOf(image: HookImage, tag: string): Promise<number> {
  const stat = JSON.parse(await good('image', 'stat', '--image', `${image.layout}:${tag}`, '--json')) as {
    manifest: { blob: { layers: unknown[] } };
  };
  return stat.manifest.blob.layers.length;
}

describe('--storage overlay', { skip }, () => {
  it('unpack, change, repack, unpack elsewhere; go on after --refresh-bundle', async () => {
    const image = await layoutOf('overlay');
    const bundle = join(lab.folder('over'), 'b');
    const unpack = ['image', 'unpack', '--image', image.layout, '--storage'];
    await bad(/the store lacks 3 of its 3 layers[\s\S]*hint: .*veneer pull/, ...unpack, 'overlay', bundle);
    assert.ok(!existsSync(bundle));
    await good('pull', `oci:${image.layout}`);
    mounted.add(join(bundle, 'rootfs'));
    const unpacked = JSON.parse(await good(...unpack, 'overlay', '--json', bundle)) as {
      skipped: { hook: string }[];
    };
    assert.deepEqual(
      unpacked.skipped.map(({ hook }) => hook),
      ['veneer', 'veneer', 'veneer'],
    );
    assert.deepEqual(readdirSync(bundle).sort(), [
      'config.json',
      'overlay',
      'rootfs',
      'umoci.json',
      'veneer.json',
    ]);
    await bad(/already exists/, ...unpack, 'overlay', bundle);
    const repack = (tag: string, ...more: string[]): Promise<string> =>
      good('image', 'repack', '--image', `${image.layout}:${tag}`, '--mask-path', '/vol', ...more, bundle);
    await repack('same');
    assert.equal(await layersOf(image, 'same'), 3);
    change(bundle);
    await repack('new', '--refresh-bundle');
    await checkRepacked(image, bundle);
    // From here on it is compared with what was there when it was refreshed: nothing of that is in the next layer.
    await repack('nothing');
    assert.equal(await layersOf(image, 'nothing'), await layersOf(image, 'new'));
    execFileSync('sh', ['-euc', AFTER_REFRESH], { cwd: join(bundle, 'rootfs') });
    await repack('later', '--refresh-bundle');
    await checkRepacked(image, bundle, 'later');
    execFileSync('sh', ['-euc', 'rm -r twice; echo last > etc/last; rm etc/later'], {
      cwd: join(bundle, 'rootfs'),
    });
    const told = JSON.parse(await repack('last', '--json')) as { changes: object };
    assert.deepEqual(told.changes, { modified: 3, extra: 0, missing: 2 });
    await checkRepacked(image, bundle, 'last');
    // Without that record, and with one that is damaged, the image itself is asked.
    const record = join(bundle, 'overlay.inodes');
    const bytes = readFileSync(record);
    for (const bad of [null, bytes.subarray(0, -1)]) {
      if (bad === null) rmSync(record);
      else writeFileSync(record, bad);
      await repack('asked');
      await checkRepacked(image, bundle, 'asked');
    }
    // Taken down and put up again, nothing is lost.
    await good('umount', join(bundle, 'rootfs'));
    await bad(
      /is not mounted[\s\S]*veneer mount --rw/,
      'image',
      'repack',
      '--image',
      `${image.layout}:x`,
      bundle,
    );
    await good('mount', `--rw=${join(bundle, 'overlay')}`, 'layout:latest', join(bundle, 'rootfs'));
    assert.ok(existsSync(join(bundle, 'rootfs/etc/last')));
  });

  it('a directory made anew after --refresh-bundle hides what was there, whatever inode it got', async () => {
    const image = await layoutOf('anew');
    const bundle = join(lab.folder('anew-bundle'), 'b');
    await good('pull', `oci:${image.layout}`);
    mounted.add(join(bundle, 'rootfs'));
    await good('image', 'unpack', '--image', image.layout, '--storage', 'overlay', bundle);
    execFileSync('touch', ['usr/lib/added'], { cwd: join(bundle, 'rootfs') });
    await good('image', 'repack', '--image', `${image.layout}:new`, '--refresh-bundle', bundle);
    // ext4 gives the number of the inode that was freed to the next one.
    execFileSync('sh', ['-euc', 'rm -r usr/lib; mkdir usr/lib'], { cwd: join(bundle, 'rootfs') });
    await good('image', 'repack', '--image', `${image.layout}:later`, bundle);
    await checkRepacked(image, bundle, 'later');
  });

  it('a volume stays in the image when the directory above it is made anew', async () => {
    const image = await layoutOf('masked');
    const bundle = join(lab.folder('masked-bundle'), 'b');
    mounted.add(join(bundle, 'rootfs'));
    await good('image', 'unpack', '--image', image.layout, '--storage', 'overlay', bundle);
    execFileSync('sh', ['-euc', 'rm -r usr; mkdir usr; echo new > usr/new'], { cwd: join(bundle, 'rootfs') });
    await good('image', 'repack', '--image', `${image.layout}:new`, '--mask-path', '/usr/lib', bundle);
    const plain = join(lab.folder('masked-plain'), 'b');
    await good('image', 'unpack', '--image', `${image.layout}:new`, '--hooks', 'none', plain);
    assert.deepEqual(readdirSync(join(plain, 'rootfs/usr')).sort(), ['lib', 'new']);
    assert.deepEqual(readdirSync(join(plain, 'rootfs/usr/lib')).sort(), ['big', 'more']);
  });

  it('auto takes the store where it can, and unpacks elsewhere', async () => {
    const image = await layoutOf('auto');
    const place = lab.folder('auto');
    mounted.add(join(place, 'a/rootfs'));
    await good('image', 'unpack', '--image', image.layout, '--storage', 'auto', join(place, 'a'));
    assert.ok(existsSync(join(place, 'a/overlay')));
    const maps = ['--uid-map', '0:1000:65536', '--gid-map', '0:1000:65536'];
    await good('image', 'unpack', '--image', image.layout, '--storage', 'auto', ...maps, join(place, 'b'));
    assert.ok(!existsSync(join(place, 'b/overlay')));
    assert.ok(readdirSync(join(place, 'b')).some((name) => name.endsWith('.mtree')));
    const { code } = await run(
      'image',
      'unpack',
      '--image',
      image.layout,
      '--storage',
      'zfs',
      join(place, 'c'),
    );
    assert.notEqual(code, 0);
  });

  it('the upper directory is all that is needed when it is down', async () => {
    const image = await layoutOf('down');
    const bundle = join(lab.folder('down'), 'b');
    await good('image', 'unpack', '--image', image.layout, '--storage', 'overlay', bundle);
    change(bundle);
    await good('umount', join(bundle, 'rootfs'));
    await good('image', 'repack', '--image', `${image.layout}:new`, '--mask-path', '/vol', bundle);
    await good('mount', `--rw=${join(bundle, 'overlay')}`, 'layout:latest', join(bundle, 'rootfs'));
    mounted.add(join(bundle, 'rootfs'));
    await checkRepacked(image, bundle);
  });
});

describe('progress', () => {
  it('of unpack in files, of repack in bytes; none where nobody watches', async () => {
    const image = await layoutOf('progress');
    const place = lab.folder('progress');
    const bundle = join(place, 'b');
    interface Event {
      readonly type: string;
      readonly what?: string;
      readonly unit?: string;
      readonly done?: number;
      readonly outcome?: string;
    }
    const told = async (...words: string[]): Promise<Event[]> => {
      const { code, stderr, text } = await run('image', ...words, '--progress', 'json');
      assert.equal(code, 0, stderr);
      assert.equal(text, '');
      return stderr
        .trim()
        .split('\n')
        .map((line) => (JSON.parse(line) as { progress: Event }).progress);
    };
    const quiet = await run('image', 'unpack', '--image', image.layout, '--rootless', join(place, 'quiet'));
    assert.doesNotMatch(quiet.stderr, /unpack|done/);
    const unpacked = await told('unpack', '--image', image.layout, bundle);
    assert.deepEqual(
      [unpacked[0]!.type, unpacked[0]!.unit, unpacked.at(-1)!.outcome],
      ['start', 'file', 'done'],
    );
    assert.ok(unpacked.some(({ type, done }) => type === 'advance' && done! >= 8));
    writeFileSync(join(bundle, 'rootfs/written'), Buffer.alloc(300_000, 'w'));
    const repacked = await told('repack', '--image', `${image.layout}:new`, bundle);
    assert.deepEqual(
      repacked.flatMap(({ what = [] }) => what),
      [`find what was changed in ${bundle}`, 'make the layer of new'],
    );
    assert.ok(repacked.some(({ type, done }) => type === 'advance' && done! > 0));
    const wrong = await run(
      'image',
      'unpack',
      '--image',
      image.layout,
      '--progress',
      'loud',
      join(place, 'c'),
    );
    assert.match(wrong.stderr, /--progress is auto, plain, json, none/);
  });
});

describe('--storage reflink', { skip }, () => {
  /** Data at the boundary of a block, behind 512 + 3072 + 512 bytes, and some that is not. */
  const layer = archive(
    file('pad', Buffer.alloc(3072, 'p')),
    file('even', Buffer.alloc(300_000, 'even'), { mode: 0o4711, uid: 5, gid: 6 }),
    file('odd', Buffer.alloc(300_000, 'odd')),
    hardLink('even-too', 'even'),
    file('huge', Buffer.alloc(2_500_000, 'huge')),
  );
  const tars = [...IMAGES.first, layer];
  const unpackWith = async (
    image: HookImage,
    place: string,
    root: string,
    ...words: string[]
  ): Promise<Ran> =>
    runVeneer(['image', 'unpack', '--image', image.layout, '--json', ...words, place], {
      env: { ...env, VENEER_ROOT: root },
    });
  const sharedOf = ({ code, stderr, text }: Ran): unknown => {
    assert.equal(code, 0, stderr);
    return (JSON.parse(text) as { shared: unknown }).shared;
  };
  const isShared = (path: string): boolean =>
    /shared/.test(execFileSync('filefrag', ['-v', path], { encoding: 'utf8' }));

  for (const type of ['xfs', 'btrfs'] as const) {
    it(`shares blocks with the store on ${type}; the tree is that of plain, repack works`, async (t) => {
      const disk = makeSmallDisk(t, 400 << 20, type);
      if (disk === null || requireTool(t, 'filefrag') === null) return;
      const image = await HookImage.make(lab.folder(type), 'layout', tars);
      const root = join(disk.directory, 'store');
      const [bundle, plain] = [join(disk.directory, 'b'), join(disk.directory, 'plain')];
      const lacking = await unpackWith(image, bundle, root, '--storage', 'reflink');
      assert.equal(lacking.code, 1);
      assert.match(lacking.stderr, /it lacks 4 of its 4 layers.*veneer pull/);
      assert.ok(!existsSync(bundle));
      await good('pull', '--root', root, `oci:${image.layout}`);
      const shared = sharedOf(await unpackWith(image, bundle, root, '--storage', 'reflink'));
      assert.ok(Number(shared) >= 299_008, String(shared));
      assert.equal(sharedOf(await unpackWith(image, plain, root)), null);
      assert.ok(isShared(join(bundle, 'rootfs/even')));
      assert.ok(!isShared(join(bundle, 'rootfs/odd')));
      assert.ok(!isShared(join(plain, 'rootfs/even')));
      const [seen, expected] = [
        await snapshotDirectory(oracle, join(bundle, 'rootfs')),
        await snapshotDirectory(oracle, join(plain, 'rootfs')),
      ];
      assert.deepEqual(diffSnapshots(expected, seen), []);
      const names = (path: string): string[] => readdirSync(path).sort();
      assert.deepEqual(names(bundle), names(plain));
      const mtree = names(bundle).find((name) => name.endsWith('.mtree'))!;
      const digests = (path: string): string[] =>
        readFileSync(join(path, mtree), 'utf8').match(/sha256digest=\S+/g)!;
      assert.deepEqual(digests(bundle), digests(plain));
      // Writing to a file leaves the store as it is.
      change(bundle);
      execFileSync('sh', ['-euc', 'echo more >> even; printf x | dd of=odd conv=notrunc status=none'], {
        cwd: join(bundle, 'rootfs'),
      });
      await good('image', 'repack', '--image', `${image.layout}:new`, '--mask-path', '/vol', bundle);
      await checkRepacked(image, bundle);
      await good('verify', '--root', root, 'layout:latest');
    });
  }

  it('copies out of the store elsewhere; auto does where it cannot mount; not with --keep-dirlinks', async () => {
    const image = await HookImage.make(lab.folder('copies'), 'layout', tars);
    const place = lab.folder('copies-into');
    const root = join(place, 'store');
    await good('pull', '--root', root, `oci:${image.layout}`);
    const maps = ['--uid-map', '0:1000:65536', '--gid-map', '0:1000:65536'];
    const [auto, plain] = [join(place, 'auto'), join(place, 'plain')];
    assert.equal(
      typeof sharedOf(await unpackWith(image, auto, root, '--storage', 'auto', ...maps)),
      'number',
    );
    assert.equal(sharedOf(await unpackWith(image, plain, root, ...maps)), null);
    const seen = await snapshotDirectory(oracle, join(auto, 'rootfs'));
    assert.deepEqual(diffSnapshots(await snapshotDirectory(oracle, join(plain, 'rootfs')), seen), []);
    const refused = await unpackWith(
      image,
      join(place, 'no'),
      root,
      '--storage',
      'reflink',
      '--keep-dirlinks',
    );
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /without --keep-dirlinks/);
  });
});

describe('--hooks', { skip }, () => {
  it('a program that tells the changed names, and hears of the rest', async () => {
    const image = await layoutOf('names');
    const bundle = join(lab.folder('names'), 'b');
    const list = programs.write('list', '');
    const program = programs.program(`
      echo "$1" >> $HERE/heard
      case $1 in
        *image.prepare) echo '{"deltas": true}';;
        *delta-list) echo '{"paths": "${list}"}';;
        *bundle.finish) touch $HOOK_BUNDLE/finished;;
        *post-generate) cat > $HERE/generated; exit 0;;
        *) exit 10;;
      esac`);
    const hooks = programs.write('hooks.toml', `[[hook]]\nname = "teller"\ncommand = ["${program}"]\n`);
    await good('image', 'unpack', '--image', image.layout, '--hooks', hooks, bundle);
    assert.ok(existsSync(join(bundle, 'finished')));
    change(bundle);
    const names = execFileSync('find', ['fresh', 'vol'], {
      cwd: join(bundle, 'rootfs'),
      encoding: 'utf8',
    }).trim();
    const lines = [
      ...['', 'etc', 'etc/passwd', 'etc/new', 'etc/twin', 'copy', 'linked', 'old', 'null', 'lib'],
      ...names.split('\n'),
    ].map((path) => JSON.stringify({ path }));
    writeFileSync(list, [...lines, '{"path64":"dXNy","recursive":true}'].join('\n'));
    await good(
      'image',
      'repack',
      '--image',
      `${image.layout}:new`,
      '--hooks',
      hooks,
      '--mask-path',
      'vol',
      bundle,
    );
    await checkRepacked(image, bundle);
    const heard = readFileSync(join(programs.directory, 'heard'), 'utf8').trim().split('\n');
    assert.deepEqual(
      heard.slice(-3).map((event) => event.split('.').at(-1)),
      ['pre-generate', 'delta-list', 'post-generate'],
    );
    const generated = JSON.parse(readFileSync(join(programs.directory, 'generated'), 'utf8')) as {
      layer: { index: number; parentChainID: string };
    };
    assert.equal(generated.layer.index, 3);
    // Without the hook all of it is compared with the image.
    await good('image', 'repack', '--image', `${image.layout}:compared`, '--mask-path', 'vol', bundle);
    await checkRepacked(image, bundle, 'compared');
    // A list that cannot be made ends it, unless falling back was asked for.
    writeFileSync(list, 'no json');
    await bad(/line 1: no JSON/, 'image', 'repack', '--image', `${image.layout}:x`, '--hooks', hooks, bundle);
  });

  it('overlay by hooks.toml: what a refreshed image has can be removed; leftovers are refused', async () => {
    const image = await layoutOf('overlay-driver');
    const place = lab.folder('overlay-driver-bundles');
    const hooks = programs.write(
      'overlay.toml',
      `[[hook]]\ndriver = "overlay"\noptions = { cache = "${join(place, 'cache')}" }\n`,
    );
    const bundle = join(place, 'b');
    const unpack = ['image', 'unpack', '--image', image.layout, '--hooks', hooks, bundle];
    const repack = (tag: string): Promise<string> =>
      good(
        'image',
        'repack',
        '--refresh-bundle',
        '--hooks',
        hooks,
        '--image',
        `${image.layout}:${tag}`,
        bundle,
      );
    await good(...unpack);
    mounted.add(join(bundle, 'rootfs'));
    writeFileSync(join(bundle, 'rootfs/made'), 'made');
    await repack('new');
    await checkRepacked(image, bundle);
    rmSync(join(bundle, 'rootfs/made'));
    await repack('newer');
    await checkRepacked(image, bundle, 'newer');
    mounted.delete(join(bundle, 'rootfs'));
    execFileSync('umount', [join(bundle, 'rootfs')]);
    for (const name of ['rootfs', 'config.json']) rmSync(join(bundle, name), { recursive: true });
    await bad(/veneer\.json of an earlier one is still in/, ...unpack);
    rmSync(join(bundle, 'veneer.json'));
    await bad(/overlay of an earlier one is still in/, ...unpack);
    assert.ok(existsSync(join(bundle, 'overlay/upper')));
  });

  it('btrfs by hooks.toml: unpacked once, then taken; repack compares with the image', async (t) => {
    const disk = makeSmallDisk(t, 400 << 20, 'btrfs');
    if (disk === null) return;
    const image = await layoutOf('btrfs');
    const cache = join(disk.directory, 'cache');
    const hooks = programs.write(
      'btrfs.toml',
      `[[hook]]\ndriver = "btrfs"\noptions = { cache = "${cache}" }\n`,
    );
    const [one, two] = [join(disk.directory, 'one'), join(disk.directory, 'two')];
    const unpack = (bundle: string): Promise<string> =>
      good('image', 'unpack', '--image', image.layout, '--hooks', hooks, '--json', bundle);
    assert.deepEqual((JSON.parse(await unpack(one)) as { skipped: unknown[] }).skipped, []);
    assert.equal((JSON.parse(await unpack(two)) as { skipped: unknown[] }).skipped.length, 3);
    change(two);
    await good(
      'image',
      'repack',
      '--image',
      `${image.layout}:new`,
      '--hooks',
      hooks,
      '--mask-path',
      'vol',
      two,
    );
    await checkRepacked(image, two);
  });

  it('a file that others may write to, or that comes with the image, is refused', async () => {
    const image = await layoutOf('trust');
    const bundle = join(lab.folder('trust'), 'b');
    const own = join(image.layout, 'hooks.toml');
    writeFileSync(own, '');
    await bad(
      /never come from an image or a bundle/,
      'image',
      'unpack',
      '--image',
      image.layout,
      '--hooks',
      own,
      bundle,
    );
    const open = programs.write('open.toml', '');
    chmodSync(open, 0o666);
    await bad(/others may write to it/, 'image', 'unpack', '--image', image.layout, '--hooks', open, bundle);
    assert.ok(!existsSync(bundle));
    mkdirSync(join(lab.directory, '.config/veneer'), { recursive: true });
    const mine = join(lab.directory, '.config/veneer/hooks.toml');
    writeFileSync(mine, '[[hook]]\ncommand = ["/bin/false"]\n');
    await bad(/\/bin\/false ended with status 1/, 'image', 'unpack', '--image', image.layout, bundle);
    assert.ok(!existsSync(bundle));
    await good('image', 'unpack', '--image', image.layout, '--hooks', 'none', bundle);
    rmSync(mine);
  });
});

describe('image config --store', { skip }, () => {
  it('shows the config that was pulled, and changes nothing', async () => {
    const image = await layoutOf('config');
    await good('pull', '--name', 'config:it', `oci:${image.layout}`);
    const stat = JSON.parse(await good('image', 'stat', '--image', image.layout, '--json')) as {
      config: { blob: object };
    };
    const shown = await good('image', 'config', '--store', 'config:it', '--json');
    assert.deepEqual(JSON.parse(shown), stat.config.blob);
    assert.equal(shown.trimEnd().split('\n').length, 1);
    const lines = await good('image', 'config', '--store', 'config:it');
    assert.deepEqual(JSON.parse(lines), stat.config.blob);
    assert.ok(lines.includes('\n\t"'));
    for (const more of [
      ['--config.user', 'x'],
      ['--clear', 'config.env'],
      ['--no-history'],
      ['--tag', 'x'],
    ]) {
      const { code, stderr } = await run('image', 'config', '--store', 'config:it', ...more);
      assert.notEqual(code, 0);
      assert.match(stderr, new RegExp(`--store only shows, and does not go with ${more[0]}: .*veneer pull`));
    }
    await bad(/the store has none of that name/, 'image', 'config', '--store', 'none');
  });
});

describe('--json', { skip }, () => {
  it('is one object of every command of the family', async () => {
    const place = lab.folder('json');
    const at = (name: string): string => join(place, name);
    const image = `${at('oci')}:a`;
    const bundle = at('bundle');
    writeFileSync(at('layer.tar'), archive(file('from-tar', 'x')));
    const commands: [words: string[], members: string][] = [
      [['init', '--layout', at('oci')], 'layout'],
      [['new', '--image', image], 'layout tag manifest'],
      [['insert', '--image', image, at('layer.tar'), '/in'], 'layout tag manifest source target'],
      [['raw', 'add-layer', '--image', image, at('layer.tar')], 'layout tag manifest tar'],
      [['config', '--image', image, '--config.user', '1'], 'layout tag manifest'],
      [['tag', '--image', image, 'b'], 'layout tag digest'],
      [['ls', '--layout', at('oci')], 'layout tags'],
      [['stat', '--image', image], 'manifest config history'],
      [['unpack', '--image', image, bundle], 'layout tag manifest bundle layers skipped shared'],
      [['repack', '--image', `${at('oci')}:c`, bundle], 'layout tag manifest bundle changes'],
      [['raw', 'unpack', '--image', image, at('raw')], 'layout tag manifest rootfs layers'],
      [['raw', 'runtime-config', '--image', image, at('config.json')], 'layout tag file'],
      [['rm', '--image', `${at('oci')}:b`], 'layout tag removed'],
      [['gc', '--layout', at('oci')], 'layout removed bytes'],
    ];
    const check = async (words: string[], members: string): Promise<void> => {
      const text = await good('image', ...words, '--json');
      const [line, rest] = text.split('\n');
      assert.equal(rest, '', words.join(' '));
      const object = JSON.parse(line!) as object;
      for (const member of members.split(' ')) assert.ok(member in object, `${words.join(' ')}: ${member}`);
    };
    for (const [words, members] of commands) await check(words, members);
    const mtree = readdirSync(bundle).find((name) => name.endsWith('.mtree'))!;
    const validate = ['raw', 'mtree-validate', '-f', join(bundle, mtree), '-p', join(bundle, 'rootfs')];
    await check(validate, 'manifest path differences');
  });
});

describe('image stat --store', { skip }, () => {
  it('tells what stat of the layout tells', async () => {
    const image = await layoutOf('stat');
    await good('pull', `oci:${image.layout}`, '--name', 'stat:it');
    for (const more of [[], ['--json']]) {
      const stored = await good('image', 'stat', '--store', 'stat:it', ...more);
      // Only the layout's index names it so.
      const ofLayout = (await good('image', 'stat', '--image', image.layout, ...more))
        .replace('\tAnnotations:\n\t\torg.opencontainers.image.ref.name: latest\n', '')
        .replace(/,"annotations":\{"org.opencontainers.image.ref.name":"latest"\}/, '');
      assert.equal(stored, ofLayout);
    }
    await bad(/the store has none of that name/, 'image', 'stat', '--store', 'none');
    await bad(/do not go together/, 'image', 'stat', '--store', 'stat:it', '--image', image.layout);
  });
});

describe('hooks check', { skip }, () => {
  const check = async (toml: string): Promise<{ code: number | null; failed: string[]; passed: number }> => {
    const place = lab.folder('checked');
    const config = programs.write('checked.toml', toml);
    const { code, text } = await run('hooks', 'check', '--json', '--dir', place, config);
    assert.deepEqual(readdirSync(place), []);
    const rows = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { what?: string; outcome?: string; detail?: string });
    const failed = rows
      .filter(({ outcome }) => outcome === 'failed')
      .map(({ what, detail }) => `${what}: ${detail}`);
    return { code, failed, passed: rows.filter(({ outcome }) => outcome === 'passed').length };
  };
  /** The example of docs/hooks.md, with something done before or after it. */
  const keeper = async (spoil: { before?: string; afterSkip?: string } = {}): Promise<string> => {
    // In memory, where nothing has to reach a disk.
    const copies = join(await lab.mountMemory(), 'copies');
    const program = programs.program(`
      ${spoil.before ?? ''}
      python3 ${EXAMPLE} ${copies} "$1"; status=$?
      case $1 in *try-skip) [ $status = 0 ] && { ${spoil.afterSkip ?? 'true'}; };; esac
      exit $status`);
    const events = ['image.prepare', 'layer.try-skip', 'layer.commit', 'image.abort'].map(
      (event) => `unpack.ociv1.${event}`,
    );
    return `[[hook]]\nname = "keeper"\non_error = "abort"\ncommand = ["${program}"]\nevent = ${JSON.stringify(events)}\n`;
  };

  it('a driver of ours, and a program that does as it should', async () => {
    const overlay = await check(
      `[[hook]]\ndriver = "overlay"\noptions = { cache = "${programs.folder('layers')}/c" }\n`,
    );
    assert.deepEqual(overlay, { code: 0, failed: [], passed: 8 });
    assert.deepEqual(await check(await keeper()), { code: 0, failed: [], passed: 7 });
  });

  for (const [what, spoil, message] of [
    [
      'lies about what it has',
      { afterSkip: 'echo lie > $HOOK_BUNDLE/rootfs/etc/name' },
      /same image again: .*copy of layer 2 that keeper has: '\/etc\/name'/,
    ],
    ['writes nonsense', { before: 'echo nonsense; exit 0' }, /an image is unpacked: .*no JSON/],
    [
      'leaves things behind',
      { before: 'case $1 in *abort) exit 10;; esac' },
      /leaves nothing behind: .*is there still/,
    ],
    ['fails', { before: 'echo broken >&2; exit 3' }, /an image is unpacked: .*status 3 \(broken\)/],
  ] as const) {
    it(`a program that ${what} is found out`, async () => {
      const { code, failed } = await check(await keeper(spoil));
      assert.equal(code, 1);
      assert.match(failed.join('\n'), message);
    });
  }
});
