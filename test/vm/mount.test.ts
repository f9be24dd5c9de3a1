/** Mounts on kernels that this machine does not have: loop devices, attached lowers, and what the doctor says. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { after, describe, it, type TestContext } from 'node:test';
import type { DoctorReport } from '../../src/mount/doctor.ts';
import type { MountRecord } from '../../src/mount/types.ts';
import { CliLab } from '../e2e/run-veneer.ts';
import { archive, file, whiteout } from '../support/tar-builder.ts';
import { versionPair } from '../support/version-pair.ts';
import { requireVm, runVm, type VmKernel } from '../support/vm.ts';
import { makeExt4, makeVeneerDisk, USE_VENEER, VENEER_MEMORY } from '../support/vm-veneer.ts';

/** More layers than mount(2) has room for by path. */
const MANY = 130;

interface Guest {
  readonly kernel: VmKernel;
  readonly release: RegExp;
  readonly fileBacked: boolean;
  /** Suites of the tests of mounting that are worth their time on this kernel. */
  readonly suites: readonly string[];
}

/** 6.1 needs loop devices and attached lower layers, 6.12 attached lower layers; what comes later neither. */
const GUESTS: readonly Guest[] = [
  {
    kernel: 'bookworm',
    release: /^6\.1\./,
    fileBacked: false,
    suites: ['mounting', 'a writable layer', 'a step that fails', 'unmounting'],
  },
  {
    kernel: 'bpo',
    release: /^6\.12\./,
    fileBacked: true,
    suites: ['mounting', 'a writable layer', 'a step that fails', 'unmounting', 'without rights'],
  },
  { kernel: 'sid', release: /^[7-9]\./, fileBacked: true, suites: ['mounting', 'unmounting'] },
];

/** What the doctor finds on all of these kernels with a store on ext4. */
const FOUND = {
  kernel: true,
  privilege: true,
  erofs: true,
  'erofs-512': true,
  loop: true,
  overlay: true,
  reflink: false,
  erofsfuse: false,
  'fs-verity': true,
  udf: true,
  'dm-verity': true,
  isal: false,
  'user-namespaces': true,
};

const script = (suites: readonly string[]): string => `${USE_VENEER}
mkdir /store /mnt/a
mount "$DISK1" /store
mkdir /store/scratch
export VENEER_ROOT=/store TMPDIR=/store/scratch
section() { printf '== %s\\n' "$1"; }
# A loop device is cleared a moment after its last user.
settle() { for _ in $(seq 100); do [ -n "$(losetup -a)" ] || break; sleep 0.1; done; }
state() { cut -d' ' -f5 /proc/self/mountinfo; losetup -a; ls -A "$VENEER_ROOT/run" 2>/dev/null || true; }

section release; uname -r
section doctor; veneer doctor --json
state >/tmp/before
try() { # try NAME FLAGS IMAGE
  section "$1 record"; veneer mount --json $2 "$3" /mnt/a
  section "$1 mounts"; diff /tmp/before <(cut -d' ' -f5 /proc/self/mountinfo) | grep '^>' || true
  section "$1 files"; cat /mnt/a/shared; ls /mnt/a | wc -l
  section "$1 writes"; { echo changed >/mnt/a/shared && cat /mnt/a/shared; } 2>&1 || true
  veneer umount /mnt/a >/dev/null
  settle
  section "$1 left"; diff /tmp/before <(state) || true
}
try layers --layers many:1
try rw-layers '--rw --layers' many:1
# Layers that share their data: several devices, chunks of files in several of them.
for format in erofs udf; do
  section "deduped $format"
  veneer mount --format $format new:1 /mnt/a >/dev/null
  (cd /mnt/a && find . -type f | LC_ALL=C sort | xargs sha256sum)
  veneer umount /mnt/a >/dev/null
  settle
done
# The kernel does not mount files that are on tmpfs.
cp -a /store /tmp/store
export VENEER_ROOT=/tmp/store
try tmpfs '' few:1

# The tests of mounting as they are; compiled once for all their processes.
section tests
cd /veneer/app
export NODE_COMPILE_CACHE=/store/compiled
node --test --test-isolation=none --test-reporter=tap --test-name-pattern='/^(${suites.join('|')})\\b/' \\
  test/e2e/mount.test.ts test/e2e/mount-processes.test.ts >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }
grep '^# [a-z]* [0-9]' /tmp/log
`;

const lab = new CliLab({ after });
let disks: Promise<{ veneer: string; store: string }> | undefined;

async function makeDisks(): Promise<{ veneer: string; store: string }> {
  await lab.pull('few:1', [
    archive(file('shared', 'layer 0\n'), file('gone', 'gone')),
    archive(file('shared', 'layer 1\n'), whiteout('gone')),
  ]);
  const layers = Array.from({ length: MANY }, (_, number) =>
    archive(file(`own-${number}`, `${number}`), file('shared', `layer ${number}\n`)),
  );
  await lab.pull('many:1', layers);
  const pair = versionPair();
  await lab.veneer(['config', 'dedupe', 'on']);
  await lab.pull('old:1', [pair.before]);
  await lab.pull('new:1', [pair.after]);
  await lab.veneer(['config', 'dedupe', 'off']);
  return { veneer: makeVeneerDisk(lab.directory), store: makeExt4(lab.path('store.img'), lab.root, 512) };
}

/** Digests of all files of the image new:1, as GNU tar unpacks them. */
function unpackedDigests(): string {
  const folder = lab.path('unpacked');
  mkdirSync(folder, { recursive: true });
  execFileSync('tar', ['-x', '-C', folder], { input: versionPair().after });
  const command = 'find . -type f | LC_ALL=C sort | xargs sha256sum';
  return execFileSync('sh', ['-c', command], { cwd: folder, encoding: 'utf8' });
}

/** What the script printed, by section. */
async function boot(t: TestContext, { kernel, suites }: Guest): Promise<ReadonlyMap<string, string>> {
  disks ??= makeDisks();
  const { veneer, store } = await disks;
  const { status, output } = await runVm({
    kernel,
    script: script(suites),
    disks: [{ path: veneer }, { path: store, access: 'snap' }],
    memory: VENEER_MEMORY,
    timeout: 900,
    signal: t.signal,
  });
  assert.equal(status, 0, output);
  return new Map(
    output.split(/^== /m).map((text) => {
      const end = text.indexOf('\n');
      return [text.slice(0, end), text.slice(end + 1)];
    }),
  );
}

describe('veneer mount on other kernels', { concurrency: 2 }, () => {
  for (const guest of GUESTS) {
    const { kernel, release, fileBacked } = guest;
    it(kernel, async (t) => {
      if (!requireVm(t, kernel)) return;
      const sections = await boot(t, guest);
      const section = (name: string): string => sections.get(name) ?? assert.fail(`no section ${name}`);
      assert.match(section('release'), release);

      const doctor = JSON.parse(section('doctor')) as DoctorReport;
      const found = Object.fromEntries(doctor.checks.map(({ name, ok }) => [name, ok]));
      assert.deepEqual([doctor.ready, found], [true, { ...FOUND, 'erofs-file': fileBacked }]);

      for (const [name, mode, type, count, writable, backing] of [
        ['layers', 'layers', 'overlay', MANY, false, fileBacked ? 'file' : 'loop'],
        ['rw-layers', 'layers', 'overlay', MANY, true, fileBacked ? 'file' : 'loop'],
        ['tmpfs', 'merged', 'erofs', 2, false, 'loop'],
      ] as const) {
        const record = JSON.parse(section(`${name} record`)) as MountRecord;
        assert.deepEqual([record.mode, record.type, record.backing], [mode, type, backing], name);
        assert.equal(section(`${name} mounts`), '> /mnt/a\n', name);
        const entries = name === 'tmpfs' ? 1 : MANY + 1;
        assert.equal(section(`${name} files`), `layer ${count - 1}\n${entries}\n`, name);
        assert.match(section(`${name} writes`), writable ? /^changed\n$/ : /Read-only file system/, name);
        assert.equal(section(`${name} left`), '', name);
      }
      for (const format of ['erofs', 'udf']) assert.equal(section(`deduped ${format}`), unpackedDigests());
      // A pattern that matches nothing would fail nothing.
      assert.match(section('tests'), /^# pass [1-9]\d\n# fail 0$/m);
    });
  }
});
