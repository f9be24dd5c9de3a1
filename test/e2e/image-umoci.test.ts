/**
 * `veneer image` beside umoci: the same command lines on two copies of a layout must leave the same files, say the
 * same and end with the same exit code. skopeo then reads what we wrote.
 */
import assert from 'node:assert/strict';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { buildImage, writeLayout } from '../support/image-builder.ts';
import { describe as descriptorOf, makeBlob } from '../support/images.ts';
import { requireNewerTool, requireTool } from '../support/require-tool.ts';
import { archive, file } from '../support/tar-builder.ts';
import { CliLab, type Ran, run } from './run-veneer.ts';

const EPOCH = '1700000000';

class Pair {
  readonly lab: CliLab;
  readonly #umoci: string;

  constructor(t: TestContext, umoci: string) {
    this.lab = new CliLab(t);
    this.#umoci = umoci;
  }

  /** Runs `words` with both, each on its own copy: LAYOUT stands for its folder. Exit codes and stdout are equal. */
  async both(...words: string[]): Promise<{ readonly ours: Ran; readonly theirs: Ran }> {
    const fill = (name: string): string[] => words.map((word) => word.replace('LAYOUT', this.lab.path(name)));
    const env = { SOURCE_DATE_EPOCH: EPOCH };
    const ours = await this.lab.veneer(['image', ...fill('ours')], { env });
    const theirs = await run(this.#umoci, fill('theirs'), { env });
    const what = `${words.join(' ')}\n${ours.stderr}\n${theirs.stderr}`;
    assert.equal(ours.code, theirs.code, what);
    const usage = theirs.text.includes('Incorrect Usage:');
    if (!usage) assert.equal(ours.text, theirs.text, what);
    return { ours, theirs };
  }

  assertEqual(): void {
    assert.deepEqual(filesOf(this.lab.path('ours')), filesOf(this.lab.path('theirs')));
  }
}

/** Every file by its path, with its content as text. */
function filesOf(layout: string): Record<string, string> {
  const names = readdirSync(layout, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  return Object.fromEntries(
    names
      .map((entry) => join(entry.parentPath, entry.name))
      .sort()
      .map((path) => [path.slice(layout.length), readFileSync(path, 'latin1')]),
  );
}

const layered = () =>
  buildImage([archive(file('a', 'one')), { tar: archive(file('b', 'two')), compression: 'zstd' }]);

/** Config flags in one command each; `--tag n` keeps the base. */
const EDITS: readonly (readonly string[])[] = [
  [],
  ['--config.user=1000:5', '--config.workingdir', '/home', '--config.stopsignal', 'SIGINT'],
  ['--config.cmd', '-c', '--config.cmd', 'a,b', '--config.entrypoint', 'sh'],
  ['--config.env', 'A=1', '--config.env', 'B=', '--config.env', 'A=2', '--config.env', 'L=one\ntwo'],
  ['--config.exposedports', '80/tcp', '--config.exposedports', '9', '--config.exposedports', '10'],
  [
    '--config.volume',
    '/b',
    '--config.volume',
    '/a',
    '--config.label',
    'x=<b>&\u2028',
    '--config.label',
    '2=',
    '--config.label',
    '10=é',
  ],
  ['--manifest.annotation', 'k=v=w', '--author', 'me', '--created', '2020-01-01T00:00:00.500+02:00'],
  ['--os', 'linux', '--architecture', 'arm64'],
  ['--clear', 'config.env', '--clear', 'config.labels', '--clear=config.cmd', '--config.env', 'Z=1'],
  ['--clear', 'config.entrypoint', '--clear', 'config.volume', '--clear', 'config.exposedports'],
  ['--clear', 'manifest.annotations', '--no-history'],
  ['-author', 'z', '--no-history=false', '--author='],
  [
    '--history.author',
    'h',
    '--history.comment',
    'why',
    '--history.created_by',
    'me',
    '--history.created',
    '2001-02-03T04:05:06Z',
  ],
  // Last: umoci forgets a variant with the next edit, and we do not.
  ['--platform.variant', 'v8'],
];

describe('umoci and veneer image', () => {
  it('do the same to a layout from nothing', async (t) => {
    const umoci = requireNewerTool(t, 'umoci');
    if (umoci === null) return;
    const pair = new Pair(t, umoci);
    await pair.both('init', '--layout', 'LAYOUT');
    pair.assertEqual();
    await pair.both('new', '--image', 'LAYOUT:x');
    await pair.both('new', '--image', 'LAYOUT');
    await pair.both('new', '--image=LAYOUT:x');
    await pair.both('tag', '--image', 'LAYOUT:x', 'y');
    await pair.both('tag', 'a/b.c_d--e', '--image', 'LAYOUT:y');
    await pair.both('list', '--layout', 'LAYOUT');
    pair.assertEqual();
    for (const edit of EDITS) {
      await pair.both('config', '--image', 'LAYOUT:y', ...edit);
      pair.assertEqual();
      await pair.both('stat', '--image', 'LAYOUT:y');
      await pair.both('stat', '--json', '--image', 'LAYOUT:y');
    }
    await pair.both('remove', '--image', 'LAYOUT:x');
    await pair.both('rm', '--image', 'LAYOUT:not-there');
    await pair.both('gc', '--layout', 'LAYOUT');
    await pair.both('ls', '--layout', 'LAYOUT');
    pair.assertEqual();
  });

  it('do the same to an image with layers', async (t) => {
    const umoci = requireNewerTool(t, 'umoci');
    if (umoci === null) return;
    const pair = new Pair(t, umoci);
    await writeLayout(pair.lab.path('ours'), layered());
    cpSync(pair.lab.path('ours'), pair.lab.path('theirs'), { recursive: true });
    await pair.both(
      'config',
      '--image',
      'LAYOUT:latest',
      '--created',
      '2020-01-01T00:00:00Z',
      '--tag',
      'new',
    );
    pair.assertEqual();
    await pair.both('stat', '--image', 'LAYOUT:new', '--json');
    await pair.both('stat', '--image', 'LAYOUT:new');
    await pair.both('rm', '--image', 'LAYOUT:latest');
    await pair.both('gc', '--layout', 'LAYOUT');
    pair.assertEqual();
    assert.equal(readdirSync(pair.lab.path('ours/blobs/sha256')).length, 4);
  });

  it('do the same to an image behind an index', async (t) => {
    const umoci = requireNewerTool(t, 'umoci');
    if (umoci === null) return;
    const pair = new Pair(t, umoci);
    const layout = pair.lab.path('ours');
    const image = layered();
    await writeLayout(layout, image);
    const index = makeBlob('application/vnd.oci.image.index.v1+json', {
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.index.v1+json',
      manifests: [
        { ...descriptorOf(image.manifest), platform: { architecture: 'arm64', os: 'linux', variant: 'v8' } },
      ],
      annotations: { z: '1', a: '2' },
    });
    writeFileSync(join(layout, 'blobs/sha256', index.digest.slice(7)), index.bytes);
    const entry = { ...descriptorOf(index), annotations: { 'org.opencontainers.image.ref.name': 'top' } };
    writeFileSync(join(layout, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [entry] }));
    cpSync(layout, pair.lab.path('theirs'), { recursive: true });
    await pair.both('config', '--image', 'LAYOUT:top', '--created', '2020-01-01T00:00:00Z', '--author', 'me');
    pair.assertEqual();
    await pair.both('stat', '--image', 'LAYOUT:top');
    await pair.both('tag', '--image', 'LAYOUT:top', 'inner');
    await pair.both('rm', '--image', 'LAYOUT:top');
    await pair.both('gc', '--layout', 'LAYOUT');
    pair.assertEqual();
  });

  it('make the same config.json', async (t) => {
    const umoci = requireNewerTool(t, 'umoci');
    if (umoci === null) return;
    const pair = new Pair(t, umoci);
    await pair.both('init', '--layout', 'LAYOUT');
    await pair.both('new', '--image', 'LAYOUT:plain');
    const base = ['config', '--image', 'LAYOUT:plain', '--tag'];
    await pair.both(...base, 'full', ...EDITS.slice(1, 7).flat(), '--config.user', '1000:5');
    const users = ['bob', 'bob:wheel', '0:wheel', '7', '4242', 'bob:4242', 'nobody-here', ''];
    for (const [at, user] of users.entries()) await pair.both(...base, `user${at}`, `--config.user=${user}`);
    await pair.both(...base, 'windows', '--os', 'windows');
    await pair.both(...base, 'badenv', '--config.env', 'A=1');
    const rootfs = pair.lab.path('rootfs');
    mkdirSync(join(rootfs, 'etc'), { recursive: true });
    mkdirSync(join(rootfs, 'real'));
    symlinkSync('../real/passwd', join(rootfs, 'etc/passwd'));
    writeFileSync(
      join(rootfs, 'real/passwd'),
      '\nroot:x:0:0:root:/root:/bin/sh\n bob:x:1001:1002::/home/bob:/bin/sh\nlow:x:7:8::/low:\nbob:x:9:9::/x:\n',
    );
    writeFileSync(
      join(rootfs, 'etc/group'),
      'root:x:0:\nwheel:x:10:bob,root\naudio:x:29:low,bob\nbobs:x:1002:\n',
    );
    const flags = [
      [],
      ['--rootless'],
      ['--uid-map', '0:1000:1', '--gid-map=0:1000:10', '--gid-map', '10:2000'],
    ];
    const tags = ['plain', 'full', 'windows', 'badenv', 'gone', ...users.map((_, at) => `user${at}`)];
    for (const tag of tags) {
      for (const more of tag === 'full' ? flags : [[]]) {
        for (const tree of [[], ['--rootfs', rootfs]]) {
          const words = ['raw', 'runtime-config', '--image', `LAYOUT:${tag}`, ...more, ...tree];
          const { ours } = await pair.both(...words, 'LAYOUT/config.json');
          if (ours.code !== 0) {
            assert.equal(existsSync(pair.lab.path('ours/config.json')), false);
            rmSync(pair.lab.path('theirs/config.json'), { force: true });
          }
          pair.assertEqual();
          rmSync(pair.lab.path('ours/config.json'), { force: true });
          rmSync(pair.lab.path('theirs/config.json'), { force: true });
        }
      }
    }
    for (const words of [
      ['raw', 'config', '--image', 'LAYOUT:full'],
      ['raw', 'config', '--image', 'LAYOUT:full', '--uid-map', '1', 'x'],
      ['raw', 'config', '--image', 'LAYOUT:full', '--gid-map', '0:0:4294967296', 'x'],
    ])
      assert.equal((await pair.both(...words)).ours.code, 1);
  });

  it('refuse the same', async (t) => {
    const umoci = requireNewerTool(t, 'umoci');
    if (umoci === null) return;
    const pair = new Pair(t, umoci);
    await pair.both('init', '--layout', 'LAYOUT');
    await pair.both('new', '--image', 'LAYOUT:x');
    const refused: string[][] = [
      ['init', '--layout', 'LAYOUT'],
      ['init'],
      ['init', '--layout', ''],
      ['init', '--layout', 'LAYOUT:x'],
      ['init', '--layout', 'LAYOUT2', 'x'],
      ['new', '--image', 'LAYOUT:'],
      ['new', '--image', ':x'],
      ['new', '--image', 'LAYOUT:a..b'],
      ['new', '--image', 'LAYOUT2:x'],
      ['tag', '--image', 'LAYOUT:x'],
      ['tag', '--image', 'LAYOUT:x', ''],
      ['tag', '--image', 'LAYOUT:x', 'a b'],
      ['tag', '--image', 'LAYOUT:x', 'a', 'b'],
      ['tag', '--image', 'LAYOUT:gone', 'a'],
      ['rm'],
      ['rm', '--image', 'LAYOUT:x', 'more'],
      ['ls', '--layout', 'LAYOUT2'],
      ['ls', '--layout', 'LAYOUT', '--nope'],
      ['gc'],
      ['stat', '--image', 'LAYOUT:gone'],
      ['config', '--image', 'LAYOUT:x', '--config.env', 'A'],
      ['config', '--image', 'LAYOUT:x', '--config.label', '=v'],
      ['config', '--image', 'LAYOUT:x', '--clear', 'rootfs.diffids'],
      ['config', '--image', 'LAYOUT:x', '--created', '2020-02-31T00:00:00Z'],
      ['config', '--image', 'LAYOUT:x', '--history.created', 'today'],
      ['config', '--image', 'LAYOUT:x', '--no-history', '--history.author', 'me'],
      ['config', '--image', 'LAYOUT:x', '--tag', ''],
      ['config', '--image', 'LAYOUT:x', 'more'],
      ['config', '--image', 'LAYOUT:x', '--config.user'],
      ['--log', 'loud', 'ls', '--layout', 'LAYOUT'],
    ];
    for (const words of refused) {
      const { ours } = await pair.both(...words);
      assert.equal(ours.code, 1, words.join(' '));
      assert.match(ours.stderr, /^veneer: Cannot /);
    }
    const { ours } = await pair.both('no-such-command');
    assert.equal(ours.code, 3);
    pair.assertEqual();
  });

  it('skopeo reads what we wrote', async (t) => {
    const skopeo = requireTool(t, 'skopeo');
    if (skopeo === null) return;
    const lab = new CliLab(t);
    const layout = lab.path('layout');
    await writeLayout(layout, layered());
    const image = ['--image', `${layout}:latest`];
    const edited = await lab.veneer(['image', 'config', ...image, '--config.label', 'k=v', '--tag', 'new']);
    assert.equal(edited.code, 0, edited.stderr);
    assert.equal((await lab.veneer(['image', 'rm', ...image])).code, 0);
    assert.equal((await lab.veneer(['image', 'gc', '--layout', layout])).code, 0);
    const words = ['--insecure-policy', '--tmpdir', lab.directory];
    const copied = await run(skopeo, [...words, 'copy', `oci:${layout}:new`, `oci:${lab.path('copy')}:new`]);
    assert.equal(copied.code, 0, copied.stderr);
    const inspected = await run(skopeo, [...words, 'inspect', `oci:${lab.path('copy')}:new`]);
    assert.deepEqual((JSON.parse(inspected.text) as { Labels: object }).Labels, { k: 'v' });
  });
});

describe('veneer image', () => {
  it('--json', async (t) => {
    const lab = new CliLab(t);
    const json = async (...words: string[]): Promise<Record<string, unknown>> => {
      const ran = await lab.veneer(['image', ...words, '--json'], { env: { SOURCE_DATE_EPOCH: EPOCH } });
      assert.equal(ran.code, 0, ran.stderr);
      return JSON.parse(ran.text) as Record<string, unknown>;
    };
    assert.deepEqual(await json('init', '--layout', 'l'), { layout: 'l' });
    const { manifest } = await json('new', '--image', 'l:x');
    assert.deepEqual(await json('ls', '--layout', 'l'), { layout: 'l', tags: ['x'] });
    const { digest } = await json('tag', '--image', 'l:x', 'y');
    assert.equal(digest, (manifest as { digest: string }).digest);
    assert.deepEqual(await json('rm', '--image', 'l:x'), { layout: 'l', tag: 'x', removed: 1 });
    assert.equal((await json('config', '--image', 'l:y', '--author', 'me')).tag, 'y');
    const { removed, kept } = await json('gc', '--layout', 'l');
    assert.deepEqual([(removed as unknown[]).length, kept], [2, 2]);
    const ran = await lab.veneer(['image', '--json', 'stat', '--image', 'l:gone']);
    assert.equal(ran.code, 1);
    assert.equal((JSON.parse(ran.stderr) as { error: { code: string } }).error.code, 'oci/not-found');
  });

  it('keeps members that nobody here knows', async (t) => {
    const lab = new CliLab(t);
    const layout = lab.path('l');
    await lab.veneer(['image', 'init', '--layout', layout]);
    await lab.veneer(['image', 'new', '--image', `${layout}:x`]);
    const index = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')) as {
      manifests: Record<string, unknown>[];
    };
    index.manifests[0]!['com.example.more'] = { b: 1, a: [] };
    writeFileSync(join(layout, 'index.json'), JSON.stringify({ ...index, other: 7 }));
    assert.equal((await lab.veneer(['image', 'tag', '--image', `${layout}:x`, 'y'])).code, 0);
    const text = readFileSync(join(layout, 'index.json'), 'utf8');
    assert.equal(text.match(/"com\.example\.more":\{"a":\[\],"b":1\}/g)?.length, 2);
    assert.match(text, /"other":7\}\n$/);
  });

  it('keeps the variant of a platform', async (t) => {
    const lab = new CliLab(t);
    const image = ['--image', lab.path('l:x')];
    await lab.veneer(['image', 'init', '--layout', lab.path('l')]);
    await lab.veneer(['image', 'new', ...image]);
    await lab.veneer(['image', 'config', ...image, '--platform.variant', 'v8']);
    await lab.veneer(['image', 'config', ...image, '--author', 'me']);
    const { text } = await lab.veneer(['image', 'stat', ...image, '--json']);
    assert.match(text, /"author":"me",.*"variant":"v8"/);
  });

  it('two writers at once lose nothing', async (t) => {
    const lab = new CliLab(t);
    const layout = lab.path('l');
    await lab.veneer(['image', 'init', '--layout', layout]);
    await lab.veneer(['image', 'new', '--image', layout]);
    const tags = ['a', 'b', 'c', 'd', 'e', 'f'];
    const ran = await Promise.all(tags.map((tag) => lab.veneer(['image', 'tag', '--image', layout, tag])));
    assert.deepEqual(
      ran.map(({ code }) => code),
      tags.map(() => 0),
    );
    const listed = (await lab.veneer(['image', 'ls', '--layout', layout])).text.trimEnd().split('\n');
    assert.deepEqual(listed.sort(), [...tags, 'latest']);
    assert.deepEqual(
      readdirSync(layout).sort(),
      ['blobs', 'index.json', 'oci-layout'],
      'no work folder is left',
    );
  });

  it('help of the family and its commands', async () => {
    const lines = async (...words: string[]): Promise<string> => {
      const ran = await run(process.execPath, [
        new URL('../../bin/veneer.js', import.meta.url).pathname,
        ...words,
      ]);
      assert.equal(ran.code, 0, ran.stderr);
      return ran.text;
    };
    const family = await lines('image');
    assert.match(family, /^ {2}tag +Give an image/m);
    for (const words of [
      ['image', '--help'],
      ['help', 'image'],
      ['image', 'help'],
    ])
      assert.equal(await lines(...words), family);
    const tag = await lines('image', 'tag', '--help');
    assert.match(tag, /^Usage:\n {2}veneer image tag /);
    for (const words of [
      ['help', 'image', 'tag'],
      ['image', 'help', 'tag'],
    ])
      assert.equal(await lines(...words), tag);
  });
});
