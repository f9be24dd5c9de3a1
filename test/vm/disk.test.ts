/** Disks of images as guests see them: whole trees compared, per-layer partitions, hash trees, a guest that boots from one. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { CliLab, parseLines } from '../e2e/run-veneer.ts';
import { noise } from '../support/image-builder.ts';
import { missing, requireTool } from '../support/require-tool.ts';
import { archive, dir, file, hardLink, symlink, whiteout } from '../support/tar-builder.ts';
import { requireVm, runVm, type VmDisk, type VmFile, type VmKernel } from '../support/vm.ts';
import { TREE_FUNCTION, treeHere } from '../support/vm-tree.ts';
import { makeExt4 } from '../support/vm-veneer.ts';

const CORPUS = process.env.VENEER_CORPUS ?? fileURLToPath(new URL('../../.cache/corpus', import.meta.url));
const lab = new CliLab({ after });

/** Mounts an image of the lab here and describes its tree. */
async function expectedTree(image: string): Promise<string> {
  const target = lab.path(`mnt-${image.replaceAll(/\W/g, '-')}`);
  mkdirSync(target, { recursive: true });
  await veneer('mount', image, target);
  try {
    return treeHere(target);
  } finally {
    await veneer('umount', target);
  }
}

/** Runs veneer; what it prints as JSON. */
async function veneer(...words: string[]): Promise<Record<string, unknown>> {
  const ran = await lab.veneer([...words, '--json']);
  assert.equal(ran.code, 0, ran.stderr);
  return parseLines(ran.text)[0] ?? {};
}

interface Boot {
  readonly kernel: VmKernel;
  readonly script: string;
  readonly disks: readonly VmDisk[];
  readonly files?: readonly VmFile[];
}

async function boot(t: TestContext, { kernel, script, disks, files = [] }: Boot): Promise<string> {
  const { status, output } = await runVm({
    kernel,
    script: `set -e\n${TREE_FUNCTION}\nmkdir -p /mnt\n${script}`,
    disks,
    files,
    timeout: 900,
    signal: t.signal,
  });
  assert.equal(status, 0, output);
  return output;
}

const lines = (text: string): string[] => text.split('\n').filter((line) => /^\S+ [0-9a-f]{64}$/.test(line));
const vmdk = (path: string): VmDisk => ({ path, format: 'vmdk' });
const LONG = { timeout: 1_800_000 };

/** `-o device=/dev/vda2,device=/dev/vda3…` of a partitioned disk, or of the mapped devices made of its partitions. */
const DEVICES = `devices() { local o= i; for i in $(seq 2 $2); do o=$o\${o:+,}device=$1$i; done; echo "$o"; }
`;

/** Many layers that change each other's files, one tar that ends inside a sector. */
function manyLayers(): Buffer[] {
  const layers = Array.from({ length: 120 }, (_, n) =>
    archive(
      dir(`d${n % 7}`),
      file(`d${n % 7}/own-${n}`, noise(1 + ((n * 977) % 20_000), n + 1)),
      file('shared', `layer ${n}\n`),
      ...(n > 3 && n % 5 === 0 ? [whiteout(`d${(n - 3) % 7}/own-${n - 3}`)] : []),
    ),
  );
  layers[60] = Buffer.concat([layers[60]!, Buffer.alloc(300)]);
  return layers;
}

async function pullWordpressish(t: TestContext): Promise<boolean> {
  const layout = join(CORPUS, 'oci', 'wordpressish');
  if (!existsSync(layout)) {
    missing(t, 'no corpus: scripts/corpus.sh wordpressish makes it');
    return false;
  }
  await veneer('pull', `oci:${layout}:latest`, '--name', 'wordpressish', '--no-fsync');
  return true;
}

describe('a VMDK as the only disk', () => {
  for (const kernel of ['bpo', 'sid'] as const) {
    it(`shows all of wordpressish, 21 layers, on ${kernel}`, LONG, async (t) => {
      if (!requireVm(t, kernel) || !(await pullWordpressish(t))) return;
      await veneer('disk', '-f', '-o', 'wordpressish.vmdk', 'wordpressish');
      const output = await boot(t, {
        kernel,
        script: 'mount -t erofs -o ro /dev/vda /mnt; tree /mnt',
        disks: [vmdk(lab.path('wordpressish.vmdk'))],
      });
      const expected = lines(await expectedTree('wordpressish'));
      assert.ok(expected.length > 15, expected.join('\n'));
      assert.deepEqual(lines(output), expected);
    });

    it(
      `shows all of an image with 120 layers, with and without a hash tree, on ${kernel}`,
      LONG,
      async (t) => {
        if (!requireVm(t, kernel)) return;
        await lab.pull('many:1', manyLayers());
        await veneer('disk', '-f', '-o', 'many.vmdk', 'many:1');
        const made = await veneer('disk', '-f', '--verity', '-o', 'many-verity.vmdk', 'many:1');
        const { rootHash, dataBlocks } = made.verity as { rootHash: string; dataBlocks: number };
        const hashOffset = Math.ceil((dataBlocks * 512) / 4096) * 4096;
        const raw = await veneer('disk', '-f', '--verity', '-o', 'many.raw', 'many:1');
        assert.deepEqual(raw.verity, made.verity);
        // one byte of the data, one of the tree
        const bytes = readFileSync(lab.path('many.raw'));
        const at = bytes.indexOf(noise(1 + ((44 * 977) % 20_000), 45).subarray(0, 64));
        assert.ok(at > 0);
        bytes[at + 700]! ^= 1;
        writeFileSync(lab.path('damaged.raw'), bytes);
        const output = await boot(t, {
          kernel,
          script: `
mount -t erofs -o ro $DISK0 /mnt; tree /mnt; umount /mnt
echo verity
open() { veritysetup open $1 $2 $1 ${rootHash} --hash-offset=${hashOffset}; }
veritysetup verify $DISK1 $DISK1 ${rootHash} --hash-offset=${hashOffset}
open $DISK1 good; mount -t erofs -o ro /dev/mapper/good /mnt; tree /mnt; umount /mnt; veritysetup close good
echo damaged
open $DISK2 bad; mount -t erofs -o ro /dev/mapper/bad /mnt
cat /mnt/shared; cat /mnt/d2/own-44 >/dev/null && exit 9
umount /mnt; veritysetup close bad
veritysetup verify $DISK2 $DISK2 ${rootHash} --hash-offset=${hashOffset} && exit 9
true`,
          disks: [
            vmdk(lab.path('many.vmdk')),
            vmdk(lab.path('many-verity.vmdk')),
            { path: lab.path('damaged.raw') },
          ],
        });
        const expected = lines(await expectedTree('many:1'));
        const [plain, verity, damaged] = output.split(/^(?:verity|damaged)$/m);
        assert.deepEqual(lines(plain!), expected);
        assert.deepEqual(lines(verity!), expected);
        assert.match(damaged!, /^layer 119$/m);
        assert.match(damaged!, /own-44: Input\/output error/);
      },
    );
  }

  it(
    'shows all of wordpressish and of an image with 120 layers as partitions on Linux 6.1',
    LONG,
    async (t) => {
      if (!requireVm(t, 'bookworm') || !(await pullWordpressish(t))) return;
      await lab.pull('many:1', manyLayers());
      for (const image of ['wordpressish', 'many:1']) {
        const { partitions } = await veneer('disk', '-f', '--gpt', '-o', 'gpt.vmdk', image);
        const count = (partitions as unknown[]).length;
        const output = await boot(t, {
          kernel: 'bookworm',
          script: `${DEVICES}mount -t erofs -o ro,$(devices /dev/vda ${count}) /dev/vda1 /mnt; tree /mnt`,
          disks: [vmdk(lab.path('gpt.vmdk'))],
        });
        const expected = lines(await expectedTree(image));
        assert.ok(expected.length > 5);
        assert.deepEqual(lines(output), expected, image);
      }
    },
  );

  it('has one hash tree over all of it, which Linux 6.1 checks too', LONG, async (t) => {
    if (!requireVm(t, 'bookworm')) return;
    await lab.pull('many:1', manyLayers());
    const made = await veneer('disk', '-f', '--verity', '-o', 'whole.vmdk', 'many:1');
    await veneer('disk', '-f', '--verity', '-o', 'whole.raw', 'many:1');
    const { rootHash, dataBlocks } = made.verity as { rootHash: string; dataBlocks: number };
    const offset = Math.ceil((dataBlocks * 512) / 4096) * 4096;
    const bytes = readFileSync(lab.path('whole.raw'));
    const digest = createHash('sha256')
      .update(bytes.subarray(0, dataBlocks * 512))
      .digest('hex');
    bytes[dataBlocks * 256]! ^= 1;
    writeFileSync(lab.path('whole-damaged.raw'), bytes);
    const output = await boot(t, {
      kernel: 'bookworm',
      script: `open() { veritysetup open $1 $2 $1 ${rootHash} --hash-offset=${offset}; }
open $DISK0 good; sha256sum /dev/mapper/good
open $DISK1 bad; cat /dev/mapper/bad >/dev/null && exit 9; true`,
      disks: [vmdk(lab.path('whole.vmdk')), { path: lab.path('whole-damaged.raw') }],
    });
    assert.ok(output.includes(`${digest}  /dev/mapper/good`), output);
    assert.match(output, /Input\/output error/);
  });

  it('is refused by Linux 6.1, which looks for the devices of its table', LONG, async (t) => {
    if (!requireVm(t, 'bookworm')) return;
    await lab.pull('small:1', manyLayers().slice(0, 3));
    await veneer('disk', '-f', '-o', 'small.vmdk', 'small:1');
    const output = await boot(t, {
      kernel: 'bookworm',
      script: 'mount -t erofs -o ro /dev/vda /mnt && exit 9; true',
      disks: [vmdk(lab.path('small.vmdk'))],
    });
    assert.match(output, /No such file or directory/);
  });
});

describe('partitions', () => {
  for (const kernel of ['bookworm', 'bpo', 'sid'] as const) {
    it(`are the image's devices, plain and each behind dm-verity, on ${kernel}`, LONG, async (t) => {
      if (!requireVm(t, kernel)) return;
      await lab.pull('parts:1', [
        archive(dir('a'), file('a/base', noise(300_000, 7)), file('a/gone', 'gone'), symlink('l', 'a/base')),
        archive(whiteout('a/gone'), file('a/more', noise(80_001, 8)), hardLink('a/same', 'a/more')),
        Buffer.concat([archive(file('top', 'top\n', { mode: 0o4711, uid: 3 })), Buffer.alloc(17)]),
      ]);
      const made = await veneer('disk', '-f', '--gpt', '--verity', '-o', 'parts.vmdk', 'parts:1');
      const partitions = made.partitions as { hashOffset: number; verity: { rootHash: string } }[];
      assert.equal(partitions.length, 4);
      const raw = await veneer('disk', '-f', '--gpt', '--verity', '-o', 'parts.raw', 'parts:1');
      assert.deepEqual(raw.partitions, made.partitions);
      // one byte of a file in the first layer, in its partition
      const bytes = readFileSync(lab.path('parts.raw'));
      bytes[bytes.indexOf(noise(300_000, 7).subarray(0, 64)) + 200_000]! ^= 1;
      writeFileSync(lab.path('parts-damaged.raw'), bytes);
      const opens = partitions.map(
        ({ hashOffset, verity: { rootHash } }, i) =>
          `veritysetup open $1${i + 1} $2${i + 1} $1${i + 1} ${rootHash} --hash-offset=${hashOffset}`,
      );
      const output = await boot(t, {
        kernel,
        script: `${DEVICES}
opens() { ${opens.join('; ')}; }
mount -t erofs -o ro,$(devices /dev/vda 4) /dev/vda1 /mnt; tree /mnt; umount /mnt
echo verity
opens /dev/vda v
mount -t erofs -o ro,$(devices /dev/mapper/v 4) /dev/mapper/v1 /mnt; tree /mnt; umount /mnt
echo damaged
opens /dev/vdb b
mount -t erofs -o ro,$(devices /dev/mapper/b 4) /dev/mapper/b1 /mnt
cat /mnt/top; cat /mnt/a/base >/dev/null && exit 9; true`,
        disks: [vmdk(lab.path('parts.vmdk')), { path: lab.path('parts-damaged.raw') }],
      });
      const expected = lines(await expectedTree('parts:1'));
      const [plain, verity, damaged] = output.split(/^(?:verity|damaged)$/m);
      assert.deepEqual(lines(plain!), expected);
      assert.deepEqual(lines(verity!), expected);
      assert.match(damaged!, /^top\n[\s\S]*base: Input\/output error/m);
    });
  }
});

describe('--dm-table', () => {
  it('makes one device of the files', LONG, async (t) => {
    if (!requireVm(t, 'sid') || requireTool(t, 'mke2fs') === null) return;
    await lab.pull('dm:1', manyLayers().slice(50, 70));
    await veneer('disk', '-f', '--dm-table', '-o', 'dm.sh', 'dm:1');
    const output = await boot(t, {
      kernel: 'sid',
      script: `
mkdir -p ${lab.root}; mount -o ro $DISK0 ${lab.root}; cp /vm/files/* ${lab.directory}/
bash ${lab.path('dm.sh')} app; mount -t erofs -o ro /dev/mapper/app /mnt; tree /mnt
umount /mnt; dmsetup remove app; for i in $(seq 50); do [ -n "$(losetup -a)" ] || break; sleep 0.1; done
echo left; losetup -a`,
      disks: [{ path: makeExt4(lab.path('dm-store.img'), lab.root, 1500) }],
      files: ['dm.sh', 'dm.sh.extra'].map((name) => ({ path: lab.path(name) })),
    });
    const [tree, left] = output.split(/^left$/m);
    assert.deepEqual(lines(tree!), lines(await expectedTree('dm:1')));
    assert.equal(left!.trim(), '');
  });
});

describe('--format udf', () => {
  for (const kernel of ['bookworm', 'sid'] as const) {
    it(`shows all of an image on ${kernel}`, LONG, async (t) => {
      if (!requireVm(t, kernel)) return;
      // one owner and whole seconds: what UDF holds
      await lab.pull('udf:1', manyLayers().slice(20, 40));
      await veneer('disk', '-f', '--format', 'udf', '-o', 'udf.vmdk', 'udf:1');
      const output = await boot(t, {
        kernel,
        // a standard volume: mount(8) finds out by itself what it is
        script: `modprobe udf; mount -o ro /dev/vda /mnt; tree /mnt`,
        disks: [vmdk(lab.path('udf.vmdk'))],
      });
      assert.deepEqual(lines(output), lines(await expectedTree('udf:1')));
    });
  }
});

/** Process 1 of a guest that has nothing but our disk: mounts it as its root and becomes its shell. */
const ROOT_INIT = `#!/bin/busybox sh
B=/usr/bin/busybox
export PATH=/usr/sbin:/usr/bin
$B mount -t proc none /proc; $B mount -t sysfs none /sys; $B mount -t devtmpfs none /dev
while read -r m; do $B insmod "$m"; done < /lib/modules/$($B uname -r)/vm.boot
modprobe erofs
for p in /sys/class/virtio-ports/*; do read -r n < $p/name; eval "PORT_\${n#vm.}=/dev/\${p##*/}"; done
$B mkdir /root-disk
disk=/dev/vda options=ro
if [ -e /dev/vda1 ]; then disk=/dev/vda1 options=ro,device=/dev/vda2; fi
$B mount -t erofs -o $options $disk /root-disk || echo "cannot mount the root" > $PORT_out
for d in dev proc sys; do $B mount --move /$d /root-disk/$d; done
export OUT=$PORT_out STATUS=$PORT_status
exec $B switch_root /root-disk /bin/sh -c '
  { echo "pid $$"; grep " / " /proc/mounts; . /etc/os-release; echo "$PRETTY_NAME"; ls / | wc -l
    perl -e "print 6*7, qq(\\n)" 2>/dev/null || echo 42; dpkg -l | wc -l; } > $OUT 2>&1
  echo "exit 0" > $STATUS; echo b > /proc/sysrq-trigger; sleep 60'
`;

describe('a guest', () => {
  for (const [kernel, form, gpt] of [
    ['bookworm', 'vmdk', true],
    ['bpo', 'vmdk', false],
    ['bpo', 'raw', false],
    ['sid', 'vmdk', false],
    ['sid', 'raw', false],
  ] as const) {
    it(
      `boots from a ${form} of the Debian image on ${kernel}${gpt ? ', partitioned' : ''}`,
      LONG,
      async (t) => {
        if (!requireVm(t, kernel)) return;
        const layout = join(CORPUS, 'oci', 'debian');
        if (!existsSync(layout)) return missing(t, 'no corpus: scripts/corpus.sh debian makes it');
        await veneer('pull', `oci:${layout}:latest`, '--name', 'debian', '--no-fsync');
        await veneer('disk', '-f', ...(gpt ? ['--gpt'] : []), '-o', `debian.${form}`, 'debian');
        const init = lab.path('root-init');
        writeFileSync(init, ROOT_INIT, { mode: 0o755 });
        const output = await boot(t, {
          kernel,
          script: 'true',
          disks: [{ path: lab.path(`debian.${form}`), format: form }],
          files: [{ path: init, guest: 'init' }],
        });
        assert.match(output, /^pid 1$/m);
        assert.match(output, gpt ? /^\/dev\/vda1 \/ erofs ro/m : /^\/dev\/vda \/ erofs ro/m);
        assert.match(output, /Debian GNU\/Linux/);
        assert.match(output, /^42$/m);
      },
    );
  }
});

it(
  'self-contained images with 4096-byte blocks work as partitions on Linux 6.1, and flat from 6.12',
  LONG,
  async (t) => {
    if (!requireVm(t, 'bookworm', 'bpo')) return;
    const tars = manyLayers().slice(0, 3);
    const names = tars.map((tar, i) => {
      writeFileSync(lab.path(`${i}.tar`), tar);
      return `${i}.tar`;
    });
    mkdirSync(lab.path('images'), { recursive: true });
    await veneer('convert', ...names, '-o', 'images');
    const images = names.map((name) => `images/${name}.erofs`);
    await veneer('merge', '-f', '-o', 'images/fsmeta.erofs', ...images);
    const devices = images.flatMap((image) => ['--device', image]);
    await veneer('disk', '-f', ...devices, '--gpt', '-o', 'parts4k.raw', 'images/fsmeta.erofs');
    await veneer('disk', '-f', ...devices, '-o', 'flat4k.raw', 'images/fsmeta.erofs');
    const script = `${DEVICES}mount -t erofs -o ro,$(devices /dev/vda 4) /dev/vda1 /mnt; tree /mnt; umount /mnt; echo flat
mount -t erofs -o ro $DISK1 /mnt && tree /mnt || echo refused`;
    const disks = ['parts4k.raw', 'flat4k.raw'].map((name) => ({ path: lab.path(name) }));
    const [old, refused] = (await boot(t, { kernel: 'bookworm', script, disks })).split(/^flat$/m);
    const [parts, flat] = (await boot(t, { kernel: 'bpo', script, disks })).split(/^flat$/m);
    assert.match(refused!, /^refused$/m);
    assert.ok(lines(old!).length >= 4);
    assert.deepEqual(lines(parts!), lines(old!));
    assert.deepEqual(lines(flat!), lines(old!));
  },
);
