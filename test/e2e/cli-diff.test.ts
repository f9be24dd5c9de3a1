/** `veneer diff`: what it prints, exit codes, image files, and what git says of the same trees. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { exactPath } from '../support/corpus-diff.ts';
import { requireTool } from '../support/require-tool.ts';
import { archive, device, dir, fifo, file, hardLink, symlink, whiteout } from '../support/tar-builder.ts';
import { CliLab, parseLines, run } from './run-veneer.ts';

const noise = (length: number, seed: number): Buffer =>
  Buffer.from(Array.from({ length }, (_, i) => (i * seed + (i >> 8)) & 0xff));

const base = archive(
  dir('etc'),
  file('etc/passwd', 'root\n'),
  file('etc/shadow', 'secret\n', { mode: 0o640 }),
  file('etc/same', noise(3000, 3)),
  dir('lib'),
  dir('lib/old'),
  file('lib/old/a.so', noise(9000, 5)),
  file('lib/old/b.so', noise(9000, 7)),
  symlink('lib/old/c.so', 'a.so'),
  file('moved', noise(5000, 11)),
  symlink('link', 'etc/passwd'),
  dir('turned'),
  file('turned/inside', 'x'),
  file('one', noise(70, 13)),
  hardLink('two', 'one'),
  file('odd\xff\n', 'o'),
  device('null', 'char', 1, 3),
);
const changes = archive(
  file('etc/passwd', 'root\nuser\n'),
  file('etc/shadow', 'secret\n', { mode: 0o600, uid: 3, gid: 4, xattrs: { 'user.a': 'b' } }),
  file('etc/new', 'new'),
  whiteout('lib/old'),
  dir('lib/new'),
  file('lib/new/a.so', noise(9000, 5)),
  file('lib/new/b.so', noise(9000, 7)),
  symlink('lib/new/c.so', 'a.so'),
  whiteout('moved'),
  file('etc/moved', noise(5000, 11), { mtime: 1_800_000_000 }),
  symlink('link', 'etc/shadow'),
  whiteout('turned'),
  fifo('turned'),
  file('two', noise(70, 13)),
  hardLink('three', 'one'),
  whiteout('odd\xff\n'),
  device('null', 'char', 1, 5),
);
const LINES = [
  'R  /moved -> /etc/moved  (time 2023-11-14 22:13 -> 2027-01-15 08:00)',
  'A  /etc/new  (3 bytes)',
  'M  /etc/passwd  (5 -> 10 bytes)',
  'm  /etc/shadow  (mode 0640 -> 0600, owner 0:0 -> 3:4, xattrs +user.a)',
  'R  /lib/old/ -> /lib/new/  (4 names)',
  'M  /link  (symlink to etc/passwd -> etc/shadow)',
  'M  /null  (device 1,3 -> 1,5)',
  'D  /odd\xff',
  '  (1 byte)',
  'A  /three  (hard link to /one)',
  'T  /turned  (directory -> fifo, mode 0755 -> 0644)',
  'D  /turned/inside  (1 byte)',
  'm  /two  (other hard links)',
];

describe('veneer diff', () => {
  const lab = new CliLab({ after });
  const ok = async (...words: string[]): Promise<Buffer> => {
    const ran = await lab.veneer(['diff', ...words]);
    assert.equal(ran.code, 0, ran.stderr);
    assert.equal(ran.stderr, '');
    return ran.stdout;
  };
  const lines = async (...words: string[]): Promise<string[]> =>
    (await ok(...words)).toString('latin1').split('\n').slice(0, -1);
  before(async () => {
    await lab.pull('app:1', [base]);
    await lab.pull('app:2', [base, changes]);
    writeFileSync(lab.path('1.tar'), base);
    for (const words of [
      ['index', '--digest', '1.tar'],
      ['convert', '1.tar', '-o', 'whole.erofs'],
    ]) {
      const ran = await lab.veneer(words);
      assert.equal(ran.code, 0, ran.stderr);
    }
  });

  it('says what changed, one line a change', async () => {
    assert.deepEqual(await lines('app:1', 'app:2'), LINES);
  });

  it('the other way round', async () => {
    const back = await lines('app:2', 'app:1');
    for (const line of [
      'D  /etc/new  (3 bytes)',
      'R  /etc/moved -> /moved  (time 2027-01-15 08:00 -> 2023-11-14 22:13)',
      'R  /lib/new/ -> /lib/old/  (4 names)',
      'D  /three  (70 bytes)',
      'T  /turned/  (fifo -> directory, mode 0644 -> 0755)',
      'A  /turned/inside  (1 byte)',
    ]) {
      assert.ok(back.includes(line), `${line}\nis not in\n${back.join('\n')}`);
    }
  });

  it('--json: the same with all attributes', async () => {
    const all = parseLines((await ok('--json', 'app:1', 'app:2')).toString());
    assert.equal(all.length, 12);
    const of = (path: string) => all.find((one) => one.path === path)!;
    const shadow = of('/etc/shadow') as unknown as {
      differs: string[];
      old: { mode: string };
      new: { mode: string };
    };
    assert.deepEqual(shadow.differs, ['mode', 'owner', 'xattrs']);
    assert.deepEqual([shadow.old.mode, shadow.new.mode], ['0640', '0600']);
    const { change, from, names, old, new: now } = of('/lib/new');
    assert.deepEqual([change, from, names], ['renamed', '/lib/old', 4]);
    assert.deepEqual(
      [old, now].map((one) => (one as { path: string }).path),
      ['/lib/old', '/lib/new'],
    );
    assert.equal(of('/three').link, '/one');
    assert.equal(of('/etc/new').old, null);
    const odd = all.find((one) => 'pathBase64' in one)!;
    assert.equal(odd.pathBase64, Buffer.from('/odd\xff\n', 'latin1').toString('base64'));
    assert.equal(odd.new, null);
  });

  it('--stat, --name-only, --no-renames, --ignore-times', async () => {
    assert.deepEqual(await lines('--stat', 'app:1', 'app:2'), [
      'A  added            2 names  73 B',
      'D  removed          2 names  2 B',
      'M  changed          3 names  5 B -> 10 B',
      'T  other type        1 name  0 B -> 0 B',
      'R  renamed          5 names',
      'm  attributes only  2 names',
    ]);
    const [stat] = parseLines((await ok('--stat', '--json', 'app:1', 'app:2')).toString());
    assert.deepEqual(stat!.changed, { names: 3, oldBytes: 5, newBytes: 10 });
    const names = await lines('--name-only', 'app:1', 'app:2');
    assert.deepEqual(names.slice(0, 4), ['/etc/moved', '/etc/new', '/etc/passwd', '/etc/shadow']);
    const plain = await lines('--no-renames', 'app:1', 'app:2');
    assert.deepEqual(
      plain.filter((line) => line.includes('moved')),
      ['A  /etc/moved  (5000 bytes)', 'D  /moved  (5000 bytes)'],
    );
    const timeless = await lines('--ignore-times', 'app:1', 'app:2');
    assert.ok(timeless.includes('R  /moved -> /etc/moved'));
  });

  it('nothing between equal images; --exit-code tells', async () => {
    for (const [words, code] of [
      [['app:1', 'app:1'], 0],
      [['--exit-code', 'app:1', 'app:1'], 0],
      [['--exit-code', '--quiet', 'app:1', 'app:2'], 1],
    ] as const) {
      const ran = await lab.veneer(['diff', ...words]);
      assert.deepEqual([ran.code, ran.text, ran.stderr], [code, '', ''], words.join(' '));
    }
    assert.deepEqual(await lines('--stat', 'app:1', 'app:1'), ['no difference']);
  });

  it('a part of an image', async () => {
    assert.deepEqual(await lines('app:1:/etc', 'app:2:/etc'), [
      'A  /etc/moved  (5000 bytes)',
      ...LINES.filter((line) => /^. {2}\/etc/.test(line)),
    ]);
    assert.deepEqual(await lines('app:1:/lib/old', 'app:2:/lib/new'), []);
    assert.deepEqual(await lines('app:1:/etc/passwd', 'app:2:/etc/passwd'), [
      'M  /etc/passwd  (5 -> 10 bytes)',
    ]);
    const missing = await lab.veneer(['diff', 'app:1:/nowhere', 'app:2']);
    assert.equal(missing.code, 1);
    assert.match(missing.stderr, /Cannot find \/nowhere in app:1/);
  });

  it('image files: without their data where digests say enough, with it otherwise', async () => {
    assert.deepEqual(await lines('./1.tar.erofs', 'app:1'), []);
    assert.deepEqual(await lines('./whole.erofs', 'app:1'), []);
    const missing = await lab.veneer(['diff', './whole.erofs', './1.tar.erofs']);
    assert.equal(missing.code, 1);
    assert.match(missing.stderr, /was not given\nhint: .*--old-device .*--new-device/);
    assert.deepEqual(await lines('./whole.erofs', './1.tar.erofs', '--new-device', '1.tar'), []);
  });

  it('a device table that lies about the file at hand is not believed', async () => {
    const forged = Buffer.from(base);
    forged.write('toor', forged.indexOf('root\n'));
    writeFileSync(lab.path('forged.tar'), forged);
    assert.deepEqual(await lines('app:1', './1.tar.erofs', '--new-device', 'forged.tar'), [
      'M  /etc/passwd  (5 bytes)',
    ]);
  });

  it('git says the same of the files', async (t) => {
    const git = requireTool(t, 'git');
    if (git === null) return;
    for (const [name, target] of [
      ['app:1', 'old'],
      ['app:2', 'new'],
    ] as const) {
      const ran = await lab.veneer(['cp', name, lab.path(target)]);
      assert.match(`${ran.code}`, /[01]/, ran.stderr);
    }
    const said = await run(git, ['diff', '--no-index', '-z', '--name-status', '--no-renames', 'old', 'new'], {
      cwd: lab.directory,
    });
    const words = said.stdout.toString('latin1').split('\0').slice(0, -1);
    // What it makes of other types of files means nothing.
    const expected = words.flatMap((word, i) => {
      const path = words[i + 1]?.replace(/^(old|new)/, '');
      return i % 2 === 1 || path === '/turned' || path === '/null' ? [] : [`${word} ${path}`];
    });
    const kinds: Record<string, string> = { added: 'A', removed: 'D', changed: 'M' };
    const told = parseLines((await ok('--json', '--no-renames', 'app:1', 'app:2')).toString()).flatMap(
      (one) => {
        const { type } = (one.new ?? one.old) as { type: string };
        // What git does not know: directories, devices, attributes, and files that are none any more.
        if (!/^(file|symlink)$/.test(type) || !(String(one.change) in kinds)) return [];
        return [`${kinds[String(one.change)]} ${exactPath(one)}`];
      },
    );
    assert.deepEqual(told.sort(), expected.sort());
  });

  it('two images, no more and no fewer', async () => {
    for (const words of [['app:1'], ['app:1', 'app:2', 'app:1']]) {
      assert.equal((await lab.veneer(['diff', ...words])).code, 2);
    }
    const none = await lab.veneer(['diff', 'app:1', 'no-such']);
    assert.equal(none.code, 1);
    assert.match(none.stderr, /no-such/);
  });
});
