/** `veneer serve --format udf` in guests, whose kernels have UDF: chains and containers on them, as over EROFS. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, describe, it } from 'node:test';
import { CliLab } from '../e2e/run-veneer.ts';
import { archive, dir, file, hardLink, opaque, symlink, whiteout } from '../support/tar-builder.ts';
import { patterned } from '../support/tar-cases/tar-case.ts';
import { requireVm, runVm, type VmKernel } from '../support/vm.ts';
import { TREE_FUNCTION } from '../support/vm-tree.ts';
import { makeExt4, makeVeneerDisk, USE_VENEER, VENEER_MEMORY } from '../support/vm-veneer.ts';

const KERNELS: readonly VmKernel[] = ['bookworm', 'sid'];
const CAPABILITY = '\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0';

const LAYERS = [
  archive(
    dir('./', { mode: 0o750, mtime: 1_400_000_000 }),
    dir('d/', { mtime: 1_500_000_000 }),
    file('d/gone', 'gone'),
    file('d/linked', patterned(5000, 3)),
    dir('o/'),
    file('o/hidden', 'hidden'),
    file('ping', patterned(70_000, 1), { mode: 0o755, xattrs: { 'security.capability': CAPABILITY } }),
    file('fine', 'to the nanosecond', { mtimeNsec: 123_456_789 }),
  ),
  archive(
    file('n'.repeat(255), 'a name that UDF has no room for'),
    symlink('odd', 'd//linked/'),
    hardLink('another', 'd/linked'),
    file('\xff\xfe raw \xe9', 'bytes'),
    whiteout('d/gone'),
    opaque('o'),
    file('o/new', 'new'),
  ),
];
const DIFF_IDS = LAYERS.map((tar) => `sha256:${createHash('sha256').update(tar).digest('hex')}`);

/** What the daemon does for a container, without containerd: says where the chain is, and how to mount over it. */
const SNAPSHOT = `
import { mkdirSync } from 'node:fs';
import { ChainMounts } from '/veneer/app/src/containerd/chain-mounts.ts';
import { chainOf } from '/veneer/app/src/store/chain-ids.ts';
import { MergeThread } from '/veneer/app/src/store/merge-thread.ts';
import { Store } from '/veneer/app/src/store/store.ts';
import { dressUpper, restoreUpper } from '/veneer/app/src/containerd/upper.ts';
const [what, format] = process.argv.slice(2);
const layers = ${JSON.stringify(DIFF_IDS)};
const store = Store.open('/store', { fsync: false });
const merger = new MergeThread(store);
const config = { mounts: 'overlay', format, backing: 'auto' };
const chains = new ChainMounts(store, merger, '/store/' + format, config);
if (what === 'release') chains.release(chainOf(layers));
else {
  const lower = await chains.ensure(layers);
  const upper = '/store/' + format + '/upper';
  restoreUpper(upper);
  dressUpper(upper, lower);
  console.log(lower, chains.activeForms(layers, upper)[0].options.join(','));
}
await merger.close();
store.close();
`;

const SCRIPT = `${USE_VENEER}
mkdir /store /mnt/a
mount "$DISK1" /store
cat >/snapshot.ts <<'END'
${SNAPSHOT}
END
${TREE_FUNCTION}
section() { printf '== %s\\n' "$1"; }
settle() { for _ in $(seq 100); do [ -n "$(losetup -a; dmsetup ls | grep veneer)" ] || break; sleep 0.1; done; }
left() { cut -d' ' -f5 /proc/self/mountinfo | sort; losetup -a; dmsetup ls | grep veneer || true; find /store/run /store/tmp -mindepth 1 ! -name '*lock*' 2>/dev/null || true; }
left >/tmp/before
for format in erofs udf; do
  node /snapshot.ts ensure $format >/tmp/said
  read -r lower options </tmp/said
  section "$format type"; stat -f -c %T "$lower"
  section "$format"
  stat -c '%a %Y' "$lower"
  tree "$lower"
  getfattr -R -d -m - -h --absolute-names "$lower" | sed "s,$lower,," | grep -v '^$'
  mount -t overlay -o "$options" overlay /mnt/a
  section "$format container"
  stat -c '%a %Y' /mnt/a
  tree /mnt/a
  echo , and more >>/mnt/a/fine; chmod 700 /mnt/a/ping; rm -r /mnt/a/o /mnt/a/another; mv /mnt/a/odd /mnt/a/d/odd
  cat /mnt/a/fine; stat -c '%a %n' /mnt/a/ping; sha256sum </mnt/a/ping; ls -A /mnt/a /mnt/a/d
  section "$format upper"
  ( cd /store/$format/upper/fs; find . -mindepth 1 -printf '%P %y %m %U %G\\n' | sort )
  umount /mnt/a
  node /snapshot.ts release $format
  settle
  section "$format left"; diff /tmp/before <(left) || true
done
`;

const lab = new CliLab({ after });
let disks: Promise<{ veneer: string; store: string }> | undefined;

async function makeDisks(): Promise<{ veneer: string; store: string }> {
  await lab.pull('app:1', LAYERS);
  return { veneer: makeVeneerDisk(lab.directory), store: makeExt4(lab.path('store.img'), lab.root, 64) };
}

describe('veneer serve --format udf', () => {
  for (const kernel of KERNELS) {
    it(kernel, async (t) => {
      if (!requireVm(t, kernel)) return;
      disks ??= makeDisks();
      const { veneer, store } = await disks;
      const { status, output } = await runVm({
        kernel,
        script: SCRIPT,
        disks: [{ path: veneer }, { path: store, access: 'snap' }],
        memory: VENEER_MEMORY,
        timeout: 900,
        signal: t.signal,
      });
      assert.equal(status, 0, output);
      const sections = new Map(
        output.split(/^== /m).map((text): [string, string] => {
          const end = text.indexOf('\n');
          return [text.slice(0, end), text.slice(end + 1)];
        }),
      );
      assert.match(sections.get('erofs')!, /^750 1400000000\n/);
      assert.match(sections.get('erofs')!, /security\.capability=/);
      assert.match(sections.get('erofs container')!, /to the nanosecond, and more/);
      assert.notEqual(sections.get('udf type'), sections.get('erofs type'));
      for (const part of ['', ' container', ' upper', ' left'])
        assert.equal(sections.get(`udf${part}`), sections.get(`erofs${part}`), `udf${part}`);
      assert.equal(sections.get('udf left'), '');
    });
  }
});
