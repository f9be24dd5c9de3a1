/** Directories as the kernel shows them, and what overlayfs leaves in an upper one: read, and looked at by another. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { linkSync, mkdirSync, rmSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { MountLab, whyNoKernel } from '../../test/support/kernel-mount.ts';
import { Oracle } from '../../test/support/oracle.ts';
import { type Snapshot, snapshotDirectory, snapshotTree } from '../../test/support/tree-snapshot.ts';
import { diffSnapshots } from '../../test/support/tree-snapshot-diff.ts';
import { VeneerError } from '../errors.ts';
import { makeNode } from '../sys/inode.ts';
import { getXattr, removeXattr, setXattr } from '../sys/xattr.ts';
import { lookupPath } from '../tree/lookup.ts';
import { mergeLayers } from '../tree/merge.ts';
import type { FileTree, TreeNode } from '../tree/node.ts';
import { encodeRootlessOwner, ROOTLESS_XATTR } from './owners.ts';
import { type DirectoryTree, type ReadDirectoryOptions, readDirectoryTree } from './read-directory.ts';
import { type ChangedName, readChangedNames } from './read-names.ts';

const oracle = new Oracle();
const lab = new MountLab(oracle);
after(async () => {
  await lab.close();
  await oracle.close();
});
const skip = whyNoKernel() ?? false;

/** user::rwx, user:1234:r-x, group::r-x, mask::r-x, other::--- as <linux/posix_acl_xattr.h> has it. */
const ACL = Buffer.from(
  '02000000' +
    '01000700ffffffff' +
    '02000500d2040000' +
    '04000500ffffffff' +
    '10000500ffffffff' +
    '20000000ffffffff',
  'hex',
).toString('latin1');

/** Runs a script in a directory. */
const sh = (cwd: string, script: string): void =>
  void execFileSync('sh', ['-euc', script], { cwd, stdio: ['ignore', 'ignore', 'inherit'] });

async function read<T>(
  directory: string,
  options: ReadDirectoryOptions,
  use: (read: DirectoryTree) => T | Promise<T>,
): Promise<T> {
  const opened = await readDirectoryTree(directory, options);
  try {
    return await use(opened);
  } finally {
    opened.data.close();
  }
}

const snapshot = (directory: string, options: ReadDirectoryOptions = {}): Promise<Snapshot> =>
  read(directory, options, ({ tree, data }) =>
    snapshotTree(tree, (_source, at, length) => data.read(at, length)),
  );

const refused = (work: Promise<unknown>, code: string, message: RegExp): Promise<void> =>
  assert.rejects(
    work,
    (error) => error instanceof VeneerError && error.code === code && message.test(error.message),
  );

function find(tree: FileTree, path: string): TreeNode {
  const node = lookupPath(tree, path);
  assert.ok(node, `${path} is missing`);
  return node;
}

describe('a directory', { skip }, () => {
  it('is read with all that the kernel says of it', async () => {
    const dir = lab.folder('all');
    const at = (name: string): Buffer => Buffer.from(`${dir}/${name}`, 'latin1');
    mkdirSync(join(dir, 'd/e'), { recursive: true, mode: 0o750 });
    writeFileSync(join(dir, 'd/file'), Buffer.alloc(300_000, 'abc'), { mode: 0o640 });
    writeFileSync(join(dir, 'empty'), '');
    writeFileSync(join(dir, 'd/e/hole'), 'x');
    truncateSync(join(dir, 'd/e/hole'), 3_000_000);
    writeFileSync(at('caf\xe9 \xff\xfe\n'), 'bytes');
    linkSync(at('caf\xe9 \xff\xfe\n'), at('d/linked'));
    linkSync(join(dir, 'd/file'), join(dir, 'a'));
    symlinkSync('/etc/passwd', join(dir, 'd/link'));
    symlinkSync(Buffer.from('\xff/..', 'latin1'), at('l\x80'));
    makeNode(join(dir, 'd/fifo'), 0o010600, 0, 0);
    makeNode(join(dir, 'd/char'), 0o020666, 1, 300);
    makeNode(join(dir, 'd/block'), 0o060660, 259, 70_000);
    makeNode(join(dir, 'd/null'), 0o020000, 0, 0);
    sh(dir, 'chown 70000:4000000000 empty; chown -h 7:8 d/link; chmod 6755 d/file; chmod 1777 d');
    for (const [name, value] of [
      ['user.note', '\0\xff\n'],
      ['trusted.t', 'x'.repeat(3000)],
      [
        'security.capability',
        Buffer.from('0100000200040000000000000000000000000000', 'hex').toString('latin1'),
      ],
    ] as const) {
      setXattr(join(dir, 'd/file'), name, value);
    }
    setXattr(at('caf\xe9 \xff\xfe\n'), 'user.\xe9', 'on a name that is no text');
    setXattr(join(dir, 'd'), 'user.dir', 'd');
    setXattr(dir, 'user.root', 'r');
    setXattr(join(dir, 'd/link'), 'trusted.of-a-link', 'l');
    setXattr(join(dir, 'd/e'), 'system.posix_acl_access', ACL);
    setXattr(join(dir, 'd/e'), 'system.posix_acl_default', ACL);
    sh(
      dir,
      'touch -h -d "1969-12-31 23:59:58.123456789 UTC" d/link; touch -d "2345-06-07 08:09:10.000000001 UTC" d/fifo',
    );
    utimesSync(join(dir, 'd/e'), 1, 2);
    const expected = await snapshotDirectory(oracle, dir);
    assert.deepEqual(diffSnapshots(expected, await snapshot(dir)), []);
    assert.equal(expected.size, 15);
  });

  it('deep paths, longer than a call can take', async () => {
    const dir = lab.folder('deep');
    const name = 'n'.repeat(200);
    sh(dir, `i=0; while [ $i -lt 60 ]; do mkdir ${name}; cd -P ./${name}; i=$((i+1)); done; echo deep > f`);
    const path = `${`${name}/`.repeat(60)}f`;
    await read(dir, {}, ({ tree, data }) => {
      const node = find(tree, path);
      assert.equal(data.read(node.at, node.size).toString(), 'deep\n');
    });
    await refused(
      readDirectoryTree(dir, { limits: { depth: 59, nodes: 1000, text: 0 } }),
      'tree/limit',
      /more than 59/,
    );
    await refused(
      readDirectoryTree(dir, { limits: { depth: 99, nodes: 50, text: 0 } }),
      'tree/limit',
      /50 in/,
    );
  });

  it('sockets and what no layer can hold are told of', async () => {
    const dir = lab.folder('odd');
    const server = createServer().listen(join(dir, 'sock'));
    await new Promise((resolve) => server.once('listening', resolve));
    writeFileSync(join(dir, 'f'), '');
    setXattr(join(dir, 'f'), 'trusted.overlay.opaque', 'y');
    await read(dir, {}, ({ tree }) => {
      assert.deepEqual([...tree.root.children!.keys()], ['f']);
      assert.equal(find(tree, 'f').xattrs, null);
      assert.deepEqual(
        tree.findings.map(({ code, path }) => `${code} ${path}`),
        ['rootfs/xattr-dropped f', 'rootfs/socket sock'],
      );
    });
    server.close();
  });

  it('a file that changed, shrank or became something else after it was found is not read', async () => {
    const dir = lab.folder('moving');
    for (const name of ['changed', 'short', 'link', 'fifo', 'gone'])
      writeFileSync(join(dir, name), 'x'.repeat(5000));
    await read(dir, {}, async ({ tree, data }) => {
      const readAll = (name: string) => async () => data.read(find(tree, name).at, 5000);
      sh(
        dir,
        'echo y >> changed; truncate -s 1 short; for n in link fifo gone; do rm $n; done; ln -s /etc/passwd link; mkfifo fifo',
      );
      for (const name of ['changed', 'short', 'fifo']) {
        await refused(readAll(name)(), 'rootfs/changed', new RegExp(`'/${name}'.*changed`));
      }
      await refused(readAll('link')(), 'sys/ELOOP', /link/);
      await refused(readAll('gone')(), 'sys/ENOENT', /gone/);
    });
  });

  it('owners through maps, and as the rootless attribute says them', async () => {
    const dir = lab.folder('owners');
    sh(
      dir,
      'touch mapped root other named; chown 101005:201006 mapped; chown 100000:200000 root .; chown 5:5 other',
    );
    const uidMaps = [{ container: 0, host: 100_000, size: 65_536 }];
    const gidMaps = [{ container: 0, host: 200_000, size: 65_536 }];
    await refused(
      readDirectoryTree(dir, { owners: { uidMaps, gidMaps, rootless: false } }),
      'rootfs/unmapped-id',
      /'\/named'.*user id 0 /,
    );
    sh(dir, 'chown 100001:200001 named other');
    await read(dir, { owners: { uidMaps, gidMaps, rootless: false } }, ({ tree }) => {
      const owners = ['mapped', 'root', ''].map((name) => [find(tree, name).uid, find(tree, name).gid]);
      assert.deepEqual(owners, [
        [1005, 1006],
        [0, 0],
        [0, 0],
      ]);
    });
    setXattr(join(dir, 'named'), ROOTLESS_XATTR, encodeRootlessOwner({ uid: 300, gid: 0 })!);
    setXattr(join(dir, 'named'), 'user.stays', 'y');
    setXattr(join(dir, 'mapped'), ROOTLESS_XATTR, encodeRootlessOwner({ uid: 70_000, gid: 4_000_000_000 })!);
    await read(dir, { owners: { uidMaps: [], gidMaps: [], rootless: true } }, ({ tree }) => {
      const owners = ['named', 'mapped', 'other'].map((name) => {
        const { uid, gid, xattrs } = find(tree, name);
        return [uid, gid, [...(xattrs ?? [])].join()];
      });
      assert.deepEqual(owners, [
        [300, 0, 'user.stays,y'],
        [70_000, 4_000_000_000, ''],
        [0, 0, ''],
      ]);
    });
    setXattr(join(dir, 'named'), ROOTLESS_XATTR, '\x08');
    await refused(
      readDirectoryTree(dir, { owners: { uidMaps: [], gidMaps: [], rootless: true } }),
      'rootfs/unmapped-id',
      /damaged/,
    );
  });

  it('attributes that nobody wants, and a look at every name', async () => {
    const dir = lab.folder('picky');
    writeFileSync(join(dir, 'f'), '');
    linkSync(join(dir, 'f'), join(dir, 'g'));
    setXattr(join(dir, 'f'), 'user.a', '1');
    setXattr(join(dir, 'f'), 'user.b', '2');
    const seen: string[] = [];
    const options: ReadDirectoryOptions = {
      keepXattr: (name) => name !== 'user.a',
      onNode: (path, _node, { nlink, ctime }) => seen.push(`${path} ${nlink} ${ctime > 1e9}`),
    };
    await read(dir, options, ({ tree }) => assert.deepEqual([...find(tree, 'g').xattrs!], [['user.b', '2']]));
    assert.deepEqual(seen, [' 2 true', 'f 2 true', 'g 2 true']);
    await assert.rejects(
      readDirectoryTree('/usr', { signal: AbortSignal.abort(new Error('enough')) }),
      /enough/,
    );
  });
});

/** Mounts an overlay of a lower directory, and runs `change` in it. */
function overlay(
  change: (merged: string) => void,
  options = '',
): { lower: string; upper: string; merged: string } {
  const lower = lab.folder('lower');
  const place = lab.folder('rw');
  const merged = lab.folder('merged');
  const [upper, work] = [join(place, 'upper'), join(place, 'work')];
  mkdirSync(upper);
  mkdirSync(work);
  sh(lower, BEFORE);
  setXattr(join(lower, 'keep/f'), 'user.lower', 'x');
  setXattr(join(lower, 'keep/sub'), 'user.dir', 'x');
  const all = `lowerdir=${lower},upperdir=${upper},workdir=${work}${options}`;
  execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', all, merged]);
  after(() => execFileSync('umount', [merged]));
  change(merged);
  return { lower, upper, merged };
}

const BEFORE = `
  mkdir -p keep/sub gone/sub again/sub became type
  for d in . keep keep/sub gone gone/sub again again/sub became type; do echo "$d" > $d/f; echo "$d" > $d/g; done
  ln keep/f keep/hard; ln -s f keep/link; mkfifo keep/fifo; mknod keep/dev c 1 3`;
const CHANGE = `
  rm g keep/g; rm -r gone; rm -r again; mkdir again; echo new > again/new; echo again > again/f
  rm -r became; echo file > became; rm type/f; mkdir type/f; echo in > type/f/g
  echo more >> keep/f; chmod 600 keep/sub/g; chown 5:6 keep/link; ln keep/sub/f keep/sub/linked; mkdir -p fresh/a/b; touch fresh/a/b/c
  mkfifo fresh/fifo; mknod fresh/dev b 8 1; touch -d @12.000000007 keep/fifo; rm keep/dev
  mv keep/sub/g keep/sub/moved; mkdir tmp; rmdir tmp; rm keep/link; ln -s other keep/link`;

describe('an upper directory', { skip }, () => {
  it('on the lower one is what overlayfs shows', async () => {
    const { lower, upper, merged } = overlay((dir) => {
      sh(dir, CHANGE);
      setXattr(join(dir, 'keep/sub'), 'user.new', 'y');
      removeXattr(join(dir, 'keep/f'), 'user.lower');
    });
    const expected = await snapshotDirectory(oracle, merged);
    await read(lower, {}, async (below) => {
      await read(upper, { overlay: 'trusted' }, async (above) => {
        assert.deepEqual(above.tree.findings, []);
        assert.deepEqual([...find(above.tree, '').whiteouts!].sort(), ['g', 'gone']);
        assert.equal(find(above.tree, 'again').opaque, true);
        assert.equal(find(above.tree, 'again').whiteouts, null);
        const sides = [below.data, above.data];
        const image = mergeLayers([below.tree, above.tree]);
        const actual = await snapshotTree(image, (source, at, length) => sides[source]!.read(at, length));
        assert.deepEqual(diffSnapshots(expected, actual, { ignore: linksBroken }), []);
      });
    });
  });

  it('attributes that somebody above overlayfs set get their names back', async () => {
    const { upper } = overlay(
      (dir) => setXattr(join(dir, 'keep/f'), 'user.overlay.opaque', 'y'),
      ',userxattr',
    );
    assert.equal(getXattr(join(upper, 'keep/f'), 'user.overlay.overlay.opaque'), 'y');
    await read(upper, { overlay: 'user' }, ({ tree }) => {
      assert.deepEqual([...find(tree, 'keep/f').xattrs!.keys()], ['user.lower', 'user.overlay.opaque']);
    });
  });

  it('whiteouts that are files with an attribute count where their directory says so', async () => {
    const upper = lab.folder('marked');
    sh(upper, 'mkdir here not; touch here/gone not/there here/stays; echo full > here/full');
    setXattr(join(upper, 'here'), 'trusted.overlay.opaque', 'x');
    for (const name of ['here/gone', 'here/full', 'not/there']) {
      setXattr(join(upper, name), 'trusted.overlay.whiteout', 'y');
    }
    await read(upper, { overlay: 'trusted' }, ({ tree }) => {
      assert.deepEqual([...find(tree, 'here').whiteouts!], ['gone']);
      assert.deepEqual([...find(tree, 'here').children!.keys()], ['full', 'stays']);
      assert.equal(find(tree, 'here').opaque, false);
      assert.ok(find(tree, 'not/there'));
    });
  });

  it('that leaves things in the lower directory is refused', async () => {
    const moved = overlay((dir) => sh(dir, 'mv keep/sub elsewhere'), ',redirect_dir=on');
    await refused(
      readDirectoryTree(moved.upper, { overlay: 'trusted' }),
      'rootfs/overlay',
      /'\/elsewhere' is a directory that was renamed/,
    );
    const thin = overlay((dir) => sh(dir, 'chmod 600 keep/f'), ',metacopy=on');
    await refused(
      readDirectoryTree(thin.upper, { overlay: 'trusted' }),
      'rootfs/overlay',
      /'\/keep\/f' is a file whose bytes are in a lower layer/,
    );
  });
});

describe('names that changed', { skip }, () => {
  /** What the script does to a copy of the lower directory, told by name, must be what came of it. */
  async function check(change: string, names: readonly ChangedName[]): Promise<FileTree> {
    const [old, now] = [lab.folder('old'), lab.folder('now')];
    sh(old, BEFORE);
    execFileSync('cp', ['-a', `${old}/.`, now]);
    sh(now, change);
    const expected = await snapshotDirectory(oracle, now);
    return read(old, {}, async (below) => {
      const above = await readChangedNames(now, names);
      try {
        const layer = structuredClone(above.tree);
        const sides = [below.data, above.data];
        const image = mergeLayers([below.tree, above.tree]);
        const actual = await snapshotTree(image, (source, at, length) => sides[source]!.read(at, length));
        assert.deepEqual(diffSnapshots(expected, actual), []);
        return layer;
      } finally {
        above.data.close();
      }
    });
  }
  const one = (path: string): ChangedName => ({ path, recursive: false });
  const all = (path: string): ChangedName => ({ path, recursive: true });

  it('make the layer that changes them: content, attributes, types, what is gone and what is new', async () => {
    const told = [
      '',
      'g',
      'keep',
      'keep/g',
      'gone',
      'became',
      'type',
      'type/f',
      'type/f/g',
      'keep/f',
      'keep/hard',
    ]
      .concat([
        'keep/sub',
        'keep/sub/g',
        'keep/sub/f',
        'keep/sub/linked',
        'keep/sub/moved',
        'keep/link',
        'keep/fifo',
      ])
      .concat([
        'keep/dev',
        'fresh',
        'fresh/a',
        'fresh/a/b',
        'fresh/a/b/c',
        'fresh/fifo',
        'fresh/dev',
        'never/was',
      ])
      .map(one);
    const layer = await check(CHANGE, [...told, all('again')]);
    assert.deepEqual([...layer.root.whiteouts!].sort(), ['g', 'gone', 'never']);
    assert.equal(find(layer, 'again').opaque, true);
    assert.deepEqual([...find(layer, 'keep').children!.keys()].sort(), [
      ...['dev', 'f', 'fifo', 'g', 'hard', 'link', 'sub'].filter((name) => name !== 'dev' && name !== 'g'),
    ]);
  });

  it('do not touch what was not told', async () => {
    const layer = await check('echo x >> keep/sub/f; echo y >> type/f; rm -r gone/sub; mkdir gone/sub', [
      one('keep/sub/f'),
      all('gone/sub'),
      one('gone/sub/g'),
      one('gone'),
      one('type/f'),
    ]);
    assert.equal(find(layer, 'keep').implied, true);
    assert.equal(find(layer, 'keep/sub').implied, true);
    assert.deepEqual([...find(layer, 'keep/sub').children!.keys()], ['f']);
    assert.equal(layer.root.implied, true);
    assert.equal(find(layer, 'gone').implied, false);
    assert.equal(find(layer, 'gone/sub').opaque, true);
  });

  it('all of it', async () => {
    const layer = await check(CHANGE, [all('')]);
    assert.equal(layer.root.opaque, true);
  });

  it('never lead out through symbolic links', async () => {
    const dir = lab.folder('links');
    sh(dir, 'ln -s /etc etc; ln -s .. up');
    const names = ['etc/passwd', 'up/x', 'etc'].map(one);
    const { tree, data } = await readChangedNames(dir, names);
    data.close();
    assert.deepEqual([...tree.root.children!.keys()].sort(), ['etc', 'up']);
    assert.equal(find(tree, 'etc').target, '/etc');
    assert.equal(tree.root.whiteouts, null);
  });
});

/** Copied up, a file is no link of the lower one any more; overlayfs still counts as below. */
const linksBroken = (path: string, field: string): boolean =>
  (field === 'nlink' || field === 'hardLink') && /^keep\/(f|hard|sub\/f|sub\/linked)$/.test(path);

after(() => rmSync(lab.directory, { recursive: true, force: true }));
