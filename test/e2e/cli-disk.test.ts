/** `veneer disk`, `disk inspect` and `verify` of disks: what is written, and that every damaged byte is found and named. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { bufferSource } from '../../src/erofs/index.ts';
import { UdfReader } from '../../src/udf/index.ts';
import { makeCertificates } from '../support/certificates.ts';
import { noise } from '../support/image-builder.ts';
import { missing, newerTool, requireTool } from '../support/require-tool.ts';
import { archive, dir, file, whiteout } from '../support/tar-builder.ts';
import { CliLab, parseLines, type Ran } from './run-veneer.ts';

const LAYERS = [
  archive(dir('etc'), file('etc/big', noise(300_000, 1)), file('etc/old', 'old')),
  archive(file('etc/new', noise(9000, 2)), whiteout('etc/old')),
  Buffer.concat([archive(file('odd', noise(700, 3))), Buffer.alloc(77)]),
];

describe('veneer disk', () => {
  const lab = new CliLab({ after });
  const run = (...words: string[]): Promise<Ran> => lab.veneer(words);
  async function json<T = Record<string, unknown>>(...words: string[]): Promise<T> {
    const ran = await run(...words, '--json');
    assert.equal(ran.code, 0, `${words.join(' ')}: ${ran.stderr}${ran.text}`);
    return parseLines(ran.text)[0] as T;
  }
  /** Writes a file of the store with one byte changed, runs `work`, and puts it back. */
  async function damaged<T>(path: string, at: number, work: () => Promise<T>): Promise<T> {
    const good = readFileSync(path);
    const bad = Buffer.from(good);
    bad[at < 0 ? bad.length + at : at]! ^= 0x10;
    chmodSync(path, 0o644);
    try {
      writeFileSync(path, bad);
      return await work();
    } finally {
      writeFileSync(path, good);
    }
  }
  const stored = (folder: string, name: string): string[] =>
    readdirSync(join(lab.root, folder)).map((hex) => join(lab.root, folder, hex, name));

  before(async () => {
    await lab.pull('app:1', LAYERS);
  });

  it('needs an image, an output and flags that fit', async () => {
    for (const words of [
      ['disk'],
      ['disk', 'app:1'],
      ['disk', '-o', 'x.iso', 'app:1'],
      ['disk', '-o', 'x.raw', '--relative', 'app:1'],
      ['disk', '-o', 'x.vmdk', '--verity', '--sign', 'k', 'app:1'],
      ['disk', '-o', 'x.vmdk', '--sign', 'k', '--cert', 'c', 'app:1'],
      ['disk', '-o', 'x.vmdk', 'app:1', 'more'],
      ['verify', '--root-hash', 'abc', 'app:1'],
      ['verify', '--root-hash', 'a'.repeat(64)],
      ['verify', '--signature', 'f', '--cert', 'c', 'app:1'],
    ]) {
      assert.equal((await run(...words)).code, 2, words.join(' '));
    }
    assert.equal((await run('disk', '-o', 'x.vmdk', 'absent:1')).code, 1);
    assert.equal(existsSync(lab.path('x.vmdk')), false);
  });

  it('writes a VMDK that points into the store, the same bytes every time', async () => {
    await json('disk', '-o', 'a.vmdk', 'app:1');
    const again = await run('disk', '-o', 'a.vmdk', 'app:1');
    assert.equal(again.code, 1);
    assert.match(again.stderr, /is there already/);
    await json('disk', '-o', 'b.vmdk', 'app:1');
    const [a, b] = ['a.vmdk', 'b.vmdk'].map((name) =>
      readFileSync(lab.path(name), 'utf8').replaceAll('b.vmdk', 'a.vmdk'),
    );
    // the name of the extra file is part of the text
    assert.equal(a!.replace(/checksum = .*/, ''), b!.replace(/checksum = .*/, ''));
    const inspected = await json<{
      problems: string[];
      vmdk: { intact: boolean };
      content: { whole: { erofs: { devices: unknown[] } } };
    }>('disk', 'inspect', 'a.vmdk');
    assert.deepEqual(inspected.problems, []);
    assert.equal(inspected.vmdk.intact, true);
    assert.equal(inspected.content.whole.erofs.devices.length, 3);
    assert.ok(readdirSync(lab.directory).every((name) => !name.includes('unfinished')));
  });

  it('writes the same disk in every form', async (t) => {
    const qemu = requireTool(t, 'qemu-img');
    if (qemu === null) return;
    const vmdk = await json('disk', '-f', '--verity', '-o', 'v.vmdk', 'app:1');
    const raw = await json('disk', '-f', '--verity', '-o', 'v.raw', 'app:1');
    assert.deepEqual(vmdk.verity, raw.verity);
    execFileSync(qemu, ['compare', '-f', 'vmdk', '-F', 'raw', lab.path('v.vmdk'), lab.path('v.raw')]);
    await json('disk', '-f', '--gpt', '--verity', '-o', 'g.vmdk', 'app:1');
    await json('disk', '-f', '--gpt', '--verity', '-o', 'g.raw', 'app:1');
    execFileSync(qemu, ['compare', '-f', 'vmdk', '-F', 'raw', lab.path('g.vmdk'), lab.path('g.raw')]);
    for (const disk of ['v.vmdk', 'v.raw', 'g.vmdk', './g.raw'])
      assert.equal((await run('verify', disk)).code, 0, disk);
  });

  it('gives a root hash that veritysetup accepts', async (t) => {
    const veritysetup = requireTool(t, 'veritysetup');
    if (veritysetup === null) return;
    const { verity } = await json<{ verity: { rootHash: string; dataBlocks: number } }>(
      'disk',
      '-f',
      '--verity',
      '-o',
      'r.raw',
      'app:1',
    );
    const offset = Math.ceil((verity.dataBlocks * 512) / 4096) * 4096;
    const disk = lab.path('r.raw');
    execFileSync(veritysetup, ['verify', disk, disk, verity.rootHash, `--hash-offset=${offset}`]);
    const ran = await json<{ problems: string[] }>('verify', '--root-hash', verity.rootHash, 'app:1');
    assert.deepEqual(ran.problems, []);
    const wrong = await run('verify', '--root-hash', '0'.repeat(64), 'app:1');
    assert.equal(wrong.code, 1);
    assert.match(wrong.text, new RegExp(`has the root hash ${verity.rootHash}, not 0{64}`));
  });

  it('puts the tree behind the data or beside it, with and without superblock', async (t) => {
    const veritysetup = requireTool(t, 'veritysetup');
    if (veritysetup === null) return;
    interface Made {
      verity: { rootHash: string; dataBlocks: number; salt: string; dataBlockSize: number };
    }
    const plain = await json<{ size: number }>('disk', '-f', '-o', 't.raw', 'app:1');
    for (const [tar, i] of LAYERS.map((bytes, i) => [bytes, i] as const))
      writeFileSync(lab.path(`t${i}.tar`), tar);
    const tars = LAYERS.map((_, i) => `t${i}.tar`);
    // layers with 4096-byte blocks, and the image of the store with 512
    await json('convert', ...tars, '-f', '-o', '.');
    await json('merge', '-f', '-o', 't4k.erofs', ...tars.map((name) => `${name}.erofs`));
    const whole = ['t4k.erofs', ...tars.flatMap((name) => ['--device', `${name}.erofs`])];
    for (const [blockSize, image] of [
      [512, ['app:1']],
      [4096, whole],
    ] as const) {
      for (const superblock of [true, false]) {
        for (const beside of [true, false]) {
          const what = `${blockSize} ${superblock} ${beside}`;
          const flags = [
            ...(superblock ? [] : ['--no-superblock']),
            ...(beside ? ['--hash-file', 't.hash'] : []),
          ];
          for (const form of ['t.raw', 't.vmdk']) {
            const made = await json<Made & { size: number }>(
              'disk',
              '-f',
              '--verity',
              ...flags,
              '-o',
              form,
              ...image,
            );
            const { rootHash, dataBlocks, dataBlockSize, salt } = made.verity;
            assert.equal(dataBlockSize, blockSize);
            if (beside && blockSize === 512) assert.equal(made.size, plain.size);
            const tree = beside ? ['--hash-file', 't.hash'] : [];
            const known = ['verify', '--root-hash', rootHash, ...tree, `./${form}`];
            const sound = await run(...known);
            assert.equal(sound.code, 0, what + sound.text + sound.stderr);
            assert.equal(
              (await run('verify', '--root-hash', '0'.repeat(64), ...tree, `./${form}`)).code,
              1,
              what,
            );
            if (form === 't.vmdk') {
              assert.equal((await run('verify', form)).code, 0, what);
              continue;
            }
            const disk = lab.path(form);
            const offset = beside ? 0 : Math.ceil((dataBlocks * dataBlockSize) / 4096) * 4096;
            const facts = superblock
              ? []
              : [
                  '--no-superblock',
                  `--data-blocks=${dataBlocks}`,
                  `--data-block-size=${dataBlockSize}`,
                  '--hash-block-size=4096',
                  `--salt=${salt}`,
                ];
            const hashes = beside ? lab.path('t.hash') : disk;
            execFileSync(veritysetup, [
              'verify',
              disk,
              hashes,
              rootHash,
              `--hash-offset=${offset}`,
              ...facts,
            ]);
            const last = beside ? statSync(hashes).size - 4096 : statSync(disk).size - 4096;
            const ran = await damaged(hashes, last, () => run(...known));
            assert.equal(ran.code, 1, what);
            assert.match(
              ran.text,
              new RegExp(`the hash tree .* at ${last} of \\S*t\\.(raw|hash) is not`),
              what,
            );
            const data = await damaged(disk, 5000, () => run(...known));
            assert.match(data.text, /damaged: \d+ bytes at \d+ of \S*t\.raw are not/, what);
            if (superblock) {
              // the first byte of the superblock: neither the tree nor the data is accused
              const lost = await damaged(hashes, offset, () => run(...known));
              assert.equal(lost.code, 1, what);
              assert.match(lost.text, /superblock|hash tree/, what);
            }
          }
        }
      }
    }
    // without the tree's file the data still has its root hash
    const { verity } = await json<Made>(
      'disk',
      '-f',
      '--verity',
      '--hash-file',
      't.hash',
      '-o',
      't.raw',
      'app:1',
    );
    assert.equal((await run('verify', '--root-hash', verity.rootHash, './t.raw')).code, 0);
    const bare = await damaged(lab.path('t.raw'), 6000, () =>
      run('verify', '--root-hash', verity.rootHash, './t.raw'),
    );
    assert.match(bare.text, /has the root hash [0-9a-f]{64}, not/);
    // one tree a partition
    const parts = await json<{
      partitions: { start: number; hashOffset: number; verity: { rootHash: string } }[];
    }>(...['disk', '-f', '--gpt', '--verity', '--no-superblock', '-o', 't.raw', 'app:1']);
    const all = parts.partitions.map((part) => part.verity.rootHash).join(',');
    assert.equal((await run('verify', '--root-hash', all, './t.raw')).code, 0);
    const { start, hashOffset } = parts.partitions[1]!;
    const inTree = start * 512 + hashOffset + 40;
    const found = await damaged(lab.path('t.raw'), inTree, () =>
      run('verify', '--root-hash', all, './t.raw'),
    );
    assert.match(found.text, /the hash tree of partition layer 1/);
    for (const words of [
      ['--hash-file', 'h'],
      ['--no-superblock'],
      ['--verity', '--gpt', '--hash-file', 'h'],
    ])
      assert.equal((await run('disk', '-f', ...words, '-o', 't.raw', 'app:1')).code, 2, words.join(' '));
  });

  it('reads the disks of others', async (t) => {
    const qemu = requireTool(t, 'qemu-img');
    const mkfs = newerTool('mkfs.erofs');
    if (mkfs === null) return missing(t, 'mkfs.erofs 1.9 is not there: scripts/tools.sh');
    if (qemu === null) return;
    writeFileSync(lab.path('o.tar'), LAYERS[0]!);
    execFileSync(mkfs, ['--quiet', '--tar=i', '--vmdk-desc=o.vmdk', 'o.erofs', 'o.tar'], {
      cwd: lab.directory,
    });
    type Inspected = { problems: string[]; vmdk: { createType: string }; content: Record<string, unknown> };
    const theirs = await json<Inspected>('disk', 'inspect', 'o.vmdk');
    assert.deepEqual(theirs.problems, []);
    assert.match(JSON.stringify(theirs.content), /"erofs":\{"blockSize":512/);
    assert.equal((await run('verify', 'o.vmdk')).code, 0);
    await json('disk', '-f', '-o', 'ours.raw', 'app:1');
    const { content } = await json<Inspected>('disk', 'inspect', 'ours.raw');
    for (const format of ['monolithicFlat', 'monolithicSparse', 'twoGbMaxExtentSparse', 'streamOptimized']) {
      execFileSync(
        qemu,
        ['convert', '-f', 'raw', '-O', 'vmdk', '-o', `subformat=${format}`, 'ours.raw', `${format}.vmdk`],
        { cwd: lab.directory },
      );
      const seen = await json<Inspected>('disk', 'inspect', `${format}.vmdk`);
      assert.equal(seen.vmdk.createType, format);
      assert.deepEqual(seen.content, content);
      assert.equal((await run('verify', `${format}.vmdk`)).code, 0, format);
    }
    execFileSync(qemu, ['convert', '-O', 'qcow2', lab.path('ours.raw'), lab.path('ours.qcow2')]);
    const refused = await run('disk', 'inspect', 'ours.qcow2');
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /QCOW disk[\s\S]*qemu-img convert/);
  });

  it('names files relative to the disk, wherever that moves with the store', async (t) => {
    const qemu = requireTool(t, 'qemu-img');
    if (qemu === null) return;
    mkdirSync(lab.path('near/by'), { recursive: true });
    symlinkSync(lab.path('near/by'), lab.path('link'));
    await json('disk', '-f', '--relative', '-o', 'link/r.vmdk', 'app:1');
    const text = readFileSync(lab.path('near/by/r.vmdk'), 'utf8');
    assert.match(text, /FLAT "\.\.\/\.\.\/store\/chains\//);
    assert.ok(!text.includes(lab.directory));
    await json('disk', '-f', '-o', 'whole.raw', 'app:1');
    const moved = lab.path('moved "here" é');
    mkdirSync(moved);
    cpSync(lab.root, join(moved, 'store'), { recursive: true });
    cpSync(lab.path('near'), join(moved, 'near'), { recursive: true });
    execFileSync(qemu, [
      'compare',
      '-f',
      'vmdk',
      '-F',
      'raw',
      join(moved, 'near/by/r.vmdk'),
      lab.path('whole.raw'),
    ]);
    const refused = await lab.veneer(['disk', '-o', 'q.vmdk', 'app:1', '--root', join(moved, 'store')]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /quotes and control characters/);
    assert.match(refused.stderr, /--relative/);
  });

  it('finds and names every flipped byte: VMDK, tars, metadata, hash tree', async () => {
    const { verity } = await json<{ verity: { rootHash: string } }>(
      'disk',
      '-f',
      '--verity',
      '-o',
      'd.vmdk',
      'app:1',
    );
    const disk = lab.path('d.vmdk');
    const check = (...words: string[]): Promise<Ran> => run('verify', ...words, disk);
    assert.equal((await check('--root-hash', verity.rootHash)).code, 0);
    for (const at of [3, 100, 300, 700, -20]) {
      const ran = await damaged(disk, at, () => check());
      assert.notEqual(ran.code, 0, `byte ${at}`);
      assert.match(ran.text + ran.stderr, /d\.vmdk|descriptor/, `byte ${at}`);
    }
    for (const tar of stored('layers', 'layer.tar')) {
      // What ends inside a sector is in the extra file.
      const whole = statSync(tar).size % 512 === 0;
      for (const at of whole ? [0, 513, 1500, -1] : [0, 513]) {
        const ran = await damaged(tar, at, () => check());
        assert.equal(ran.code, 1, `${tar} ${at}`);
        assert.ok(ran.text.includes(tar), ran.text);
        const inStore = await damaged(tar, at, () => run('verify', 'app:1'));
        assert.equal(inStore.code, 1);
        assert.ok(inStore.text.includes(tar), inStore.text);
      }
    }
    const odd = await damaged(lab.path('d.vmdk.extra'), 5, () => check('--root-hash', verity.rootHash));
    assert.equal(odd.code, 1);
    assert.match(odd.text, /d\.vmdk\.extra/);
    const fsmeta = stored('chains', 'fsmeta.erofs')[0]!;
    for (const at of [0, 1100, 1500, -1]) {
      const ran = await damaged(fsmeta, at, () => check());
      assert.equal(ran.code, 1, `fsmeta ${at}`);
      assert.ok(ran.text.includes(fsmeta), ran.text);
      const mounting = await damaged(fsmeta, at, () => run('disk', '-f', '-o', 'x.vmdk', 'app:1'));
      assert.equal(mounting.code, 1);
      assert.ok(mounting.stderr.includes(fsmeta), mounting.stderr);
    }
    const tree = stored('verity/disk', 'tree')[0]!;
    const size = statSync(tree).size;
    for (const at of [0, 20, 100, 600, 4096, 5000, 8191, 8192, 9000, size - 1]) {
      const ran = await damaged(tree, at, () => check());
      assert.equal(ran.code, 1, `tree ${at}`);
      assert.ok(at < 4096 || ran.text.includes(tree), ran.text);
      const inStore = await damaged(tree, at, () => run('verify', 'app:1'));
      assert.equal(inStore.code, 1, `tree ${at}`);
      assert.ok(inStore.text.includes('verity/disk'), inStore.text);
    }
    assert.equal((await check('--root-hash', verity.rootHash)).code, 0);
    assert.equal((await run('verify')).code, 0);
  });

  it('finds flipped bytes in partitioned and raw disks', async () => {
    type Part = { start: number; sectors: number; hashOffset: number; verity: { rootHash: string } };
    const { partitions } = await json<{ partitions: Part[] }>(
      'disk',
      '-f',
      '--gpt',
      '--verity',
      '-o',
      'p.raw',
      'app:1',
    );
    const hashes = partitions.map(({ verity }) => verity.rootHash).join(',');
    const disk = lab.path('p.raw');
    const size = statSync(disk).size;
    const places = [10, 460, 520, 560, 700, 1100, size - 500, size - 100, size - 5000 + 7];
    for (const { start, hashOffset } of partitions)
      places.push(start * 512 + 1030, start * 512 + hashOffset + 5000);
    for (const at of places) {
      const ran = await damaged(disk, at, () => run('verify', '--root-hash', hashes, disk));
      assert.equal(ran.code, 1, `byte ${at}: ${ran.text}`);
    }
    assert.equal((await run('verify', '--root-hash', hashes, disk)).code, 0);
  });

  it('signs the root hash and writes it as an annotation', async (t) => {
    const made = await makeCertificates(t, 'DNS:signer');
    if (made === null) return;
    const { verity, signature, annotation } = await json<{
      verity: { rootHash: string };
      signature: string;
      annotation: string;
    }>(
      ...[
        'disk',
        '-f',
        '--verity',
        '--sign',
        made.key,
        '--cert',
        made.certificate,
        '--annotate',
        'oci',
        '-o',
        's.vmdk',
        'app:1',
      ],
    );
    assert.equal(signature, 's.vmdk.p7s');
    const signed = ['--root-hash', verity.rootHash, '--signature', 's.vmdk.p7s', '--cert'];
    assert.equal((await run('verify', ...signed, made.certificate, './s.vmdk')).code, 0);
    assert.equal((await run('verify', ...signed, made.ca, './s.vmdk')).code, 1);
    const index = JSON.parse(readFileSync(lab.path('oci/index.json'), 'utf8'));
    assert.equal(index.manifests[0].digest, annotation);
    const bytes = readFileSync(lab.path('oci/blobs/sha256', annotation.slice(7)));
    assert.equal(`sha256:${createHash('sha256').update(bytes).digest('hex')}`, annotation);
    const manifest = JSON.parse(bytes.toString());
    const image = await json<{ manifest: { digest: string } }>('images');
    assert.equal(manifest.subject.digest, image.manifest.digest);
    assert.equal(manifest.annotations['dev.veneer.verity.root-hash'], `sha256:${verity.rootHash}`);
    assert.ok(
      readFileSync(lab.path('oci/blobs/sha256', manifest.layers[0].digest.slice(7))).equals(
        readFileSync(lab.path('s.vmdk.p7s')),
      ),
    );
    const skopeo = requireTool(t, 'skopeo');
    if (skopeo !== null) execFileSync(skopeo, ['inspect', '--raw', `oci:${lab.path('oci')}`]);
  });

  it('makes disks of image files, hash trees and all', async () => {
    const names = LAYERS.map((tar, i) => {
      writeFileSync(lab.path(`${i}.tar`), tar);
      return `${i}.tar`;
    });
    await json('index', '--digest', ...names);
    await json('merge', '-o', 'files.erofs', ...names.map((name) => `${name}.erofs`));
    const devices = names.flatMap((name) => ['--device', name]);
    for (const form of [['f.vmdk'], ['f.raw'], ['fg.vmdk', '--gpt'], ['fg.raw', '--gpt']]) {
      const [output, ...flags] = form;
      await json('disk', '-f', '--verity', ...flags, ...devices, '-o', output!, 'files.erofs');
      const ran = await run('verify', `./${output}`);
      assert.equal(ran.code, 0, ran.text + ran.stderr);
    }
    const short = await run('disk', '-f', ...devices.slice(2), '-o', 'x.raw', 'files.erofs');
    assert.equal(short.code, 1);
    assert.match(short.stderr, /wants 3 devices, 2 are given/);
    const wrong = await run(
      'disk',
      '-f',
      ...['0.tar', '2.tar', '1.tar'].flatMap((name) => ['--device', name]),
      '-o',
      'x.raw',
      'files.erofs',
    );
    assert.equal(wrong.code, 1);
  });

  it('makes UDF disks, and finds what is damaged on them', async () => {
    const { mountOptions, size } = await json<{ mountOptions: string[]; size: number }>(
      ...['disk', '-f', '--format', 'udf', '-o', 'u.vmdk', 'app:1'],
    );
    assert.deepEqual(mountOptions, ['ro'], 'a standard volume needs no others');
    assert.equal(size % 512, 0);
    assert.equal((await run('verify', 'u.vmdk')).code, 0);
    const about = await run('verify', '--root-hash', '0'.repeat(64), 'u.vmdk');
    assert.equal(about.code, 1);
    assert.match(about.text, /no root hash is about it/);
    const [tar] = stored('layers', 'layer.tar').filter((path) => statSync(path).size > 100_000);
    for (const path of [tar!, lab.path('u.vmdk.extra')]) {
      const ran = await damaged(path, 700, () => run('verify', 'u.vmdk'));
      assert.equal(ran.code, 1);
      assert.ok(ran.text.includes(path), ran.text);
    }
    for (const words of [['--verity'], ['--gpt']])
      assert.equal((await run('disk', '-f', '--format', 'udf', ...words, '-o', 'u.vmdk', 'app:1')).code, 2);
  });

  it('makes UDF disks that tools recognise, with names as bytes where only that holds them', async (t) => {
    const blkid = requireTool(t, 'blkid');
    if (blkid === null) return;
    await lab.pull('names:1', [archive(file('caf\xe9', 'latin1'), file('\xd0\x96', 'UTF-8'))]);
    for (const [image, wanted] of [
      ['app:1', ['ro']],
      ['names:1', ['ro', 'iocharset=iso8859-1']],
    ] as const) {
      const { mountOptions } = await json<{ mountOptions: string[] }>(
        ...['disk', '-f', '--format', 'udf', '-o', 'u.raw', image],
      );
      assert.deepEqual(mountOptions, wanted);
      const said = execFileSync(blkid, ['-p', '-o', 'export', lab.path('u.raw')], { encoding: 'utf8' });
      assert.match(said, /^TYPE=udf$/m);
      const reader = new UdfReader(bufferSource(readFileSync(lab.path('u.raw'))));
      const names = [...reader.readTree().root.children!.keys()];
      if (image === 'names:1') assert.deepEqual(names, ['caf\xe9', '\xd0\x96']);
      else assert.equal(reader.trailer.names, 'unicode');
    }
    assert.match((await run('disk', 'inspect', 'u.raw')).text, /holds UDF: .* of tars, .* names as bytes/);
    const sound = await run('verify', 'u.raw');
    assert.equal(sound.code, 0, sound.text);
    assert.match(sound.text + sound.stderr, /the tars on u\.raw: only a VMDK says their digests/);
    const { origin, firstBlock } = new UdfReader(bufferSource(readFileSync(lab.path('u.raw')))).trailer;
    const ran = await damaged(lab.path('u.raw'), (origin + firstBlock) * 512 + 40, () =>
      run('verify', 'u.raw'),
    );
    assert.equal(ran.code, 1);
    assert.match(ran.text, /the UDF metadata/);
    await run('rm', 'names:1');
    await run('gc');
  });

  it('keeps trees while the image is there, and no longer', async () => {
    await json('disk', '-f', '--verity', '-o', 'k.vmdk', 'app:1');
    await run('gc');
    assert.equal(readdirSync(join(lab.root, 'verity/disk')).length, 1);
    assert.equal((await run('fsck')).code, 0);
    const tree = stored('verity/disk', 'verity.json')[0]!;
    const ran = await damaged(tree, readFileSync(tree, 'utf8').indexOf('rootHash') + 14, async () => [
      await run('fsck'),
      await run('verify'),
    ]);
    for (const one of ran) {
      assert.equal(one.code, 1);
      assert.match(one.text, /root hash|cannot be read|hex/i);
    }
    assert.equal((await run('rm', 'app:1')).code, 0);
    await run('gc');
    assert.deepEqual(readdirSync(join(lab.root, 'verity/disk')), []);
    assert.deepEqual(readdirSync(join(lab.root, 'verity/file')), []);
    const ended = await run('verify', 'k.vmdk');
    assert.equal(ended.code, 1);
    assert.match(ended.text, /fsmeta\.erofs is missing/);
  });
});
