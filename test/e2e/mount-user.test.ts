/** `veneer mount --user`: by a user without rights, through erofsfuse, and writable in a user namespace. */
import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { buildImage, noise, writeLayout } from '../support/image-builder.ts';
import { whyNoKernel } from '../support/kernel-mount.ts';
import { Oracle } from '../support/oracle.ts';
import { missing, requireNewerTool, requireTool } from '../support/require-tool.ts';
import { archive, device, dir, fifo, file, hardLink, sparseFile, symlink } from '../support/tar-builder.ts';
import { type Snapshot, snapshotDirectory } from '../support/tree-snapshot.ts';
import { assertSameSnapshot } from '../support/tree-snapshot-diff.ts';
import { CliLab, LAUNCHER, type Ran, run } from './run-veneer.ts';

const AS_USER = fileURLToPath(new URL('../support/as-user.sh', import.meta.url));
const NOBODY = 65_534;
const layers = [
  archive(
    dir('etc'),
    file('etc/name', 'one\n'),
    file('etc/closed', 'secret\n', { mode: 0 }),
    file('gone', 'x'),
  ),
  archive(file('etc/name', 'two\n'), file('usr/lib/large', noise(300_000, 5)), symlink('link', 'etc/name')),
];

interface Lab {
  readonly cli: CliLab;
  /** Runs a shell script as nobody; `veneer` in it is the program. */
  sh(script: string): Promise<Ran>;
}

/** A store of nobody's with an image in it; null, and the test skipped, where something is missing. */
async function makeLab(t: TestContext): Promise<Lab | null> {
  if (process.getuid?.() !== 0) {
    missing(t, 'needs root to become another user');
    return null;
  }
  const erofsfuse = requireNewerTool(t, 'erofsfuse');
  if (erofsfuse === null || requireTool(t, 'fusermount3') === null || requireTool(t, 'setpriv') === null)
    return null;
  if (!existsSync('/dev/fuse')) {
    missing(t, 'there is no /dev/fuse');
    return null;
  }
  const cli = new CliLab(t);
  await writeLayout(cli.path('layout'), buildImage(layers));
  for (const name of ['home', 'mnt']) mkdirSync(cli.path(name));
  for (const name of ['', 'home', 'mnt']) chownSync(cli.path(name), NOBODY, NOBODY);
  chmodSync(cli.directory, 0o755);
  const env = {
    VENEER_ROOT: cli.root,
    HOME: cli.path('home'),
    PATH: `${dirname(erofsfuse)}:${process.env.PATH}`,
    NODE: process.execPath,
    LAUNCHER,
    STORE: cli.root,
  };
  const lab: Lab = {
    cli,
    sh: (script) =>
      run(
        'unshare',
        ['-m', AS_USER, cli.path('home'), 'sh', '-c', `veneer() { "$NODE" "$LAUNCHER" "$@"; }\n${script}`],
        { env, cwd: cli.directory },
      ),
  };
  const pulled = await lab.sh('veneer pull oci:layout --name app');
  assert.equal(pulled.code, 0, pulled.stderr);
  return lab;
}

const leftovers = (lab: Lab): string[] => readdirSync(join(lab.cli.root, 'run'));

describe('veneer mount --user', () => {
  it('mounts, lists and unmounts as a user without rights', async (t) => {
    const lab = await makeLab(t);
    if (lab === null) return;
    const ran = await lab.sh(`
      set -e
      veneer mount --user app mnt
      cat mnt/etc/name mnt/etc/closed
      readlink mnt/link
      sha256sum < mnt/usr/lib/large
      veneer mount
      # what is mounted survives rm and gc
      veneer rm app --force -q; veneer gc -q
      cat mnt/etc/name
      touch mnt/new 2>/dev/null && echo writable
      veneer umount mnt
      ls mnt | wc -l
      veneer mount -q; veneer doctor | grep erofsfuse
    `);
    assert.equal(ran.code, 0, ran.stderr);
    const { createHash } = await import('node:crypto');
    const sum = createHash('sha256').update(noise(300_000, 5)).digest('hex');
    assert.match(
      ran.text,
      new RegExp(
        `^mounted app on .*/mnt \\(read-only\\)\\ntwo\\nsecret\\netc/name\\n${sum}  -\\n` +
          'IMAGE +DIR +ACCESS +MODE +STATE\\napp +.*/mnt +ro +merged +mounted\\ntwo\\nunmounted .*/mnt\\n0\\n' +
          'yes +erofsfuse',
      ),
    );
    assert.deepEqual(leftovers(lab), []);
  });

  it('shows what the kernel shows', async (t) => {
    const erofsfuse = requireNewerTool(t, 'erofsfuse');
    const why = whyNoKernel();
    if (why !== null) return missing(t, why);
    if (erofsfuse === null || !existsSync('/dev/fuse'))
      return missing(t, 'there is no erofsfuse, or no /dev/fuse');
    const cli = new CliLab(t);
    const xattrs = {
      'user.a': 'b\0c',
      'security.capability': '\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0',
    };
    await cli.pull('app', [
      archive(
        dir('.', { mode: 0o751, mtime: 1_600_000_000, mtimeNsec: 7 }),
        ...Array.from({ length: 60 }, (_, i) => file(`many/${i}`, noise(i * 431, i + 1), { mtimeNsec: i })),
        sparseFile('holes', 5_000_000, [{ offset: 1_048_576, data: 'middle' }], '1.0'),
        file('first', noise(70_000, 9), { mode: 0o4755, uid: 70_000, xattrs }),
        hardLink('second', 'first'),
        file('odd\xff\n', 'o'),
      ),
      archive(
        file('many/7', 'changed'),
        hardLink('third', 'first'),
        device('null', 'char', 1, 3),
        fifo('pipe'),
      ),
    ]);
    const oracle = new Oracle();
    t.after(() => oracle.close());
    const shown: Snapshot[] = [];
    for (const words of [[], ['--user']]) {
      const at = cli.path(`mnt${words.length}`);
      mkdirSync(at);
      const env = { PATH: `${dirname(erofsfuse)}:${process.env.PATH}` };
      const mounted = await cli.veneer(['mount', ...words, 'app', at], { env });
      assert.equal(mounted.code, 0, mounted.stderr);
      try {
        shown.push(await snapshotDirectory(oracle, at));
      } finally {
        await cli.veneer(['umount', at], { env });
      }
    }
    assert.ok(shown[0]!.size > 60);
    // erofsfuse tells whole seconds only.
    const seconds = (snapshot: Snapshot): Snapshot =>
      new Map([...snapshot].map(([path, entry]) => [path, { ...entry, mtimeNsec: 0 }]));
    assertSameSnapshot(seconds(shown[0]!), seconds(shown[1]!), 'kernel and erofsfuse');
  });

  it('says why not: without erofsfuse, on a directory of somebody else, writable without a namespace, busy', async (t) => {
    const lab = await makeLab(t);
    if (lab === null) return;
    const ran = await lab.sh(`
      PATH=/usr/bin:/bin veneer mount --user app mnt && exit 1
      veneer mount --user app /usr && exit 1
      veneer mount --user --rw app mnt && exit 1
      veneer mount app mnt && exit 1
      veneer mount --user app mnt -q
      (cd mnt && exec sleep 30) & sleep 0.3
      veneer umount mnt && exit 1
      kill $!; wait
      veneer umount -q mnt
    `);
    assert.equal(ran.code, 0, ran.stderr);
    for (const told of [
      /there is no erofsfuse\nhint: Install erofsfuse/,
      /Cannot mount app at \/usr: erofsfuse: .*\/usr/,
      /overlayfs wants CAP_SYS_ADMIN\nhint: .*unshare -Urm/,
      /the kernel wants CAP_SYS_ADMIN\nhint: .*--user/,
      /Cannot unmount .*\/mnt: it is in use: sleep/,
    ])
      assert.match(ran.stderr, told);
    chmodSync(lab.cli.path('home/fuse'), 0o600);
    const closed = await lab.sh('veneer mount --user app mnt');
    assert.notEqual(closed.code, 0);
    assert.match(closed.stderr, /\/dev\/fuse: Permission denied\nhint: Your user may not open \/dev\/fuse/);
    assert.deepEqual(leftovers(lab), []);
  });

  it('writable in a user namespace, changes thrown away or kept', async (t) => {
    const lab = await makeLab(t);
    if (lab === null) return;
    const probe = await lab.sh('unshare -Urm true');
    if (probe.code !== 0) return missing(t, 'users may not make user namespaces');
    writeFileSync(
      lab.cli.path('inside'),
      `
      set -e
      veneer() { "$NODE" "$LAUNCHER" "$@"; }
      veneer mount --user --rw app mnt -q
      echo three > mnt/etc/name; rm mnt/gone; cat mnt/etc/name
      veneer umount -q mnt
      veneer mount --user --rw=upper app mnt -q
      cat mnt/etc/name; ls mnt/gone
      echo four > mnt/etc/name; rm -r mnt/usr; mkdir mnt/usr
      veneer umount -q mnt
      veneer mount --user --rw=upper app mnt -q
      cat mnt/etc/name; ls mnt/usr
      veneer umount -q mnt
    `,
    );
    const ran = await lab.sh('unshare -Urm sh inside');
    assert.equal(ran.code, 0, ran.stderr);
    assert.equal(ran.text, 'three\ntwo\nmnt/gone\nfour\n');
    assert.equal(readFileSync(lab.cli.path('upper/upper/etc/name'), 'utf8'), 'four\n');
    assert.deepEqual(leftovers(lab), []);
  });

  it('killed readers leave a mount that can be taken away', async (t) => {
    const lab = await makeLab(t);
    if (lab === null) return;
    const ran = await lab.sh(`
      set -e
      veneer mount --user app mnt -q
      for process in /proc/[0-9]*; do
        case $(tr '\\0' ' ' < $process/cmdline 2>/dev/null) in
          *erofsfuse*"$STORE"*) kill -9 \${process#/proc/} ;;
        esac
      done
      sleep 0.2
      ls mnt 2>/dev/null && exit 1
      veneer umount mnt
      veneer mount --user app mnt -q; cat mnt/etc/name; veneer umount -q mnt
    `);
    assert.equal(ran.code, 0, ran.stderr);
    assert.match(ran.text, /^unmounted .*\/mnt\ntwo\n$/);
    assert.deepEqual(leftovers(lab), []);
  });
});
