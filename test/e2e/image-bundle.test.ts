/**
 * `veneer image unpack` and `repack` beside umoci: equal bundles, each takes the other's, what was changed comes back
 * elsewhere, and runtimes start what we make.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import type { OpenHooks } from '../../src/bundle/hooked-bundle.ts';
import { repackBundle } from '../../src/bundle/repack.ts';
import { callbackHook, HookSession } from '../../src/hooks/index.ts';
import { buildImage, writeLayout } from '../support/image-builder.ts';
import { Oracle } from '../support/oracle.ts';
import { missing, requireNewerTool, requireTool } from '../support/require-tool.ts';
import {
  archive,
  device,
  dir,
  fifo,
  file,
  hardLink,
  opaque,
  sparseFile,
  symlink,
  whiteout,
} from '../support/tar-builder.ts';
import { type Snapshot, snapshotDirectory } from '../support/tree-snapshot.ts';
import { CliLab, type Ran, run } from './run-veneer.ts';

const NOBODY = 65534;

/** Everything that a layer can hold, and everything that it can do to the one below. */
const layers = (): Buffer[] => [
  archive(
    // umoci gives directories that nobody names the time of the moment.
    dir('.'),
    dir('usr'),
    dir('etc'),
    file('etc/passwd', 'root:x:0:0::/root:/bin/sh\n'),
    dir('usr/bin', { mode: 0o2755, gid: 5 }),
    file('usr/bin/tool', 'tool', {
      mode: 0o4755,
      mtime: 1_600_000_000,
      pax: [['mtime', '1600000000.123456789']],
    }),
    file('usr/bin/capable', 'c', { pax: [['SCHILY.xattr.user.note', 'value']] }),
    hardLink('usr/bin/same', 'usr/bin/tool'),
    symlink('bin', 'usr/bin'),
    symlink('abs', '/etc/passwd'),
    dir('gone'),
    file('gone/file'),
    dir('cleared', { uid: 1000, gid: 1000 }),
    file('cleared/old', 'old'),
    file('cleared/older', 'older'),
    dir('private', { mode: 0o700 }),
    file('private/none', 'secret', { mode: 0 }),
    dir('sticky', { mode: 0o1777, uid: 7, gid: 8 }),
    file('becomes-dir', 'f'),
    dir('becomes-file'),
    file('becomes-file/inner'),
    file('caf\xc3\xa9 [x]*#\\', 'odd name'),
    file('large', Buffer.alloc(3_000_000, 'large')),
    sparseFile('sparse', 2_500_000, [{ offset: 2_000_000, data: 'data' }], '1.0'),
  ),
  archive(
    whiteout('gone'),
    dir('cleared', { uid: 1000, gid: 1000 }),
    opaque('cleared'),
    file('cleared/new', 'new', { uid: 1000 }),
    dir('becomes-dir'),
    file('becomes-dir/in', 'in'),
    file('becomes-file', 'now a file'),
    hardLink('etc/passwd2', 'etc/passwd'),
    file('bin/through', 'through a lower symlink'),
    fifo('pipe', { mode: 0o640 }),
  ),
];
const devices = (): Buffer =>
  archive(device('null', 'char', 1, 3, { mode: 0o666 }), device('disk', 'block', 259, 70_000, { gid: 6 }));

/** What even its owner may not read. */
const closedLayer = (): Buffer =>
  archive(
    dir('.', { mode: 0o311 }),
    dir('closed', { mode: 0 }),
    file('closed/gone', 'g'),
    dir('closed/deep', { mode: 0 }),
    file('closed/deep/secret', 'words', { mode: 0 }),
    file('closed/deep/noted', 'n', { mode: 0o200, pax: [['SCHILY.xattr.user.note', 'value']] }),
    symlink('closed/deep/link', 'secret'),
    dir('searched', { mode: 0o100 }),
    file('searched/file', 's'),
    dir('listed', { mode: 0o400 }),
    file('listed/file', 'l', { mode: 0 }),
  );

const asRoot = process.getuid?.() === 0;

describe('veneer image: bundles', { concurrency: 2 }, () => {
  let oracle: Oracle;
  before(() => {
    oracle = new Oracle();
  });
  after(() => oracle.close());

  class Lab extends CliLab {
    readonly umoci: string;

    constructor(t: TestContext, umoci: string) {
      super(t);
      this.umoci = umoci;
      chmodSync(this.directory, 0o755);
    }

    async ours(words: readonly string[], uid?: number): Promise<Ran> {
      const ran = await this.veneer(['image', ...words], uid === undefined ? {} : { uid, cwd: '/' });
      assert.equal(ran.code, 0, `${words.join(' ')}\n${ran.stderr}`);
      return ran;
    }

    async theirs(...words: string[]): Promise<Ran> {
      const ran = await run(this.umoci, words);
      assert.equal(ran.code, 0, `umoci ${words.join(' ')}\n${ran.stderr}`);
      return ran;
    }

    rootfs(bundle: string): Promise<Snapshot> {
      return snapshotDirectory(oracle, join(this.path(bundle), 'rootfs'));
    }

    /** The lines of the mtree file that say something of the tree. */
    mtree(bundle: string): string[] {
      const [name] = readdirSync(this.path(bundle)).filter((one) => one.endsWith('.mtree'));
      const text = readFileSync(join(this.path(bundle), name!), 'latin1');
      return text.split('\n').filter((line) => !/^# +(user|machine|tree|date):/.test(line));
    }
  }

  async function makeLab(t: TestContext, tars: readonly Buffer[]): Promise<Lab | null> {
    if (!asRoot) {
      missing(t, 'root is needed to unpack owners');
      return null;
    }
    const umoci = requireNewerTool(t, 'umoci');
    if (umoci === null) return null;
    const lab = new Lab(t, umoci);
    await writeLayout(lab.path('oci'), buildImage(tars));
    return lab;
  }

  it('unpack as root equals umoci, file by file', async (t) => {
    const lab = await makeLab(t, [...layers(), devices()]);
    if (lab === null) return;
    const image = lab.path('oci');
    await lab.ours(['config', '--image', image, '--created', '2024-01-31T12:00:00Z']);
    await lab.ours(['unpack', '--image', image, lab.path('ours')]);
    await lab.theirs('unpack', '--image', image, lab.path('theirs'));
    assert.deepEqual(await lab.rootfs('ours'), await lab.rootfs('theirs'));
    assert.deepEqual(lab.mtree('ours'), lab.mtree('theirs'));
    for (const name of ['config.json', 'umoci.json']) {
      const textOf = (bundle: string): string => readFileSync(join(lab.path(bundle), name), 'utf8');
      assert.equal(textOf('ours'), textOf('theirs'), name);
    }
    assert.equal(statSync(lab.path('ours')).mode & 0o777, 0o700);
    await lab.theirs(
      'raw',
      'mtree-validate',
      '--manifest',
      mtreePath(lab, 'ours'),
      '--path',
      join(lab.path('ours'), 'rootfs'),
    );
    await lab.ours([
      'raw',
      'mtree-validate',
      '-f',
      mtreePath(lab, 'theirs'),
      '-p',
      join(lab.path('theirs'), 'rootfs'),
    ]);
  });

  it('unpack with --keep-dirlinks, raw unpack, and id maps equal umoci', async (t) => {
    const upper = archive(dir('bin', { uid: 3 }), file('bin/more', 'm'), dir('abs'), file('abs/x', 'x'));
    const lab = await makeLab(t, [...layers(), upper]);
    if (lab === null) return;
    for (const flags of [
      ['--keep-dirlinks'],
      ['--uid-map', '0:100000:65536', '--gid-map', '0:200000:65536'],
      ['--rootless'],
    ]) {
      await lab.ours(['raw', 'unpack', ...flags, '--image', lab.path('oci'), lab.path('ours')]);
      await lab.theirs('raw', 'unpack', ...flags, '--image', lab.path('oci'), lab.path('theirs'));
      const ours: Snapshot = await snapshotDirectory(oracle, lab.path('ours'));
      const theirs: Snapshot = await snapshotDirectory(oracle, lab.path('theirs'));
      assert.deepEqual(ours, theirs, flags.join(' '));
      for (const name of ['ours', 'theirs']) rmSync(lab.path(name), { recursive: true });
    }
  });

  it('raw unpack over a directory with something in it equals umoci', async (t) => {
    const upper = archive(dir('d', { uid: 3 }), file('d/x', 'x'), file('a', 'new'), symlink('was-dir', 'd'));
    const lab = await makeLab(t, [upper, archive(whiteout('gone'), file('d/y', 'y'))]);
    if (lab === null) return;
    const fill =
      'mkdir d was-dir other; echo old > a; echo k > d/kept; echo z > was-dir/z; echo g > gone; ln a b';
    for (const name of ['ours', 'theirs']) {
      mkdirSync(lab.path(name));
      execFileSync('sh', ['-euc', `${fill}; find . -exec touch -hd @5 {} +`], { cwd: lab.path(name) });
    }
    await lab.ours(['raw', 'unpack', '--image', lab.path('oci'), lab.path('ours')]);
    await lab.theirs('raw', 'unpack', '--image', lab.path('oci'), lab.path('theirs'));
    const [ours, theirs] = [
      await snapshotDirectory(oracle, lab.path('ours')),
      await snapshotDirectory(oracle, lab.path('theirs')),
    ];
    assert.ok(ours.has('d/kept') && ours.has('d/y') && !ours.has('gone'));
    assert.deepEqual(ours, theirs);
  });

  it('unpack as somebody without privileges', async (t) => {
    const lab = await makeLab(t, [...layers(), devices()]);
    if (lab === null) return;
    mkdirSync(lab.path('home'));
    chownSync(lab.path('home'), NOBODY, NOBODY);
    const [ours, theirs] = [lab.path('home/ours'), lab.path('home/theirs')];
    await lab.ours(['unpack', '--rootless', '--image', lab.path('oci'), ours], NOBODY);
    const ran = await run(lab.umoci, ['unpack', '--rootless', '--image', lab.path('oci'), theirs], {
      uid: NOBODY,
      cwd: '/',
    });
    assert.equal(ran.code, 0, ran.stderr);
    assert.deepEqual(await lab.rootfs('home/ours'), await lab.rootfs('home/theirs'));
    const owners = (await lab.rootfs('home/ours')).get('sticky')!;
    assert.match(owners.xattrs, /^user\.rootlesscontainers=/);
    const [a, b] = [ours, theirs].map((bundle) => readFileSync(join(bundle, 'umoci.json'), 'utf8'));
    assert.equal(a, b);
  });

  it('what its owner may not read is repacked and validated without privileges, and is as closed afterwards', async (t) => {
    const lab = await makeLab(t, [closedLayer()]);
    if (lab === null) return;
    const image = lab.path('home/oci');
    mkdirSync(lab.path('home'));
    cpSync(lab.path('oci'), image, { recursive: true });
    execFileSync('chown', ['-R', `${NOBODY}:${NOBODY}`, lab.path('home')]);
    const bundles = ['ours', 'theirs'].map((name) => lab.path(`home/${name}`)) as [string, string];
    const asNobody = async (bundle: string, ...words: string[]): Promise<Ran> => {
      if (bundle === bundles[0]) return lab.ours(words, NOBODY);
      const ran = await run(lab.umoci, words, { uid: NOBODY, cwd: '/' });
      assert.equal(ran.code, 0, ran.stderr);
      return ran;
    };
    for (const bundle of bundles) {
      const name = bundle.slice(lab.path('home').length + 1);
      await asNobody(bundle, 'unpack', '--rootless', '--image', image, bundle);
      const rootfs = join(bundle, 'rootfs');
      const validate = ['--manifest', mtreePath(lab, `home/${name}`), '--path', rootfs];
      await asNobody(bundle, 'raw', 'mtree-validate', '--rootless', ...validate);
      writeFileSync(join(rootfs, 'closed/deep/secret'), 'other words');
      rmSync(join(rootfs, 'closed/gone'));
      writeFileSync(join(rootfs, 'closed/new'), 'new', { mode: 0 });
      utimesSync(join(rootfs, 'closed/new'), 1_600_000_000, 1_600_000_000);
      utimesSync(join(rootfs, 'closed/deep/secret'), 1_600_000_000, 1_600_000_000);
      utimesSync(join(rootfs, 'closed'), 1_600_000_000, 1_600_000_000);
      chownSync(join(rootfs, 'closed/new'), NOBODY, NOBODY);
      const before = await lab.rootfs(`home/${name}`);
      const refresh = ['repack', '--refresh-bundle', '--image', `${image}:${name}`, bundle];
      await asNobody(bundle, ...refresh);
      assert.deepEqual(await lab.rootfs(`home/${name}`), before);
      await lab.ours(['unpack', '--image', `${image}:${name}`, lab.path(name)]);
    }
    assert.deepEqual(await lab.rootfs('ours'), await lab.rootfs('theirs'));
    assert.ok((await lab.rootfs('ours')).has('closed/new'));
    // What was refreshed is what is there, although its times of change are those of our own looking.
    const again = await lab.ours(['repack', '--json', '--image', `${image}:same`, bundles[0]], NOBODY);
    assert.deepEqual(JSON.parse(again.text).changes, { modified: 0, extra: 0, missing: 0 });
    // Of another's directory the permission cannot be given.
    chownSync(join(bundles[0], 'rootfs/closed'), 1, 1);
    const refused = await lab.veneer(['image', 'repack', '--image', `${image}:no`, bundles[0]], {
      uid: NOBODY,
      cwd: '/',
    });
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /Cannot open closed: permission denied \(EACCES\)/);
  });

  it('without --rootless nobody can give files away, and nothing stays', async (t) => {
    const lab = await makeLab(t, layers());
    if (lab === null) return;
    mkdirSync(lab.path('home'));
    chownSync(lab.path('home'), NOBODY, NOBODY);
    const ran = await lab.veneer(['image', 'unpack', '--image', lab.path('oci'), lab.path('home/b')], {
      uid: NOBODY,
      cwd: '/',
    });
    assert.equal(ran.code, 1);
    assert.match(ran.stderr, /Cannot write the owner of .*hint: Unpack as root, or with --rootless/s);
    assert.deepEqual(readdirSync(lab.path('home')), []);
  });

  it('a bundle that is there is refused and left alone; an error leaves nothing', async (t) => {
    const lab = await makeLab(t, layers());
    if (lab === null) return;
    mkdirSync(lab.path('has-rootfs/rootfs'), { recursive: true });
    writeFileSync(join(lab.path('has-rootfs'), 'rootfs/mine'), '');
    const refused = await lab.veneer(['image', 'unpack', '--image', lab.path('oci'), lab.path('has-rootfs')]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /rootfs already exists/);
    assert.ok(existsSync(join(lab.path('has-rootfs'), 'rootfs/mine')));
    const bad = buildImage([archive(file('a', 'one'))], { diffIds: [`sha256:${'0'.repeat(64)}`] });
    await writeLayout(lab.path('bad'), bad);
    const ran = await lab.veneer(['image', 'unpack', '--image', lab.path('bad'), lab.path('new/bundle')]);
    assert.equal(ran.code, 1);
    assert.match(ran.stderr, /diffid mismatch: got sha256:[0-9a-f]{64} expected sha256:0000/);
    assert.ok(!existsSync(lab.path('new')));
    mkdirSync(lab.path('there'));
    writeFileSync(join(lab.path('there'), 'mine'), '');
    await lab.veneer(['image', 'unpack', '--image', lab.path('bad'), lab.path('there')]);
    assert.deepEqual(readdirSync(lab.path('there')), ['mine']);
    // An empty folder for a root file system stays, whatever leads to it.
    mkdirSync(lab.path('empty'));
    symlinkSync('empty', lab.path('link'));
    const inode = statSync(lab.path('empty')).ino;
    const raw = await lab.veneer(['image', 'raw', 'unpack', '--image', lab.path('bad'), lab.path('link')]);
    assert.match(raw.stderr, /diffid mismatch/);
    assert.equal(statSync(lab.path('link')).ino, inode);
    assert.deepEqual(readdirSync(lab.path('link')), []);
  });

  it('what is written while --refresh-bundle works, or through memory later, is found the next time', async (t) => {
    const lab = await makeLab(t, layers());
    if (lab === null) return;
    const image = lab.path('oci');
    await lab.ours(['unpack', '--image', image, lab.path('b')]);
    const rootfs = join(lab.path('b'), 'rootfs');
    // Writes a byte of the mapped file for each line that it reads.
    const program = `import mmap, sys
file = open(sys.argv[1], 'r+b')
memory = mmap.mmap(file.fileno(), 0)
for at, line in enumerate(iter(sys.stdin.readline, '')):
    memory[at] = 88
    print('done', flush=True)`;
    const writer = spawn('python3', ['-c', program, join(rootfs, 'large')], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const writeByte = async (): Promise<void> => {
      writer.stdin.write('\n');
      await once(writer.stdout, 'data');
    };
    const repack = async (tag: string, openHooks?: OpenHooks): Promise<string[]> => {
      const { changes } = await repackBundle(image, tag, lab.path('b'), {
        compression: 'none',
        history: null,
        maskedPaths: [],
        maskVolumes: true,
        refresh: true,
        latest: null,
        ...(openHooks === undefined ? {} : { openHooks }),
      });
      return [...changes.keys()];
    };
    try {
      await writeByte();
      assert.deepEqual(await repack('one'), ['large']);
      await writeByte();
      assert.deepEqual(await repack('two'), ['large']);
    } finally {
      writer.kill();
    }
    const path = join(rootfs, 'etc/passwd');
    const { mtime } = statSync(path);
    const write = (text: string): void => {
      writeFileSync(path, text);
      utimesSync(path, mtime, mtime);
    };
    write('first');
    const late = callbackHook('late', {
      'repack.ociv1.layer.post-generate': () => {
        write('later');
        return {};
      },
    });
    assert.deepEqual(await repack('three', (subject) => new HookSession([late], subject)), [
      'etc/passwd',
      'etc/passwd2',
    ]);
    assert.deepEqual(await repack('four'), ['etc/passwd', 'etc/passwd2']);
    assert.deepEqual(await repack('five'), []);
    // A hook tells what changed: there is no mtree file of the new image then, and the image itself is asked.
    write('told');
    const list = lab.path('list');
    writeFileSync(list, '{"path": "etc/passwd"}\n{"path": "etc/passwd2"}\n');
    const tells = callbackHook('tells', { 'repack.ociv1.delta-list': () => ({ paths: list }) });
    await repack('six', (subject) => new HookSession([tells], subject));
    assert.deepEqual(await repack('seven'), []);
    rmSync(path);
    assert.ok((await repack('eight')).includes('etc/passwd'));
  });

  it('a hard link that gets another name stays one', async (t) => {
    const lab = await makeLab(t, layers());
    if (lab === null) return;
    await lab.ours(['unpack', '--image', lab.path('oci'), lab.path('b')]);
    renameSync(join(lab.path('b'), 'rootfs/usr/bin/same'), join(lab.path('b'), 'rootfs/usr/bin/renamed'));
    await lab.ours(['repack', '--image', `${lab.path('oci')}:new`, lab.path('b')]);
    await lab.ours(['unpack', '--image', `${lab.path('oci')}:new`, lab.path('again')]);
    assert.deepEqual(await lab.rootfs('again'), await lab.rootfs('b'));
  });

  for (const first of ['veneer', 'umoci'] as const) {
    it(`a bundle of ${first}'s, changed and repacked, comes back the same elsewhere`, async (t) => {
      const lab = await makeLab(t, [...layers(), devices()]);
      if (lab === null) return;
      const image = lab.path('oci');
      if (first === 'veneer') await lab.ours(['unpack', '--image', image, lab.path('b')]);
      else await lab.theirs('unpack', '--image', image, lab.path('b'));
      await changeEverything(join(lab.path('b'), 'rootfs'));
      await lab.ours(['repack', '--image', `${image}:new`, '--refresh-bundle', lab.path('b')]);
      await lab.ours(['unpack', '--image', `${image}:new`, lab.path('ours')]);
      await lab.theirs('unpack', '--image', `${image}:new`, lab.path('theirs'));
      const wanted = await lab.rootfs('b');
      assert.deepEqual(await lab.rootfs('ours'), wanted);
      assert.deepEqual(await lab.rootfs('theirs'), wanted);
      // The refreshed bundle is one of the new image.
      const again = await lab.ours(['repack', '--json', '--image', `${image}:same`, lab.path('b')]);
      assert.deepEqual(JSON.parse(again.text).changes, { modified: 0, extra: 0, missing: 0 });
      await lab.theirs(
        'raw',
        'mtree-validate',
        '--manifest',
        mtreePath(lab, 'b'),
        '--path',
        join(lab.path('b'), 'rootfs'),
      );
      if (requireTool(t, 'skopeo') === null) return;
      execFileSync('skopeo', ['inspect', `oci:${image}:new`], { stdio: 'pipe' });
    });
  }

  it('umoci repacks a bundle of ours', async (t) => {
    const lab = await makeLab(t, layers());
    if (lab === null) return;
    await lab.ours(['unpack', '--image', lab.path('oci'), lab.path('b')]);
    writeFileSync(join(lab.path('b'), 'rootfs/etc/added'), 'added');
    await lab.theirs('repack', '--image', `${lab.path('oci')}:new`, lab.path('b'));
    await lab.ours(['unpack', '--image', `${lab.path('oci')}:new`, lab.path('again')]);
    assert.equal(readFileSync(join(lab.path('again'), 'rootfs/etc/added'), 'utf8'), 'added');
  });

  it('the same changes make the same layer', async (t) => {
    const lab = await makeLab(t, layers());
    if (lab === null) return;
    const digests: string[] = [];
    for (const name of ['one', 'two']) {
      await lab.ours(['unpack', '--image', lab.path('oci'), lab.path(name)]);
      for (const path of ['x', 'etc/y']) writeFileSync(join(lab.path(name), 'rootfs', path), path);
      rmSync(join(lab.path(name), 'rootfs/large'));
      const env = { SOURCE_DATE_EPOCH: '1700000000' };
      const ran = await lab.veneer(
        ['image', 'repack', '--json', '--image', `${lab.path('oci')}:${name}`, lab.path(name)],
        { env },
      );
      assert.equal(ran.code, 0, ran.stderr);
      digests.push(JSON.parse(ran.text).manifest.digest);
    }
    assert.equal(digests[0], digests[1]);
  });

  it('masks, volumes, compression and history', async (t) => {
    const lab = await makeLab(t, layers());
    if (lab === null) return;
    const image = lab.path('oci');
    await lab.ours(['config', '--image', image, '--config.volume', '/vol']);
    await lab.ours(['unpack', '--image', image, lab.path('b')]);
    const rootfs = join(lab.path('b'), 'rootfs');
    for (const path of ['vol', 'cache']) mkdirSync(join(rootfs, path));
    for (const path of ['vol/v', 'cache/c', 'etc/e']) writeFileSync(join(rootfs, path), path);
    const flags = ['--mask-path', '/cache', '--compress', 'none', '--history.comment', 'why'];
    await lab.ours(['repack', ...flags, '--image', `${image}:masked`, lab.path('b')]);
    const stat = JSON.parse((await lab.ours(['stat', '--json', '--image', `${image}:masked`])).text);
    const { comment, created_by } = stat.history.at(-1);
    const layer = stat.manifest.blob.layers.at(-1);
    assert.deepEqual(
      [layer.mediaType, comment, created_by],
      ['application/vnd.oci.image.layer.v1.tar', 'why', 'umoci repack'],
    );
    const tar = join(image, 'blobs/sha256', layer.digest.slice(7));
    const names = execFileSync('tar', ['tf', tar], { encoding: 'utf8' }).trim().split('\n');
    assert.deepEqual(names, ['./', 'etc/', 'etc/e']);
    await lab.ours([
      'repack',
      '--no-mask-volumes',
      '--compress=zstd',
      '--image',
      `${image}:all`,
      lab.path('b'),
    ]);
    await lab.theirs('raw', 'unpack', '--image', `${image}:all`, lab.path('all'));
    assert.equal(readFileSync(join(lab.path('all'), 'vol/v'), 'utf8'), 'vol/v');
  });

  it('insert and raw add-layer', async (t) => {
    const lab = await makeLab(t, layers());
    if (lab === null) return;
    const image = lab.path('oci');
    mkdirSync(lab.path('conf'));
    writeFileSync(lab.path('conf/a'), 'a');
    writeFileSync(lab.path('more.tar'), archive(file('from-tar', 'tar')));
    await lab.ours(['insert', '--image', image, lab.path('conf'), '/etc/conf']);
    await lab.ours(['insert', '--image', image, '--opaque', lab.path('conf'), '/cleared']);
    await lab.ours(['insert', '--image', image, lab.path('conf/a'), 'usr/bin/b']);
    await lab.ours(['insert', '--image', image, '--whiteout', '/private']);
    await lab.ours(['raw', 'add-layer', '--image', image, '--tag', 'end', lab.path('more.tar')]);
    await lab.theirs('raw', 'unpack', '--image', `${image}:end`, lab.path('theirs'));
    await lab.ours(['raw', 'unpack', '--image', `${image}:end`, lab.path('ours')]);
    const tree = await snapshotDirectory(oracle, lab.path('theirs'));
    assert.deepEqual(await snapshotDirectory(oracle, lab.path('ours')), tree);
    const names = [...tree.keys()].filter((name) => /conf|cleared|bin\/b$|private|tar$/.test(name));
    assert.deepEqual(names.sort(), [
      'cleared',
      'cleared/a',
      'etc/conf',
      'etc/conf/a',
      'from-tar',
      'usr/bin/b',
    ]);
  });

  for (const runtime of ['runc', 'crun']) {
    it(`${runtime} starts a bundle`, async (t) => {
      if (requireTool(t, runtime) === null) return;
      const busybox = requireTool(t, 'busybox');
      if (busybox === null) return;
      const image = buildImage([
        archive(dir('proc'), dir('dev'), dir('sys'), file('echo', readFileSync(busybox), { mode: 0o755 })),
      ]);
      const lab = await makeLab(t, layers());
      if (lab === null) return;
      await writeLayout(lab.path('run'), image);
      await lab.ours([
        'config',
        '--image',
        lab.path('run'),
        '--config.entrypoint',
        '/echo',
        '--config.cmd',
        'started',
      ]);
      await lab.ours(['unpack', '--image', lab.path('run'), lab.path('b')]);
      const path = join(lab.path('b'), 'config.json');
      const config = JSON.parse(readFileSync(path, 'utf8'));
      config.process.terminal = false;
      // Debian 12's crun knows no newer one.
      if (runtime === 'crun') config.ociVersion = '1.0.2';
      writeFileSync(path, JSON.stringify(config));
      const words = ['--root', lab.path('state'), 'run', '-b', lab.path('b'), `veneer-${process.pid}`];
      const ran = await (runtime === 'crun'
        ? run('unshare', [...ONE_CGROUP_VERSION, ...words])
        : run(runtime, words));
      assert.equal(ran.text.trim(), 'started', ran.stderr);
    });
  }
});

/** crun refuses hosts whose cgroups are of both versions, so it gets a view of them that has one. */
const ONE_CGROUP_VERSION = [
  '--mount',
  'sh',
  '-c',
  'umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && exec crun --cgroup-manager=disabled "$@"',
  'crun',
];

function mtreePath(lab: CliLab, bundle: string): string {
  const [name] = readdirSync(lab.path(bundle)).filter((one) => one.endsWith('.mtree'));
  return join(lab.path(bundle), name!);
}

/** Content, metadata, attributes, types, links, additions, deletions, and a directory whose content is all new. */
async function changeEverything(rootfs: string): Promise<void> {
  const at = (path: string): string => join(rootfs, path);
  writeFileSync(at('etc/passwd'), 'root:x:0:0:changed:/root:/bin/sh\n');
  chmodSync(at('usr/bin/capable'), 0o4711);
  chownSync(at('large'), 12, 34);
  execFileSync('setfattr', ['-n', 'user.added', '-v', 'yes', at('cleared/new')]);
  execFileSync('setfattr', ['-n', 'trusted.t', '-v', 't', at('sticky')]);
  unlinkSync(at('becomes-file'));
  mkdirSync(at('becomes-file'));
  writeFileSync(at('becomes-file/again'), '');
  rmSync(at('becomes-dir'), { recursive: true });
  symlinkSync('etc', at('becomes-dir'));
  linkSync(at('sparse'), at('sparse-too'));
  unlinkSync(at('usr/bin/same'));
  writeFileSync(at('usr/bin/same'), 'tool');
  rmSync(at('private'), { recursive: true });
  renameSync(at('pipe'), at('moved-pipe'));
  execFileSync('mknod', [at('zero'), 'c', '1', '5']);
  mkdirSync(at('deep/er'), { recursive: true });
  writeFileSync(at('deep/er/\u00e9'), 'x'.repeat(300));
  writeFileSync(at(`deep/${'n'.repeat(200)}`), 'long');
  utimesSync(at('deep/er'), 1_500_000_000, 1_500_000_000.25);
  lutimesSync(at('abs'), 1_400_000_000, 1_400_000_000);
  // Same size and time as before: only its data tells.
  const { atime, mtime } = statSync(at('caf\u00e9 [x]*#\\'));
  writeFileSync(at('caf\u00e9 [x]*#\\'), 'ODD name');
  utimesSync(at('caf\u00e9 [x]*#\\'), atime, mtime);
  chmodSync(rootfs, 0o711);
  cpSync(at('etc/passwd'), at('etc/passwd3'));
}
