/** dm-verity and fs-verity by real kernels: veneer's own mounts, veritysetup over its disks, damage that nobody can read. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { after, describe, it, type TestContext } from 'node:test';
import { signRootHash } from '../../src/disk/signature.ts';
import { CliLab, parseLines } from '../e2e/run-veneer.ts';
import { makeCertificates } from '../support/certificates.ts';
import { noise } from '../support/image-builder.ts';
import { requireTool } from '../support/require-tool.ts';
import { archive, dir, file, symlink, whiteout } from '../support/tar-builder.ts';
import { requireVm, runVm, type VmKernel } from '../support/vm.ts';
import { TREE_FUNCTION } from '../support/vm-tree.ts';
import { makeExt4, makeVeneerDisk, USE_VENEER, VENEER_MEMORY } from '../support/vm-veneer.ts';

const lab = new CliLab({ after });

/** Layers of several sizes; one tar ends inside a sector. */
const LAYERS = [
  archive(dir('usr'), file('usr/big', noise(600_000, 1)), file('usr/gone', 'gone'), symlink('bin', 'usr')),
  archive(file('usr/small', 'small\n'), whiteout('usr/gone')),
  Buffer.concat([archive(file('odd', noise(5000, 2))), Buffer.alloc(100)]),
  archive(file('usr/top', noise(70_000, 3), { mode: 0o4755 })),
];

let disks: Promise<{ veneer: string; store: string; empty: string }> | undefined;

/** A signature by somebody whom no kernel trusts, and the certificate as kernels take them. */
async function signDisk(
  t: TestContext,
): Promise<{ signature: string; certificate: string; other: string } | null> {
  const made = await makeCertificates(t, 'DNS:signer');
  if (made === null) return null;
  const certificate = lab.path('signer.der');
  execFileSync('openssl', ['x509', '-in', made.certificate, '-outform', 'der', '-out', certificate]);
  const words = ['--sign', made.key, '--cert', made.certificate];
  const ran = await lab.veneer(['disk', '-f', '--verity', ...words, '-o', 'app.vmdk', 'app:1']);
  assert.equal(ran.code, 0, ran.stderr);
  // by the same signer, of another root hash
  const other = lab.path('other.p7s');
  writeFileSync(other, signRootHash('ab'.repeat(32), made.key, made.certificate));
  return { signature: lab.path('app.vmdk.p7s'), certificate, other };
}

async function makeDisks(): Promise<{ veneer: string; store: string; empty: string }> {
  await lab.pull('app:1', LAYERS);
  return {
    veneer: makeVeneerDisk(lab.directory),
    store: makeExt4(lab.path('store.img'), lab.root, 64),
    empty: makeExt4(lab.path('empty.img'), lab.path('layout-app-1'), 64),
  };
}

async function runIn(
  t: TestContext,
  kernel: VmKernel,
  script: string,
  files: readonly string[] = [],
): Promise<ReadonlyMap<string, string>> {
  disks ??= makeDisks();
  const { veneer, store, empty } = await disks;
  const { status, output } = await runVm({
    kernel,
    script: `${USE_VENEER}\n${TREE_FUNCTION}\nsection() { printf '== %s\\n' "$1"; }\nmkdir -p /mnt/a /mnt/b /store\n${script}`,
    disks: [{ path: veneer }, { path: store, access: 'snap' }, { path: empty, access: 'snap' }],
    files: files.map((path) => ({ path })),
    memory: VENEER_MEMORY,
    timeout: 600,
    signal: t.signal,
  });
  assert.equal(status, 0, output);
  return new Map(
    output
      .split(/^== /m)
      .slice(1)
      .map((text) => [text.slice(0, text.indexOf('\n')), text.slice(text.indexOf('\n') + 1).trim()]),
  );
}

const MOUNT_SCRIPT = `
mount "$DISK1" /store; mkdir -p /store/tmp; export VENEER_ROOT=/store TMPDIR=/store/tmp
left() { for _ in $(seq 100); do [ -n "$(losetup -a)$(ls /sys/block | grep dm-)" ] || break; sleep 0.1; done
  losetup -a; ls /sys/block | grep dm- || true; }
section plain; veneer mount app:1 /mnt/a >/dev/null; tree /mnt/a; veneer umount /mnt/a >/dev/null
section record; veneer mount --verity --json app:1 /mnt/a
section type; stat -f -c %T /mnt/a; cat /sys/block/dm-*/dm/name | wc -l
section verity; tree /mnt/a
section unmount; veneer umount /mnt/a >/dev/null; left
section wrong; veneer mount --verity --root-hash ${'0'.repeat(64)} app:1 /mnt/a 2>&1 && exit 1
section signature; veneer mount --verity --signature /vm/files/app.vmdk.p7s app:1 /mnt/a 2>&1 && exit 1
section writable; veneer mount --verity --rw app:1 /mnt/a >/dev/null; echo new >/mnt/a/usr/small; cat /mnt/a/usr/small
veneer umount /mnt/a >/dev/null; left
# one byte of the first file's data, in the tar
tar=$(grep -l usr/big /store/layers/*/layer.tar)
at=$(( 512 * 3 + 300000 )); chmod u+w "$tar"
printf X | dd of="$tar" bs=1 seek=$at conv=notrunc 2>/dev/null
section unchecked; veneer mount app:1 /mnt/a >/dev/null; sha256sum </mnt/a/usr/big >/tmp/unchecked && echo read; veneer umount /mnt/a >/dev/null
section checked; veneer mount --verity app:1 /mnt/a >/dev/null
sha256sum </mnt/a/usr/big 2>&1 && exit 1
cat /mnt/a/usr/small; veneer umount /mnt/a >/dev/null
section verify; veneer verify app:1 2>&1 && exit 1
# the metadata image itself
meta=$(ls /store/chains/*/fsmeta.erofs | head -1); chmod u+w "$meta"; printf X | dd of="$meta" bs=1 seek=2000 conv=notrunc 2>/dev/null
section metadata; veneer mount app:1 /mnt/a 2>&1 && exit 1
true`;

describe('veneer mount --verity', () => {
  for (const kernel of ['bpo', 'sid'] as const) {
    it(`reads what is sound and nothing else on ${kernel}`, { timeout: 900_000 }, async (t) => {
      if (!requireVm(t, kernel) || requireTool(t, 'mke2fs') === null) return;
      disks ??= makeDisks();
      await disks;
      const signed = await signDisk(t);
      if (signed === null) return;
      const said = await runIn(t, kernel, MOUNT_SCRIPT, [signed.signature, signed.certificate]);
      assert.equal(said.get('verity'), said.get('plain'));
      assert.match(said.get('plain')!, /^bin [0-9a-f]{64}\nodd [0-9a-f]{64}\nusr [0-9a-f]{64}$/);
      const record = parseLines(said.get('record')!)[0] as {
        images: { rootHash: string; verity?: unknown }[];
      };
      assert.match(record.images[0]!.rootHash, /^[0-9a-f]{64}$/);
      assert.equal(record.images[0]!.verity, undefined);
      assert.equal(said.get('type'), 'erofs\n2');
      assert.equal(said.get('unmount'), '');
      assert.match(said.get('wrong')!, /its root hash is [0-9a-f]{64}, wanted is 0{64}/);
      assert.match(said.get('signature')!, /the kernel does not accept its signature/);
      assert.equal(said.get('writable'), 'new');
      assert.equal(said.get('unchecked'), 'read');
      assert.match(said.get('checked')!, /Input\/output error\nsmall$/);
      assert.match(said.get('verify')!, /layer\.tar .* has the digest sha256:/);
      assert.match(said.get('metadata')!, /fsmeta\.erofs: its digest is sha256:/);
    });
  }
});

/** A kernel that knows the signer, and then one that wants a signature for everything. */
const TRUST_SCRIPT = `
mount "$DISK1" /store; mkdir -p /store/tmp; export VENEER_ROOT=/store TMPDIR=/store/tmp
for options in keyring_unsealed=1 "keyring_unsealed=1 require_signatures=1"; do
  modprobe dm-verity $options
  node /veneer/app/test/support/trust-certificate.ts /vm/files/signer.der
  section "signed $options"; veneer mount --verity --signature /vm/files/app.vmdk.p7s app:1 /mnt/a >/dev/null
  cat /mnt/a/usr/small; veneer umount /mnt/a >/dev/null
  for _ in $(seq 100); do ls /sys/block | grep -q dm- || break; sleep 0.1; done
  section "other $options"; veneer mount --verity --signature /vm/files/other.p7s app:1 /mnt/a 2>&1 && exit 1
  [ "$options" = keyring_unsealed=1 ] || { section unsigned; veneer mount --verity app:1 /mnt/a 2>&1 && exit 1; }
  modprobe -r dm-verity
done
true`;

it('veneer mount --verity --signature: a kernel takes what a signer it trusts has signed, and may take nothing else', {
  timeout: 900_000,
}, async (t) => {
  if (!requireVm(t, 'sid') || requireTool(t, 'mke2fs') === null) return;
  disks ??= makeDisks();
  await disks;
  const signed = await signDisk(t);
  if (signed === null) return;
  const said = await runIn(t, 'sid', TRUST_SCRIPT, [signed.signature, signed.certificate, signed.other]);
  for (const options of ['keyring_unsealed=1', 'keyring_unsealed=1 require_signatures=1']) {
    assert.equal(said.get(`signed ${options}`), 'small');
    assert.match(said.get(`other ${options}`)!, /the kernel does not accept its signature/);
  }
  assert.match(said.get('unsigned')!, /the kernel does not accept its signature/);
});

const SEAL_SCRIPT = `
mount "$DISK2" /store; mkdir -p /store/tmp; export VENEER_ROOT=/store/root TMPDIR=/store/tmp
veneer pull --quiet oci:/store:latest --name app:1
cd /store/root
section files; for f in layers/*/layer.tar layers/*/layer.erofs chains/*/fsmeta.erofs; do
  record=$(sed -n 's/.*"fsVerity": "\\(.*\\)".*/\\1/p' verity/fs/$(sha256sum <$f | cut -c1-64).json)
  [ "$record" = "$(fsverity measure $f | cut -d' ' -f1)" ] && [ "$record" = "$(fsverity digest $f | cut -d' ' -f1)" ] && echo same
done
section mount; veneer mount app:1 /mnt/a >/dev/null; tree /mnt/a; veneer umount /mnt/a >/dev/null
section verify; veneer verify
section fsck; veneer fsck
tar=$(grep -l usr/big layers/*/layer.tar); small=$(grep -l usr/small layers/*/layer.tar)
section write; chmod u+w "$tar"; { printf X >>"$tar"; } 2>&1 && exit 1
# an attacker with the disk: a block of the tar changes below the file system
sync; block=$(debugfs -R "bmap root/$tar 40" "$DISK2" 2>/dev/null)
cd /; umount /store
printf X | dd of="$DISK2" bs=1 seek=$(( block * 4096 + 17 )) conv=notrunc 2>/dev/null
mount "$DISK2" /store; cd /store/root
echo block $block; section damaged; veneer mount app:1 /mnt/a >/dev/null
sha256sum </mnt/a/usr/big 2>&1 && exit 1
cat /mnt/a/usr/small; veneer umount /mnt/a >/dev/null
# each loop device reads it in other pieces; none may make zeros of what is damaged
section loops; for skip in 0 130 150 158 160 161; do
  veneer mount --backing loop app:1 /mnt/a >/dev/null
  dd if=/mnt/a/usr/big of=/dev/null bs=1k skip=$skip 2>&1 | grep -o 'Input/output error'; veneer umount /mnt/a >/dev/null
done
section found; veneer verify 2>&1 && exit 1
# a file put in the place of another
cp "$small" /store/copy; mv -f /store/copy "$small"
section replaced; veneer mount app:1 /mnt/a 2>&1 && exit 1
section replaced-fsck; veneer fsck 2>&1 && exit 1
true`;

describe('fs-verity', () => {
  for (const kernel of ['bookworm', 'bpo', 'sid'] as const) {
    it(`seals what is pulled, and the kernel refuses what was changed on ${kernel}`, {
      timeout: 900_000,
    }, async (t) => {
      if (!requireVm(t, kernel) || requireTool(t, 'mke2fs') === null) return;
      const said = await runIn(t, kernel, SEAL_SCRIPT);
      assert.deepEqual(said.get('files')!.split('\n'), Array(9).fill('same'));
      assert.match(said.get('verify')!, /the kernel checks every read of 9 files/);
      assert.match(said.get('fsck')!, /consistent/);
      assert.match(said.get('write')!, /Operation not permitted/);
      assert.match(said.get('damaged')!, /Input\/output error\nsmall$/);
      assert.deepEqual(said.get('loops')!.split('\n'), Array(6).fill('Input/output error'));
      assert.match(said.get('found')!, /layer\.tar/);
      assert.match(said.get('replaced')!, /has it no more: it was replaced/);
      assert.match(said.get('replaced-fsck')!, /has it no more: it was replaced/);
    });
  }
});

const IMMUTABLE_SCRIPT = `
mount "$DISK2" /store; mkdir -p /store/tmp; export VENEER_ROOT=/store/root TMPDIR=/store/tmp
veneer pull --quiet --immutable oci:/store:latest --name app:1
cd /store/root
section flags; lsattr layers/*/layer.tar chains/*/fsmeta.erofs | cut -c5 | sort -u
section verify; veneer verify
section remove; rm -f layers/*/layer.tar 2>&1 && exit 1
section gc; veneer rm --quiet app:1; veneer gc --quiet; ls layers chains verity/* | grep -v : || true
true`;

describe('--immutable', () => {
  it('keeps even root away until a sweep', { timeout: 900_000 }, async (t) => {
    if (!requireVm(t, 'sid') || requireTool(t, 'mke2fs') === null) return;
    const said = await runIn(t, 'sid', IMMUTABLE_SCRIPT);
    assert.equal(said.get('flags'), 'i');
    assert.match(said.get('verify')!, /immutable: 9 files/);
    assert.match(said.get('remove')!, /Operation not permitted/);
    assert.equal(said.get('gc'), '');
  });
});
