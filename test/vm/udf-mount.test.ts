/** `veneer mount --format udf` in guests: the same tree as by EROFS, with sidecars as files and in memory, hostile layers too. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, describe, it } from 'node:test';
import type { DoctorReport } from '../../src/mount/doctor.ts';
import { CliLab } from '../e2e/run-veneer.ts';
import { EVIL, tarWithAnchorInside, tarWithForgedTrailer } from '../support/forged-udf.ts';
import {
  archive,
  device,
  dir,
  fifo,
  file,
  hardLink,
  opaque,
  symlink,
  whiteout,
} from '../support/tar-builder.ts';
import { patterned } from '../support/tar-cases/tar-case.ts';
import { requireVm, runVm, type VmKernel } from '../support/vm.ts';
import { TREE_FUNCTION } from '../support/vm-tree.ts';
import { makeExt4, makeVeneerDisk, USE_VENEER, VENEER_MEMORY } from '../support/vm-veneer.ts';

const KERNELS: readonly VmKernel[] = ['bookworm', 'sid'];
const PING = patterned(70_000, 1);
const CAPABILITY = '\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0';

const LAYERS = [
  archive(
    dir('d/', { mtime: 1_500_000_000 }),
    file('d/gone', 'gone'),
    file('d/linked', patterned(5000, 3)),
    dir('o/'),
    file('o/hidden', 'hidden'),
    file('ping', PING, { mode: 0o755, xattrs: { 'security.capability': CAPABILITY } }),
    file('fine', 'to the nanosecond', { mtimeNsec: 123_456_789 }),
    device('null', 'char', 1, 3),
    fifo('fifo'),
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
  tarWithAnchorInside(),
  tarWithForgedTrailer(),
];

const SCRIPT = `${USE_VENEER}
mkdir /store /mnt/a
mount "$DISK1" /store
export VENEER_ROOT=/store
${TREE_FUNCTION}
section() { printf '== %s\\n' "$1"; }
settle() { for _ in $(seq 100); do [ -n "$(losetup -a; dmsetup ls | grep veneer)" ] || break; sleep 0.1; done; }
left() { cut -d' ' -f5 /proc/self/mountinfo | sort; losetup -a; dmsetup ls | grep veneer || true; find /store/run /store/tmp -mindepth 1 ! -name '*lock*' 2>/dev/null || true; }
section doctor; veneer doctor --json
left >/tmp/before
look() { # look NAME FLAGS
  section "$1"
  veneer mount $2 app:1 /mnt/a >/dev/null
  tree /mnt/a
  getfattr -R -d -m - -h --absolute-names /mnt/a | grep -v '^$'
  ls /mnt/a/d /mnt/a/o
  section "$1 writes"; { echo changed >/mnt/a/fine && cat /mnt/a/fine; rm -r /mnt/a/o /mnt/a/d && ls /mnt/a | wc -l; } 2>&1 || true
  veneer umount /mnt/a >/dev/null
  settle
  section "$1 left"; diff /tmp/before <(left) || true
}
look erofs --layers
look udf '--format udf'
look udf-layers '--format udf --layers'
look udf-rw '--format udf --rw'
# what was written over UDF is there over EROFS too, also of files that only changed their mode
section upper
mkdir /up; mount -t tmpfs none /up
veneer mount --format udf --rw=/up app:1 /mnt/a >/dev/null
chmod 700 /mnt/a/ping; echo , and more >>/mnt/a/fine
veneer umount /mnt/a >/dev/null; settle
veneer mount --rw=/up app:1 /mnt/a >/dev/null
stat -c %a /mnt/a/ping; sha256sum </mnt/a/ping; cat /mnt/a/fine
veneer umount /mnt/a >/dev/null; settle; umount /up
section memory-kernel
rm "$(find /lib/modules -name erofs.ko)" 2>/dev/null || true; umount -a -t erofs; rmmod erofs 2>&1; depmod -a
grep -c erofs /proc/filesystems || true
look memory '--format udf --layers'
`;

const lab = new CliLab({ after });
let disks: Promise<{ veneer: string; store: string }> | undefined;

async function makeDisks(): Promise<{ veneer: string; store: string }> {
  await lab.pull('app:1', LAYERS);
  return { veneer: makeVeneerDisk(lab.directory), store: makeExt4(lab.path('store.img'), lab.root, 64) };
}

describe('veneer mount --format udf', () => {
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
      const doctor = JSON.parse(sections.get('doctor')!) as DoctorReport;
      assert.equal(doctor.checks.find(({ name }) => name === 'udf')!.ok, true, 'the doctor finds UDF');
      const byErofs = sections.get('erofs')!;
      assert.match(byErofs, /security\.capability=/);
      assert.ok(!byErofs.includes(EVIL));
      const digest = createHash('sha256').update(PING).digest('hex');
      assert.equal(sections.get('upper'), `700\n${digest}  -\nto the nanosecond, and more\n`);
      assert.equal(sections.get('memory-kernel')!.trim(), '0', 'EROFS is gone');
      for (const name of ['udf', 'udf-layers', 'udf-rw', 'memory']) {
        assert.equal(sections.get(name), byErofs, name);
        assert.equal(sections.get(`${name} left`), '', name);
        const writes = sections.get(`${name} writes`)!;
        if (name === 'udf-rw') assert.match(writes, /^changed\n\d+\n$/);
        else assert.match(writes, /Read-only file system/);
      }
    });
  }
});
