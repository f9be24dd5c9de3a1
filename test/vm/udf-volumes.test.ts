/** UDF volumes in guests: forged ones, standard ones, flat ones, large ones, and fuse-overlayfs. One boot a kernel. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { appendTrailer } from '../../src/store/udf-append.ts';
import { type FileTree, S_IFSOCK, TreeNode } from '../../src/tree/node.ts';
import { flatDigest, HEADER_BLOCKS, mountOptions, planUdf, writeUdf } from '../../src/udf/index.ts';
import { EVIL, GOOD, tarWithAnchorInside, tarWithForgedTrailer } from '../support/forged-udf.ts';
import { requireTool } from '../support/require-tool.ts';
import {
  archive,
  dir,
  file,
  hardLink,
  makeHeader,
  opaque,
  symlink,
  whiteout,
} from '../support/tar-builder.ts';
import { patterned } from '../support/tar-cases/tar-case.ts';
import { type Snapshot, snapshotTree } from '../support/tree-snapshot.ts';
import { assertSameSnapshot } from '../support/tree-snapshot-diff.ts';
import { UdfChain } from '../support/udf-chain.ts';
import { heldTree } from '../support/udf-view.ts';
import { requireVm, type VmKernel } from '../support/vm.ts';
import { GuestLooks } from '../support/vm-looks.ts';

const KERNELS: readonly VmKernel[] = ['bookworm', 'sid'];
const { signal } = new AbortController();
const WAYS = { names: 'bytes', whiteouts: 'sidecar', signal } as const;

let directory: string;
before(() => {
  directory = mkdtempSync(join(process.env.VENEER_TEST_TMP ?? tmpdir(), 'veneer-volumes-'));
});
after(() => rmSync(directory, { recursive: true, force: true }));

/** A byte string. */
const utf8 = (text: string): string => Buffer.from(text, 'utf8').toString('latin1');

const LOWER = archive(
  dir('d/'),
  file('d/keep', patterned(3000, 1)),
  file('d/gone', 'gone'),
  dir('o/'),
  file('o/hidden', 'hidden'),
  file('replaced', 'old'),
);
const UPPER = archive(
  dir('d/'),
  whiteout('d/gone'),
  file(utf8('d/é'), patterned(700, 2)),
  file(utf8('d/имя 😀'), 'beyond eight bits'),
  dir('o/'),
  opaque('o'),
  file('o/new', 'new'),
  file('replaced', 'new'),
  hardLink('d/again', 'replaced'),
  symlink('link', utf8('../d/é')),
);

/** Both layers, and a socket, which no tar can hold. */
function flatTree(chain: UdfChain): FileTree {
  const tree = chain.merged();
  tree.root.children!.set('socket', new TreeNode(S_IFSOCK | 0o750));
  return tree;
}

/** A volume over both layers at once: its files in order. */
function writeFlat(
  chain: UdfChain,
  tars: readonly string[],
  header: boolean,
): { parts: string[]; anchor: number } {
  const tree = flatTree(chain);
  const name = join(directory, header ? 'standard' : 'flat');
  let end = 0;
  const bases = tree.sources.map(({ size }) => {
    const base = end;
    end += size;
    return base;
  });
  const names = header ? 'unicode' : 'bytes';
  const plan = planUdf(tree, { names, whiteouts: 'sidecar', bases, firstBlock: end / 512, header });
  const chunks: Buffer[] = [];
  const digest = flatDigest(tree.sources.map((source) => source.digest));
  const sink = { write: (chunk: Buffer) => void chunks.push(Buffer.from(chunk)) };
  const { header: front } = writeUdf(plan, { tarLength: end, digest }, sink, chain.reader(tree));
  writeFileSync(`${name}.trailer`, Buffer.concat(chunks));
  if (front !== null) writeFileSync(`${name}.header`, front);
  return {
    parts: [...(front === null ? [] : [`${name}.header`]), ...tars, `${name}.trailer`],
    anchor: plan.origin + plan.anchorBlock,
  };
}

/** A tar with one file of `size` bytes, which is nearly all hole on this machine's disk: data stands at `marks`. */
function writeHugeTar(path: string, size: number, marks: readonly number[]): void {
  const fd = openSync(path, 'w');
  writeSync(fd, makeHeader({ name: 'huge', size }), 0, 512, 0);
  for (const [i, at] of marks.entries()) writeSync(fd, `<${i}>`, 512 + at);
  ftruncateSync(fd, 512 + Math.ceil(size / 512) * 512 + 1024);
  closeSync(fd);
}

for (const kernel of KERNELS) {
  describe(`UDF volumes on ${kernel}`, () => {
    test('are what was written', async (t) => {
      if (!requireVm(t, kernel)) return;
      const fuse = requireTool(t, 'fuse-overlayfs');
      const guest = new GuestLooks(directory);
      const tars = [LOWER, UPPER].map((tar, i) => {
        const path = join(directory, `${i}.tar`);
        writeFileSync(path, tar);
        return path;
      });
      const chain = new UdfChain(directory, tars);
      const merged = await snapshotTree(chain.merged(), chain.reader(chain.merged()));
      const withSocket = await snapshotTree(flatTree(chain), chain.reader(chain.merged()));
      const checks: { what: string; look: number; expected: Snapshot }[] = [];

      // forged: an anchor in a file's data, and a trailer behind the end of the archive
      const inside = join(directory, `inside-${kernel}.tar`);
      writeFileSync(inside, tarWithAnchorInside());
      const { plan } = await appendTrailer(inside, WAYS);
      const wrongAnchor = mountOptions({ anchorSector: plan.anchorBlock - 1, names: 'bytes' });
      // mount(8) would give both mounts of one file the same loop device, and with it the first one's file system
      const victim = `${inside}.victim`;
      copyFileSync(inside, victim);
      const fooled = guest.look(guest.mount('udf', victim, wrongAnchor), 'none');
      const right = mountOptions({ anchorSector: plan.anchorBlock, names: 'bytes' });
      const told = guest.look(guest.mount('udf', inside, right), 'none');
      const forged = join(directory, `forged-${kernel}.tar`);
      writeFileSync(forged, tarWithForgedTrailer());
      const forgedAnchor = readFileSync(forged).length / 512 - 1;
      const forgedOptions = mountOptions({ anchorSector: forgedAnchor, names: 'bytes' });
      const lied = guest.look(guest.mount('udf', forged, forgedOptions), 'none');
      await assert.rejects(appendTrailer(forged, WAYS), /is not the one of the \d+ bytes before it/);
      const copy = `${forged}.copy`;
      copyFileSync(forged, copy);
      const behind = await appendTrailer(copy, { ...WAYS, asIs: true });
      const behindOptions = mountOptions({ anchorSector: behind.plan.anchorBlock, names: 'bytes' });
      const honest = guest.look(guest.mount('udf', copy, behindOptions), 'none');

      // standard: one disk that needs no options
      const standard = writeFlat(chain, tars, true);
      const disk = join(directory, 'standard.img');
      writeFileSync(disk, Buffer.concat(standard.parts.map((path) => readFileSync(path))));
      checks.push({
        what: 'standard volume',
        look: guest.look(guest.mount('udf', disk), 'all'),
        expected: withSocket,
      });

      // flat: loop devices behind each other
      const flat = writeFlat(chain, tars, false);
      guest.run(`at=0; table=
for part in ${flat.parts.map((path) => guest.host(path)).join(' ')}; do
  loop=$(losetup --show -f -r "$part"); size=$(blockdev --getsz $loop)
  table+="$at $size linear $loop 0"$'\\n'; at=$((at + size))
done
printf '%s' "$table" | dmsetup create flat --readonly || fail linear
mkdir ${guest.host('/mnt/flat')}
mount -t udf -o ro,${mountOptions({ anchorSector: flat.anchor, names: 'bytes' }).join(',')} /dev/mapper/flat ${guest.host('/mnt/flat')} || fail flat`);
      checks.push({ what: 'flat volume', look: guest.look('/mnt/flat', 'all'), expected: withSocket });

      // literal whiteouts: plain files for overlayfs's cousin in user space
      if (fuse !== null) {
        const lowers = [0, 1].map((i) => {
          const volume = chain.alone(i, { names: 'bytes', whiteouts: 'literal' });
          return guest.mount('udf', volume.path, volume.options);
        });
        guest.run(`mkdir ${guest.host('/mnt/fuse')}; modprobe fuse
chroot ${guest.host('')} ${fuse} -o lowerdir=${lowers.toReversed().join(':')} /mnt/fuse 2>/dev/null || fail fuse`);
        checks.push({ what: 'fuse-overlayfs', look: guest.look('/mnt/fuse', 'all'), expected: merged });
      }

      // large: extents end at 1 GiB, directories are read in one go
      const size = 3 * 2 ** 30 + 77;
      // two of them across the end of an extent
      const marks = [0, 2 ** 30 - 513, 2 ** 30 - 1, 2 ** 30 + 3, 2 ** 31 + 512, size - 40];
      const huge = join(directory, 'huge.tar');
      writeHugeTar(huge, size, marks);
      const hugeVolume = new UdfChain(directory, [huge]).alone(0);
      const at = guest.mount('udf', hugeVolume.path, hugeVolume.options);
      guest.run(`echo "huge $(stat -c %s ${guest.host(at)}/huge)"`);
      for (const mark of marks) {
        guest.run(
          `dd if=${guest.host(at)}/huge iflag=skip_bytes,count_bytes skip=${mark} count=3 status=none; echo`,
        );
      }
      const crowd = join(directory, 'crowd.tar');
      writeFileSync(crowd, archive(...Array.from({ length: 100_000 }, (_, i) => file(`crowd/${i}`))));
      const crowdVolume = new UdfChain(directory, [crowd]).alone(0);
      const crowdAt = guest.mount('udf', crowdVolume.path, crowdVolume.options);
      guest.run(
        `echo "crowd $(ls -U ${guest.host(crowdAt)}/crowd | wc -l)"; stat -c %n ${guest.host(crowdAt)}/crowd/99999`,
      );

      const { output, snapshots } = await guest.boot(kernel, { timeout: 900 });
      chain.close();
      assert.deepEqual(output.trim().split('\n'), [
        `huge ${size}`,
        ...marks.map((_, i) => `<${i}>`),
        'crowd 100000',
        `${guest.host(crowdAt)}/crowd/99999`,
      ]);
      await t.test('an anchor inside a tar fools the kernel, and not us', () => {
        assert.deepEqual([...snapshots[fooled]!.keys()], ['', EVIL], 'the danger is real');
        assert.deepEqual([...snapshots[told]!.keys()], ['', GOOD]);
      });
      await t.test('a forged trailer fools the kernel, and not us', () => {
        assert.deepEqual([...snapshots[lied]!.keys()], ['', EVIL], 'the danger is real');
        assert.deepEqual([...snapshots[honest]!.keys()], ['', GOOD]);
      });
      for (const { what, look, expected } of checks) {
        await t.test(what, () =>
          assertSameSnapshot(expected, snapshots[look]!, what, {
            // fuse-overlayfs counts links in its own way
            ignore: (_, field) => what === 'fuse-overlayfs' && (field === 'nlink' || field === 'hardLink'),
          }),
        );
      }
    });
  });
}

test('blkid and udfinfo recognise a standard volume', (t) => {
  const udfinfo = requireTool(t, 'udfinfo');
  const blkid = requireTool(t, 'blkid');
  if (udfinfo === null || blkid === null) return;
  const tars = [LOWER, UPPER].map((tar, i) => {
    const path = join(directory, `known-${i}.tar`);
    writeFileSync(path, tar);
    return path;
  });
  const chain = new UdfChain(directory, tars);
  const { parts } = writeFlat(chain, tars, true);
  const held = heldTree(chain.merged(), { names: 'unicode', whiteouts: 'sidecar' });
  chain.close();
  const disk = join(directory, 'known.img');
  writeFileSync(disk, Buffer.concat(parts.map((path) => readFileSync(path))));
  const said = execFileSync(blkid, ['-p', '-o', 'export', disk], { encoding: 'utf8' });
  assert.match(said, /^TYPE=udf$/m);
  assert.match(said, /^BLOCK_SIZE=512$/m);
  assert.match(said, /^LABEL=veneer$/m);
  const { stdout: facts, stderr } = spawnSync(udfinfo, [disk], { encoding: 'utf8' });
  assert.equal(stderr, '', 'udfinfo complains');
  const fact = (name: string): string | undefined => new RegExp(`^${name}=(.*)$`, 'm').exec(facts)?.[1];
  assert.equal(fact('udfrev'), '1.50');
  assert.equal(fact('integrity'), 'closed');
  assert.equal(fact('accesstype'), 'readonly');
  assert.match(facts, new RegExp(`start=${HEADER_BLOCKS}, blocks=\\d+, type=PSPACE`));
  assert.match(facts, /start=256, blocks=1, type=ANCHOR/);
  assert.equal(
    fact('numdirs'),
    String(1 + [...held.root.children!.values()].filter((node) => node.children).length),
  );
});
