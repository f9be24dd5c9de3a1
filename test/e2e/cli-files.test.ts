/** `veneer index`, `convert`, `merge`: images as files, read back through the program. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { sha256 } from '../support/images.ts';
import { archive, dir, file, hardLink, symlink, whiteout } from '../support/tar-builder.ts';
import { CliLab, parseLines, type Ran } from './run-veneer.ts';

const lower = archive(
  dir('etc'),
  file('etc/a', 'from below\n'),
  file('etc/b', 'b\n'),
  file('keep', 'kept\n'),
);
const upper = archive(
  file('etc/a', 'from above\n'),
  whiteout('etc/b'),
  hardLink('kept-too', 'keep'),
  symlink('link', 'etc/a'),
  file('new', Buffer.alloc(5000, 'n')),
);

describe('image files', () => {
  const lab = new CliLab({ after });
  const veneer = (...words: string[]): Promise<Ran> => lab.veneer(words);
  const ok = async (...words: string[]): Promise<string> => {
    const ran = await veneer(...words);
    assert.equal(ran.code, 0, `${words.join(' ')}: ${ran.stderr}`);
    return ran.text;
  };
  /** Everything `ls` knows of an image file. */
  const listing = async (image: string, ...more: string[]): Promise<Record<string, unknown>[]> =>
    parseLines(await ok('ls', '-R', '-a', '--json', image, ...more));

  before(() => {
    writeFileSync(lab.path('0.tar'), lower);
    writeFileSync(lab.path('1.tar'), upper);
    writeFileSync(lab.path('0.tar.gz'), gzipSync(lower));
    writeFileSync(lab.path('0.tar.zst'), zstdCompressSync(lower));
  });

  it('index writes beside the tar; its data is read with --device', async () => {
    assert.match(await ok('index', '0.tar'), /^0\.tar\.erofs: 4 entries, /);
    assert.equal(await ok('cat', './0.tar.erofs:/etc/a', '--device', '0.tar'), 'from below\n');
    const missing = await veneer('cat', './0.tar.erofs:/etc/a');
    assert.equal(missing.code, 1);
    assert.match(missing.stderr, /device 1 of its table .* was not given\nhint: .*--device/);
    const wrong = await veneer('cat', './0.tar.erofs:/etc/a', '--device', '1.tar');
    assert.equal(wrong.code, 1);
    assert.match(wrong.stderr, /Cannot use 1\.tar as device 1/);
  });

  it('index --digest names the tar', async () => {
    const [report] = parseLines(await ok('index', '--json', '--digest', '0.tar', '-o', 'named.erofs'));
    assert.equal(report!.diffId, sha256(lower));
    const [stat] = parseLines(await ok('stat', '--json', './named.erofs:/keep'));
    assert.equal((stat!.data as { digest: string }[])[0]!.digest, sha256(lower));
  });

  it('index reads a pipe, keeps the tar, and writes the same image', async () => {
    const ran = await lab.veneer(['index', '-', '--tar', 'piped.tar'], { input: lower });
    assert.equal(ran.code, 0, ran.stderr);
    assert.ok(readFileSync(lab.path('piped.tar')).equals(lower));
    assert.ok(readFileSync(lab.path('piped.tar.erofs')).equals(readFileSync(lab.path('named.erofs'))));
  });

  it('index takes no compressed tar, and leaves nothing when it fails', async () => {
    const before = readdirSync(lab.directory);
    const compressed = await veneer('index', '0.tar.gz');
    assert.equal(compressed.code, 1);
    assert.match(compressed.stderr, /it is compressed \(gzip\)\nhint: .*veneer convert/);
    writeFileSync(lab.path('cut.tar'), lower.subarray(0, 700));
    const cut = await veneer('index', 'cut.tar');
    assert.equal(cut.code, 1);
    assert.match(cut.stderr, /^veneer: Cannot /);
    assert.deepEqual(readdirSync(lab.directory).sort(), [...before, 'cut.tar'].sort());
  });

  it('convert: plain, gzip, zstd and a pipe give the same image', async () => {
    await ok('convert', '0.tar', '-o', 'plain.erofs');
    await ok('convert', '0.tar.gz', '-o', 'gzip.erofs');
    await ok('convert', '0.tar.zst', '-o', 'zstd.erofs');
    const piped = await lab.veneer(['convert', '-', '-o', 'piped.erofs'], { input: gzipSync(lower) });
    assert.equal(piped.code, 0, piped.stderr);
    const plain = readFileSync(lab.path('plain.erofs'));
    for (const name of ['gzip.erofs', 'zstd.erofs', 'piped.erofs']) {
      assert.ok(readFileSync(lab.path(name)).equals(plain), name);
    }
    assert.equal(await ok('cat', './plain.erofs:/etc/a', './plain.erofs:/keep'), 'from below\nkept\n');
    await ok('convert', '--block-size', '512', '0.tar', '-o', 'small.erofs');
    assert.equal(await ok('cat', './small.erofs:/etc/a'), 'from below\n');
    assert.ok(readFileSync(lab.path('small.erofs')).length < plain.length);
  });

  it('never overwrites without --force', async () => {
    writeFileSync(lab.path('there'), 'mine');
    for (const words of [
      ['convert', '0.tar', '-o', 'there'],
      ['index', '0.tar', '-o', 'there'],
      ['merge', './plain.erofs', '-o', 'there'],
    ]) {
      const ran = await veneer(...words);
      assert.equal(ran.code, 1);
      assert.match(ran.stderr, /there: it is there already\nhint: --force/);
      assert.equal(readFileSync(lab.path('there'), 'utf8'), 'mine');
    }
    await ok('convert', '0.tar', '-fo', 'there');
    assert.ok(readFileSync(lab.path('there')).equals(readFileSync(lab.path('plain.erofs'))));
  });

  it('several inputs go into a folder', async () => {
    mkdirSync(lab.path('images'));
    await ok('convert', '0.tar', '1.tar', '-o', 'images');
    assert.deepEqual(readdirSync(lab.path('images')).sort(), ['0.tar.erofs', '1.tar.erofs']);
    const clash = await veneer('index', '0.tar', './0.tar', '-o', 'images');
    assert.equal(clash.code, 2);
    assert.match(clash.stderr, /both become/);
    const none = await veneer('index', '0.tar', '1.tar', '-o', 'nowhere');
    assert.equal(none.code, 2);
    assert.ok(!existsSync(lab.path('nowhere')));
  });

  it('merge: any mix of metadata and self-contained images gives the same tree', async () => {
    await ok('index', '--digest', '-fo', 'meta0', '0.tar');
    await ok('index', '--digest', '-fo', 'meta1', '1.tar');
    await ok('convert', '-fo', 'full0', '0.tar');
    await ok('convert', '-fo', 'full1', '1.tar');
    const sizes: Record<string, number> = { meta0: lower.length, meta1: upper.length };
    const files: Record<string, string> = { meta0: '0.tar', meta1: '1.tar', full0: 'full0', full1: 'full1' };
    let first: unknown;
    for (const [base, top] of [
      ['meta0', 'meta1'],
      ['full0', 'meta1'],
      ['meta0', 'full1'],
      ['full0', 'full1'],
    ] as const) {
      const output = `merged-${base}-${top}`;
      const [report] = parseLines(await ok('merge', '--json', '-o', output, base, top));
      const devices = report!.devices as { file: string | null; digest: string; size: number }[];
      assert.equal(devices.length, 2);
      devices.forEach((device, index) => {
        const image = [base, top][index]!;
        const bytes = readFileSync(lab.path(files[image]!));
        assert.equal(device.digest, sha256(bytes));
        assert.equal(
          device.file === null ? null : basename(device.file),
          image.startsWith('full') ? image : null,
        );
        if (sizes[image] !== undefined) assert.equal(device.size, sizes[image]);
      });
      const flags = ['--device', files[base]!, '--device', files[top]!];
      const shown = await listing(`./${output}`, ...flags);
      first ??= shown;
      assert.deepEqual(shown, first);
      assert.deepEqual(
        shown.map(({ path }) => path),
        ['/etc', '/keep', '/kept-too', '/link', '/new', '/etc/a'],
      );
      const printed = await ok('cat', `./${output}:/link`, `./${output}:/kept-too`, ...flags);
      assert.equal(printed, 'from above\nkept\n');
    }
  });

  it('the same input gives the same bytes', async () => {
    await ok('merge', '-o', 'again', 'meta0', 'full1');
    assert.ok(readFileSync(lab.path('again')).equals(readFileSync(lab.path('merged-meta0-full1'))));
  });
});
