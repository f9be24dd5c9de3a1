/** veneer delta create, apply and inspect, as a user runs them. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { encodeHeader } from '../../src/delta/format.ts';
import { OpEncoder } from '../../src/delta/op-encoder.ts';
import { ScriptWriter } from '../../src/delta/script.ts';
import { buildImage, noise, sampleTars, writeLayout } from '../support/image-builder.ts';
import { sha256, type TestImage } from '../support/images.ts';
import { requireTool } from '../support/require-tool.ts';
import { archive, dir, END, file } from '../support/tar-builder.ts';
import { CliLab, cleanEnv, LAUNCHER, parseLines, type Ran } from './run-veneer.ts';

const ok = (ran: Ran): Ran => {
  assert.equal(ran.code, 0, ran.stderr);
  return ran;
};

interface Pair {
  readonly lab: CliLab;
  readonly one: TestImage;
  readonly two: TestImage;
}

/** Two versions of an image: a base that both have, a layer that changed, a layer that is new. */
async function versions(t: TestContext, size = 200_000): Promise<Pair> {
  const lab = new CliLab(t);
  const [base, change, addition] = sampleTars();
  const app = (version: number): Buffer => {
    const code = noise(size, 5);
    for (let at = 100; at < code.length; at += 10_000) code[at] = version;
    const name = `opt/app-1.${version}`;
    return archive(dir('opt'), dir(name), file(`${name}/app`, code), file('opt/version', `${version}\n`));
  };
  const one = buildImage([base!, { tar: app(1), compression: 'zstd' }]);
  const two = buildImage([base!, { tar: app(2), compression: 'zstd' }, change!, addition!]);
  await writeLayout(lab.path('one'), one);
  await writeLayout(lab.path('two'), two);
  return { lab, one, two };
}

const create = (lab: CliLab, ...more: string[]): Promise<Ran> =>
  lab.veneer(['delta', 'create', '--from', 'oci:one', '--to', 'oci:two', '-o', 'oci:deltas', ...more]);

const blobOf = (lab: CliLab, layout: string, digest: string): string =>
  lab.path(layout, 'blobs/sha256', digest.slice(7));

/** All files of a folder, with their bytes. */
function contents(folder: string): Map<string, string> {
  const names = readdirSync(folder, { recursive: true, withFileTypes: true });
  const files = names.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return new Map(files.sort().map((path) => [path.slice(folder.length), sha256(readFileSync(path))]));
}

test('from layout to layout: the same manifest, bit by bit', async (t) => {
  const { lab, two } = await versions(t);
  const [made] = parseLines(ok(await create(lab, '--json')).text);
  assert.ok(Number(made!.size) < 160_000, `${made!.size} bytes`);
  ok(await lab.veneer(['delta', 'apply', '--from', 'oci:one', '-o', 'oci:made:v2', 'oci:deltas']));
  for (const blob of [two.manifest, two.config, ...two.layers]) {
    assert.ok(readFileSync(blobOf(lab, 'made', blob.digest)).equals(blob.bytes), blob.mediaType);
  }
  const index = JSON.parse(readFileSync(lab.path('made/index.json'), 'utf8'));
  assert.equal(index.manifests[0].digest, two.manifest.digest);
  assert.deepEqual(
    readdirSync(lab.directory).sort(),
    ['deltas', 'made', 'one', 'two'],
    'nothing else was made, no store either',
  );
  for (const layout of ['deltas', 'made'])
    assert.deepEqual(readdirSync(lab.path(layout)).sort(), ['blobs', 'index.json', 'oci-layout']);
});

test('the artifact: a referrer of the target that carries its documents', async (t) => {
  const { lab, one, two } = await versions(t);
  const [made] = parseLines(ok(await create(lab, '--json')).text);
  const manifest = JSON.parse(readFileSync(blobOf(lab, 'deltas', String(made!.digest)), 'utf8'));
  assert.equal(manifest.artifactType, 'application/vnd.veneer.delta.v1');
  assert.equal(manifest.subject.digest, two.manifest.digest);
  assert.equal(manifest.annotations['vnd.veneer.delta.source'], one.config.digest);
  assert.deepEqual(
    manifest.layers.slice(0, 2).map(({ digest }: { digest: string }) => digest),
    [two.manifest.digest, two.config.digest],
  );
  assert.equal(manifest.layers.length, 2 + 3, 'one delta for each layer that the source lacks');
  const sizes = manifest.layers.map(({ size }: { size: number }) => size);
  const size = sizes.reduce((sum: number, one: number) => sum + one, manifest.config.size);
  assert.equal(made!.size, size + readFileSync(blobOf(lab, 'deltas', String(made!.digest))).length);
});

test('through the store: what is there is used, and the image is the one that a pull gives', async (t) => {
  const { lab, two } = await versions(t);
  ok(await lab.veneer(['pull', 'oci:one', '--name', 'app:1']));
  ok(await create(lab));
  ok(await lab.veneer(['delta', 'apply', '--name', 'app:2', 'oci:deltas']));
  assert.equal(ok(await lab.veneer(['cat', 'app:2:/opt/version'])).text, '2\n');
  ok(await lab.veneer(['verify']));
  ok(await lab.veneer(['fsck']));
  ok(await lab.veneer(['pull', 'oci:two', '--name', 'pulled']));
  const images = parseLines(ok(await lab.veneer(['images', '--json'])).text);
  const ids = images.filter(({ name }) => name !== 'app:1').map(({ manifest }) => JSON.stringify(manifest));
  assert.equal(ids.length, 2);
  assert.equal(ids[0], ids[1]);
  assert.ok(ids[0]!.includes(two.manifest.digest));
  assert.equal(ok(await lab.veneer(['diff', 'app:2', 'pulled'])).text, '');
  // And from there: both sides from the store.
  ok(await lab.veneer(['delta', 'create', '--from', 'app:2', '--to', 'app:1', '-o', 'oci:back:down']));
  ok(await lab.veneer(['rm', 'app:1']));
  ok(await lab.veneer(['gc']));
  ok(await lab.veneer(['delta', 'apply', '--name', 'again', 'oci:back']));
  assert.equal(ok(await lab.veneer(['cat', 'again:/opt/version'])).text, '1\n');
});

test('one version by delta after the other: each keeps what is new, and points to where the rest stands', async (t) => {
  const lab = new CliLab(t);
  const code = noise(1_500_000, 9);
  const layers = [1, 2, 3].map((version) => {
    code[version * 300_000]! ^= 1;
    const news = [...Array(version).keys()].map((i) => file(`new-${i + 1}`, noise(200_000, i + 20)));
    return archive(file('code', Buffer.from(code)), ...news, END);
  });
  for (const [i, tar] of layers.entries()) await writeLayout(lab.path(`v${i + 1}`), buildImage([tar]));
  ok(await lab.veneer(['pull', 'oci:v1', '--name', 'app:1']));
  for (const [from, to] of [
    [1, 2],
    [2, 3],
  ] as const) {
    ok(
      await lab.veneer([
        'delta',
        'create',
        '--from',
        `oci:v${from}`,
        '--to',
        `oci:v${to}`,
        '-o',
        `oci:d${to}`,
      ]),
    );
    ok(await lab.veneer(['delta', 'apply', '--name', `app:${to}`, `oci:d${to}`]));
    const folder = join(lab.root, 'layers', sha256(layers[to - 1]!).slice(7));
    const kept = statSync(join(folder, 'layer.data')).size;
    assert.ok(kept >= 200_000 && kept < 200_000 + 5 * 4096, `${kept} bytes of version ${to} are kept`);
    const { deduped } = JSON.parse(readFileSync(join(folder, 'layer.json'), 'utf8'));
    const files = deduped.sources.map((source: { file: string }) => source.file).sort();
    assert.deepEqual(files, to === 2 ? ['layer.tar'] : ['layer.data', 'layer.tar']);
  }
  ok(await lab.veneer(['verify']));
  ok(await lab.veneer(['fsck']));
  const bytes = ok(await lab.veneer(['cat', 'app:3:/code'])).stdout;
  assert.ok(bytes.equals(code));
});

test('v1 = v2, and from an image that has nothing in common', async (t) => {
  const { lab } = await versions(t);
  await writeLayout(lab.path('other'), buildImage([archive(file('x', noise(5000, 1)))]));
  const [same] = parseLines(
    ok(
      await lab.veneer([
        'delta',
        'create',
        '--from',
        'oci:one',
        '--to',
        'oci:one',
        '-o',
        'oci:same',
        '--json',
      ]),
    ).text,
  );
  assert.ok(Number(same!.size) < 4096, `${same!.size} bytes`);
  ok(await lab.veneer(['delta', 'apply', '--from', 'oci:one', '-o', 'oci:same:v1', 'oci:same:delta']));
  ok(await lab.veneer(['delta', 'create', '--from', 'oci:other', '--to', 'oci:two', '-o', 'oci:new']));
  ok(await lab.veneer(['delta', 'apply', '--from', 'oci:other', '-o', 'oci:two-again', 'oci:new']));
  ok(await lab.veneer(['pull', 'oci:two-again', '--name', 'two']));
  assert.equal(ok(await lab.veneer(['cat', 'two:/opt/version'])).text, '2\n');
});

test('every level gives the image back', async (t) => {
  const { lab, two } = await versions(t, 6_000_000);
  const sizes: number[] = [];
  for (const level of ['--fast', '--best']) {
    const [made] = parseLines(ok(await create(lab, level, '--json')).text);
    sizes.push(Number(made!.size));
    rmSync(lab.path('made'), { recursive: true, force: true });
    ok(await lab.veneer(['delta', 'apply', '--from', 'oci:one', '-o', 'oci:made', 'oci:deltas']));
    assert.ok(existsSync(blobOf(lab, 'made', two.manifest.digest)));
  }
  assert.ok(sizes[1]! <= sizes[0]!, `${sizes}`);
  const both = await create(lab, '--fast', '--best');
  assert.equal(both.code, 2);
});

test('GNU gzip is found, and asked again', async (t) => {
  const gzip = requireTool(t, 'gzip');
  if (gzip === null) return;
  const { lab } = await versions(t);
  const tar = lab.path('layer.tar');
  writeFileSync(tar, archive(file('f', noise(40_000, 3)), file('g', 'text '.repeat(20_000))));
  const { execFileSync } = await import('node:child_process');
  const bytes = execFileSync(gzip, ['-c', '-9', tar]);
  const image = buildImage([readFileSync(tar)]);
  const layer = { ...image.layers[0]!, bytes, digest: sha256(bytes), size: bytes.length };
  const text = image.manifest.bytes
    .toString()
    .replace(image.layers[0]!.digest, layer.digest)
    .replace(`"size":${image.layers[0]!.size}`, `"size":${layer.size}`);
  const manifest = {
    ...image.manifest,
    bytes: Buffer.from(text),
    digest: sha256(Buffer.from(text)),
    size: text.length,
  };
  rmSync(lab.path('two'), { recursive: true });
  await writeLayout(lab.path('two'), { ...image, manifest, layers: [layer] });
  const [made] = parseLines(ok(await create(lab, '--json')).text);
  assert.equal((made!.layers as { compressor: { name: string } }[])[0]!.compressor.name, 'gnu-gzip');
  ok(await lab.veneer(['delta', 'apply', '--from', 'oci:one', '-o', 'oci:made', 'oci:deltas']));
  assert.ok(readFileSync(blobOf(lab, 'made', layer.digest)).equals(bytes));
});

test('a blob that nobody can make again becomes a plain tar; the image ID stays', async (t) => {
  const { lab } = await versions(t);
  const image = buildImage([archive(file('f', noise(9000, 3)))]);
  // A gzip member in two, as no compressor here writes it.
  const { gzipSync } = await import('node:zlib');
  const tar = archive(file('f', noise(9000, 3)));
  const bytes = Buffer.concat([gzipSync(tar.subarray(0, 5000)), gzipSync(tar.subarray(5000))]);
  const layer = { ...image.layers[0]!, bytes, digest: sha256(bytes), size: bytes.length };
  const text = image.manifest.bytes
    .toString()
    .replace(image.layers[0]!.digest, layer.digest)
    .replace(`"size":${image.layers[0]!.size}`, `"size":${layer.size}`);
  const manifest = {
    ...image.manifest,
    bytes: Buffer.from(text),
    digest: sha256(Buffer.from(text)),
    size: text.length,
  };
  rmSync(lab.path('two'), { recursive: true });
  await writeLayout(lab.path('two'), { ...image, manifest, layers: [layer] });
  assert.match(ok(await create(lab)).text, /no way was found/);
  const applied = await lab.veneer([
    'delta',
    'apply',
    '--json',
    '--from',
    'oci:one',
    '-o',
    'oci:made',
    'oci:deltas',
  ]);
  const [made] = parseLines(ok(applied).text);
  assert.equal(made!.exact, false);
  assert.equal(made!.config, image.config.digest);
  ok(await lab.veneer(['pull', 'oci:made', '--name', 'made']));
  ok(await lab.veneer(['cat', 'made:/f']));
});

test('inspect: totals alone, and files where the sources are at hand', async (t) => {
  const { lab } = await versions(t);
  ok(await create(lab));
  const bare = ok(await lab.veneer(['delta', 'inspect', 'oci:deltas'])).text;
  assert.match(bare, /files: not told/);
  assert.ok(!existsSync(lab.root));
  for (const words of [[], ['--from', 'oci:one']]) {
    if (words.length === 0) ok(await lab.veneer(['pull', 'oci:one', '--name', 'app:1']));
    const text = ok(await lab.veneer(['delta', 'inspect', ...words, 'oci:deltas'])).text;
    assert.match(text, /as in the source/);
    assert.match(text, / +COST +SIZE +KEPT +CHANGED +LITERAL +PATH\n/);
    assert.match(text, /150 kB +0 B +0 B +151 kB +srv\/data\n/);
  }
  const lines = parseLines(ok(await lab.veneer(['delta', 'inspect', '--json', 'oci:deltas'])).text);
  assert.equal(lines.length, 4);
  for (const { files, total, size } of lines as Record<
    string,
    Record<string, number> & { cost: number }[]
  >[]) {
    if (files === null) continue;
    const { copied, patched, changed, literal } = total as unknown as Record<string, number>;
    assert.equal(copied! + patched! + changed! + literal!, size);
  }
});

/** Runs a command that must fail, and leave everything as it is. */
async function refused(lab: CliLab, words: readonly string[], code: RegExp): Promise<void> {
  const before = bytesThatCount(lab);
  const ran = await lab.veneer([...words, '--json']);
  assert.equal(ran.code, 1, ran.text);
  const line = parseLines(ran.stderr).find((one) => 'error' in one) as
    | { error: { code: string } }
    | undefined;
  assert.match(line?.error.code ?? ran.stderr, code, ran.stderr);
  // Layers that came out right may be there without a name, as after any pull that failed.
  if (existsSync(lab.root)) ok(await lab.veneer(['gc']));
  const left = bytesThatCount(lab);
  assert.deepEqual(
    left.filter((one) => !before.includes(one)),
    [],
    'there is more',
  );
  assert.equal(left.length, before.length, 'there is less');
}

/** The database follows the files; what a layer is found by may be made at any time. */
function bytesThatCount(lab: CliLab): string[] {
  return [...contents(lab.directory)]
    .filter(([path]) => !/^\/store\/(store\.db.*|lock|layers\/\w+\/layer\.units)$/.test(path))
    .map((entry) => entry.join(' '));
}

const toLayout = ['delta', 'apply', '--from', 'oci:one', '-o', 'oci:made', 'oci:deltas'];
const toStore = ['delta', 'apply', '--name', 'app:2', 'oci:deltas'];

test('for another base: refused, with nothing changed', async (t) => {
  const { lab } = await versions(t);
  ok(await create(lab));
  await writeLayout(lab.path('other'), buildImage([archive(file('x', 'y'))]));
  ok(await lab.veneer(['pull', 'oci:other', '--name', 'other']));
  await refused(
    lab,
    ['delta', 'apply', '--from', 'oci:other', '-o', 'oci:made', 'oci:deltas'],
    /^delta\/base$/,
  );
  await refused(lab, toStore, /^delta\/base$/);
});

test('damaged, cut, or not there: refused, with nothing changed', async (t) => {
  const { lab } = await versions(t);
  ok(await lab.veneer(['pull', 'oci:one', '--name', 'app:1']));
  const [made] = parseLines(ok(await create(lab, '--json')).text);
  const deltas = (made!.layers as { delta?: string }[]).flatMap(({ delta }) => delta ?? []);
  for (const digest of [String(made!.digest), deltas[0]!, deltas.at(-1)!]) {
    const path = blobOf(lab, 'deltas', digest);
    const bytes = readFileSync(path);
    const flipped = Buffer.from(bytes);
    flipped[bytes.length >> 1]! ^= 1;
    for (const damage of [flipped, bytes.subarray(0, bytes.length - 1), null]) {
      if (damage === null) rmSync(path);
      else writeFileSync(path, damage);
      await refused(lab, toLayout, /^(oci|delta)\//);
      await refused(lab, toStore, /^(oci|delta)\//);
    }
    writeFileSync(path, bytes);
  }
  ok(await lab.veneer(toStore));
});

test('one that lies, every digest in order: what comes out is hashed, and refused', async (t) => {
  const { lab, two } = await versions(t);
  ok(await lab.veneer(['pull', 'oci:one', '--name', 'app:1']));
  const [made] = parseLines(ok(await create(lab, '--json')).text);
  const [, layer] = made!.layers as { delta: string; diffId: string; size: number }[];
  // The right target by name, other bytes: all zeros.
  const script = new ScriptWriter(new Set());
  script.literal(Buffer.alloc(layer!.size));
  const encoder = new OpEncoder(new Set());
  encoder.add(script.take());
  encoder.finish();
  const { zstdCompressSync } = await import('node:zlib');
  const columns = [encoder.ops, encoder.addresses, encoder.gaps, encoder.changes, encoder.literals].map(
    (column) => ({
      rawSize: column.length,
      bytes: column.length === 0 ? Buffer.alloc(0) : zstdCompressSync(column.filled()),
    }),
  );
  const sizes = columns.map(({ rawSize, bytes }) => ({ rawSize, size: bytes.length }));
  const header = encodeHeader({ digest: layer!.diffId, size: layer!.size }, [], sizes);
  const forged = Buffer.concat([header, ...columns.map(({ bytes }) => bytes)]);
  replaceBlobs(lab, String(made!.digest), layer!.delta, forged);
  assert.ok(two.diffIds.includes(layer!.diffId));
  await refused(lab, toLayout, /^delta\/mismatch$/);
  await refused(lab, toStore, /^store\/mismatch$/);
});

/** Puts another blob in the place of one, and makes all documents name it. */
function replaceBlobs(lab: CliLab, manifest: string, old: string, bytes: Buffer): void {
  const digest = sha256(bytes);
  writeFileSync(blobOf(lab, 'deltas', digest), bytes);
  const document = JSON.parse(readFileSync(blobOf(lab, 'deltas', manifest), 'utf8'));
  const config = readFileSync(blobOf(lab, 'deltas', document.config.digest), 'utf8').replaceAll(old, digest);
  const put = (text: string): { digest: string; size: number } => {
    const made = { digest: sha256(Buffer.from(text)), size: Buffer.byteLength(text) };
    writeFileSync(blobOf(lab, 'deltas', made.digest), text);
    return made;
  };
  Object.assign(document.config, put(config));
  for (const one of document.layers)
    if (one.digest === old) Object.assign(one, { digest, size: bytes.length });
  const made = put(JSON.stringify(document));
  const index = JSON.parse(readFileSync(lab.path('deltas/index.json'), 'utf8'));
  Object.assign(index.manifests[0], made);
  writeFileSync(lab.path('deltas/index.json'), JSON.stringify(index));
}

test('what is no delta, and words that are wrong', async (t) => {
  const { lab } = await versions(t);
  ok(await create(lab));
  await refused(lab, ['delta', 'apply', '--name', 'x', 'oci:one:latest'], /^delta\/unsupported$/);
  await refused(
    lab,
    ['delta', 'create', '--from', 'oci:one', '--to', 'oci:two', '-o', 'oci:one:latest'],
    /^oci\/exists$/,
  );
  await refused(lab, ['delta', 'inspect', 'oci:nowhere'], /^oci\/not-found$/);
  await refused(
    lab,
    ['delta', 'create', '--from', 'oci:one', '--to', 'nothing', '-o', 'oci:new'],
    /^store\/no-image$/,
  );
  for (const words of [
    ['delta', 'apply', 'oci:deltas'],
    ['delta', 'apply', '--name', 'x', '-o', 'oci:y', 'oci:deltas'],
    ['delta', 'apply', '--name', 'x', 'deltas'],
    ['delta', 'create', '--from', 'oci:one', '--to', 'oci:two', '-o', 'deltas'],
  ]) {
    assert.equal((await lab.veneer(words)).code, 2, words.join(' '));
  }
  assert.equal((await lab.veneer(['delta', 'aply', 'oci:deltas'])).code, 2);
});

test('kill -9 while it is applied: no name leads to anything half, and the next try is whole', async (t) => {
  const { lab, two } = await versions(t, 12_000_000);
  ok(await lab.veneer(['pull', 'oci:one', '--name', 'app:1']));
  ok(await create(lab, '--fast'));
  const before = ok(await lab.veneer(['images', '--json'])).text;
  for (const words of [toStore, toLayout]) {
    for (const wait of [120, 250, 400, 600]) {
      const child = spawn(process.execPath, [LAUNCHER, ...words], {
        cwd: lab.directory,
        env: cleanEnv({ VENEER_ROOT: lab.root }),
        stdio: 'ignore',
      });
      const ended = new Promise((resolve) => child.once('close', resolve));
      await delay(wait);
      child.kill('SIGKILL');
      await ended;
      if (words === toStore) {
        const images = ok(await lab.veneer(['images', '--json'])).text;
        if (images !== before) ok(await lab.veneer(['rm', 'app:2']));
        ok(await lab.veneer(['fsck']));
      } else if (existsSync(lab.path('made/oci-layout'))) {
        const index = JSON.parse(readFileSync(lab.path('made/index.json'), 'utf8'));
        for (const { digest } of index.manifests) assert.equal(digest, two.manifest.digest);
      } else {
        rmSync(lab.path('made'), { recursive: true, force: true });
      }
    }
    ok(await lab.veneer(words));
  }
  ok(await lab.veneer(['verify']));
  assert.ok(existsSync(blobOf(lab, 'made', two.manifest.digest)));
});
