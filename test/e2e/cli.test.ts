/** The program as its users meet it: exit codes, error texts, JSON, help, pipes, signals, other users. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { COMMANDS } from '../../src/cli/commands.ts';
import { requireTool } from '../support/require-tool.ts';
import {
  archive,
  device,
  dir,
  file,
  hardLink,
  sparseFile,
  symlink,
  whiteout,
} from '../support/tar-builder.ts';
import { CliLab, cleanEnv, LAUNCHER, parseLines, run, runVeneer } from './run-veneer.ts';

const NOBODY = 65534;
const isRoot = process.getuid?.() === 0;
const rootOnly = isRoot ? false : 'changing the user needs root';

const base = archive(
  dir('etc'),
  file('etc/passwd', 'root:x:0:0\n', { mode: 0o640, uid: 1, gid: 2, mtime: 1_700_000_000, mtimeNsec: 5 }),
  file('etc/gone', 'x'),
  file('etc/.hidden', 'h'),
  symlink('etc/link', '/etc/passwd'),
  symlink('etc/out', '../../../../etc/passwd'),
  symlink('etc/dangling', 'nowhere'),
  symlink('etc/loop', 'loop'),
  hardLink('etc/passwd-again', 'etc/passwd'),
  file('odd\x1b[31m\xff name', 'odd'),
  file('with\nnewline', ''),
  file('cap', 'c', {
    xattrs: { 'user.note': 'hi', 'security.capability': '\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0' },
  }),
  device('null', 'char', 1, 3),
  sparseFile('sparse', 3000, [{ offset: 1024, data: 'data' }], '1.0'),
  file('big', Buffer.alloc(8 << 20, 'b')),
);
const top = archive(whiteout('etc/gone'), file('etc/new', 'new\n'));

describe('veneer', () => {
  const lab = new CliLab({ after });
  before(() => lab.pull('test:1', [base, top]));

  it('--version', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
    const ran = await runVeneer(['--version']);
    assert.deepEqual([ran.code, ran.text, ran.stderr], [0, `veneer ${version}\n`, '']);
  });

  it('does not wait for the disk when its output goes into files', async (t) => {
    const strace = requireTool(t, 'strace');
    if (strace === null) return;
    const [trace, out] = [lab.path('trace'), openSync(lab.path('output'), 'w')];
    const words = ['-f', '-o', trace, '-e', 'trace=fsync,flock', process.execPath, LAUNCHER, 'gc'];
    const env = cleanEnv({ VENEER_ROOT: lab.root });
    const [code] = await once(spawn(strace, words, { stdio: ['ignore', out, out], env }), 'close');
    closeSync(out);
    assert.equal(code, 0);
    const calls = readFileSync(trace, 'utf8');
    assert.match(calls, /flock\(/, 'system calls were made through the library');
    assert.doesNotMatch(calls, /fsync\([12]\) += 0/);
    assert.match(readFileSync(lab.path('output'), 'utf8'), /^deleted 0 layers/);
  });

  it('without a command: help on stderr, exit code 2', async () => {
    const ran = await runVeneer([]);
    assert.equal(ran.code, 2);
    assert.equal(ran.text, '');
    assert.match(ran.stderr, /Commands:/);
  });

  it('--help, help, help COMMAND, COMMAND --help', async () => {
    for (const words of [['--help'], ['help'], ['-h']]) {
      const ran = await runVeneer(words);
      assert.equal(ran.code, 0);
      assert.match(ran.text, /^veneer: container images/);
    }
    const [long, short] = [await runVeneer(['help', 'ls']), await runVeneer(['ls', '--help'])];
    assert.equal(long.text, short.text);
    assert.equal(short.code, 0);
  });

  for (const name of Object.keys(COMMANDS)) {
    it(`${name} --help`, async () => {
      const ran = await runVeneer([name, '--help']);
      assert.equal(ran.code, 0, ran.stderr);
      assert.match(ran.text, /^Usage:\n {2}veneer /);
      assert.match(ran.text, /\nExamples:\n {2}# /);
    });
  }

  describe('errors', () => {
    const cases: [words: string[], code: number, stderr: RegExp][] = [
      [['lss'], 2, /^veneer: Cannot run "veneer lss": there is no such command\nhint: did you mean ls\?\n$/],
      [['ls'], 2, /IMAGE\[:PATH\] is missing|at least 1/],
      [['ls', '--lon', 'x'], 2, /no such flag: --lon; did you mean --long\?/],
      [['cat', 'test:1'], 2, /names no file in an image\nhint: a path begins with "\/"/],
      [['cat', 'test:1:etc/passwd'], 2, /hint: .*test:1:\/etc\/passwd/],
      [['cat', 'test:2:/x'], 1, /^veneer: Cannot find image "test:2"/],
      [['cat', 'test:1:/etc'], 1, /\/etc of test:1: it is a directory\nhint: veneer ls test:1:\/etc/],
      [['cat', 'test:1:/etc/gone'], 1, /Cannot find \/etc\/gone in test:1: \/etc has no "gone"/],
      [['cat', 'test:1:/no/such'], 1, /the root has no "no"/],
      [['cat', 'test:1:/etc/passwd/x'], 1, /\/etc\/passwd is a file, not a directory/],
      [['cat', 'test:1:/etc/passwd/'], 1, /it is a file, not a directory/],
      [
        ['cat', 'test:1:/etc/dangling'],
        1,
        /\/etc\/dangling is a symlink to nowhere, which is not in the image/,
      ],
      [['cat', 'test:1:/etc/loop'], 1, /symbolic links/],
      [['cat', 'test:1:/null'], 1, /it is a char device/],
      [['ls', '/dev/zero:/'], 1, /Cannot read \/dev\/zero: it is not a regular file/],
      [['index', '/dev/zero'], 1, /Cannot read \/dev\/zero: it is not a regular file/],
      [['ls', './nothing.erofs'], 1, /Cannot open \.\/nothing\.erofs: no such file or directory/],
      [['mount', 'test:1'], 2, /DIR is missing/],
      [['mount', 'test:1:/etc', '/mnt'], 2, /a whole image can be mounted/],
      [['cp', 'test:1:/etc'], 2, /veneer cp/],
      [['pull', 'Not/A Reference'], 2, /Not\/A Reference/],
      [['pull', 'oci:nowhere'], 1, /nowhere/],
      [
        ['pull', `docker-archive:${fileURLToPath(import.meta.url)}`],
        1,
        /Cannot open the image archive .*cli\.test\.ts: cannot read the tar header: .*offset 0\nhint: /,
      ],
      [['completion', 'tcsh'], 2, /bash, zsh or fish/],
      [['index', '-'], 2, /--tar FILE/],
      [['merge', 'x'], 2, /-o FSMETA is missing/],
      [['rm', 'test:2'], 1, /Cannot find image/],
      [['umount', '/'], 1, /Cannot/],
      [['--nope', 'ls'], 2, /--nope comes before the command/],
    ];
    for (const [words, code, stderr] of cases) {
      it(words.join(' '), async () => {
        const ran = await lab.veneer(words);
        assert.equal(ran.code, code, ran.stderr);
        assert.match(ran.stderr, stderr);
        assert.match(ran.stderr, /^veneer: Cannot /);
        assert.equal(ran.text, '');
        assert.doesNotMatch(ran.stderr, /\n {4}at /, 'a stack is for bugs');
      });
    }

    it('a FIFO is no image, and nobody waits for it', async () => {
      await run('mkfifo', [lab.path('fifo')]);
      const ran = await lab.veneer(['ls', './fifo']);
      assert.equal(ran.code, 1);
      assert.match(ran.stderr, /Cannot read \.\/fifo: it is not a regular file/);
    });

    it('are one JSON object on stderr with --json', async () => {
      for (const [words, code, error] of [
        [['cat', '--json', 'test:1:/x'], 1, 'tree/not-found'],
        [['cat', '--json'], 2, 'cli/usage'],
        [['nope', '--json'], 2, 'cli/usage'],
        [['images', '--json', '--bogus'], 2, 'cli/usage'],
      ] as const) {
        const ran = await lab.veneer(words);
        assert.equal(ran.code, code);
        const [parsed, ...rest] = parseLines(ran.stderr);
        assert.equal(rest.length, 0);
        const { code: found, message } = parsed!.error as { code: string; message: string };
        assert.equal(found, error);
        assert.match(message, /^Cannot /);
        assert.equal(ran.text, '');
      }
    });
  });

  describe('ls', () => {
    it('names, as ls does, raw in a pipe', async () => {
      const ran = await lab.veneer(['ls', 'test:1']);
      assert.equal(ran.code, 0, ran.stderr);
      assert.equal(
        ran.stdout.toString('latin1'),
        ['big', 'cap', 'etc', 'null', 'odd\x1b[31m\xff name', 'sparse', 'with\nnewline', ''].join('\n'),
      );
    });

    it('-0 and -a, full paths', async () => {
      const ran = await lab.veneer(['ls', '-0a', 'test:1:/etc']);
      assert.deepEqual(ran.text.split('\0'), [
        '/etc/.hidden',
        '/etc/dangling',
        '/etc/link',
        '/etc/loop',
        '/etc/new',
        '/etc/out',
        '/etc/passwd',
        '/etc/passwd-again',
        '',
      ]);
    });

    it('-l: all attributes', async () => {
      const ran = await lab.veneer(['ls', '-l', 'test:1:/etc', 'test:1:/null', 'test:1:/cap']);
      assert.match(ran.text, /^-rw-r----- +2 +1 +2 +11 +2023-11-14 22:13 +passwd$/m);
      assert.match(ran.text, /^lrwxrwxrwx .* link -> \/etc\/passwd$/m);
      assert.match(ran.text, /^crw------- .* 1,3 .* \/null$/m);
      assert.match(ran.text, /^-rw-r--r--\+ .* \/cap$/m);
    });

    it('-R and -d', async () => {
      const all = await lab.veneer(['ls', '-R', 'test:1']);
      assert.match(all.text, /^\/:\n/);
      assert.match(all.text, /\n\n\/etc:\ndangling\n/);
      const only = await lab.veneer(['ls', '-d', 'test:1:/etc']);
      assert.equal(only.text, '/etc\n');
    });

    it('--json: one object a name, bytes that are not UTF-8 kept', async () => {
      const ran = await lab.veneer(['ls', '--json', '-R', 'test:1']);
      const rows = parseLines(ran.text);
      const passwd = rows.find(({ path }) => path === '/etc/passwd');
      assert.deepEqual(passwd, {
        path: '/etc/passwd',
        type: 'file',
        mode: '0640',
        uid: 1,
        gid: 2,
        nlink: 2,
        size: 11,
        mtime: '2023-11-14T22:13:20.000000005Z',
      });
      const odd = rows.find(({ pathBase64 }) => pathBase64 !== undefined);
      assert.equal(
        Buffer.from(odd!.pathBase64 as string, 'base64').toString('latin1'),
        '/odd\x1b[31m\xff name',
      );
      assert.ok(rows.some(({ path }) => path === '/with\nnewline'));
    });

    it('escapes names on a terminal', async (t) => {
      if (requireTool(t, 'script') === null) return;
      const ran = await run(
        'script',
        ['-qec', `"${process.execPath}" "${LAUNCHER}" ls test:1`, '/dev/null'],
        {
          env: { VENEER_ROOT: lab.root },
        },
      );
      assert.match(ran.text, /odd\\x1b\[31m\\xff name/);
      assert.match(ran.text, /with\\x0anewline/);
      assert.ok(!ran.text.includes('\x1b'));
    });
  });

  describe('cat', () => {
    it('several files, in order, symlinks followed inside the image', async () => {
      const ran = await lab.veneer(['cat', 'test:1:/etc/link', 'test:1:/etc/new', 'test:1:/etc/out']);
      assert.deepEqual([ran.code, ran.text], [0, 'root:x:0:0\nnew\nroot:x:0:0\n']);
    });

    it('goes on after one that fails', async () => {
      const ran = await lab.veneer(['cat', 'test:1:/x', 'test:1:/etc/new']);
      assert.deepEqual([ran.code, ran.text], [1, 'new\n']);
    });

    it('fills holes with zeros', async () => {
      const ran = await lab.veneer(['cat', 'test:1:/sparse']);
      const expected = Buffer.alloc(3000);
      expected.write('data', 1024);
      assert.ok(ran.stdout.equals(expected));
    });

    it('names that are no UTF-8', async () => {
      const script = `"$0" "$1" cat "test:1:/odd$(printf '\\033[31m\\377') name"`;
      const ran = await run('bash', ['-c', script, process.execPath, LAUNCHER], {
        env: { VENEER_ROOT: lab.root },
      });
      assert.deepEqual([ran.code, ran.text], [0, 'odd'], ran.stderr);
    });

    it('a reader that goes away ends it quietly', async () => {
      const ran = await run(
        'bash',
        [
          '-c',
          '"$0" "$1" cat test:1:/big test:1:/big | head -c 10; exit $PIPESTATUS',
          process.execPath,
          LAUNCHER,
        ],
        { env: { VENEER_ROOT: lab.root } },
      );
      assert.deepEqual([ran.code, ran.text, ran.stderr], [141, 'bbbbbbbbbb', '']);
    });
  });

  describe('stat', () => {
    it('--json', async () => {
      const ran = await lab.veneer(['stat', '--json', 'test:1:/cap', 'test:1:/sparse', 'test:1:/null']);
      const [cap, sparse, device] = parseLines(ran.text);
      assert.deepEqual(
        (cap!.xattrs as { name: string }[]).map(({ name }) => name),
        ['security.capability', 'user.note'],
      );
      const [layer] = parseLines((await lab.veneer(['layers', '--json', 'test:1'])).text);
      const [run] = cap!.data as { digest: string; offset: number; length: number; at: number }[];
      assert.equal(run!.digest, layer!.diffId);
      assert.equal(base.toString('latin1', run!.at, run!.at + run!.length), 'c');
      assert.equal(sparse!.size, 3000);
      assert.deepEqual(device!.device, { major: 1, minor: 3 });
    });

    it('in words, -L follows', async () => {
      const link = await lab.veneer(['stat', 'test:1:/etc/link']);
      assert.match(link.text, /^Name: +\/etc\/link -> \/etc\/passwd$/m);
      const target = await lab.veneer(['stat', '-L', 'test:1:/etc/link']);
      assert.match(target.text, /^Mode: +0640 -rw-r-----$/m);
      assert.match(target.text, /^Data: +at offset \d+ of tar sha256:[0-9a-f]{64}$/m);
    });
  });

  describe('the store', () => {
    it('images, layers, fsck, verify, gc, rm', async (t) => {
      const own = new CliLab(t);
      await own.pull('one:1', [base]);
      await own.pull('two:1', [base, top]);
      assert.equal((await own.veneer(['images', '--names'])).text, 'one:1\ntwo:1\n');
      assert.deepEqual(
        parseLines((await own.veneer(['images', '--json'])).text).map(({ name }) => name),
        ['one:1', 'two:1'],
      );
      assert.match(
        (await own.veneer(['images'])).text,
        /^NAME +DIGEST +PLATFORM +LAYERS +BLOBS +TARS +STORED +PULLED\none:1 /,
      );
      assert.equal(parseLines((await own.veneer(['layers', '--json'])).text).length, 2);
      assert.equal((await own.veneer(['fsck'])).code, 0);
      assert.equal((await own.veneer(['verify'])).code, 0);
      assert.equal((await own.veneer(['rm', 'two:1'])).text, 'removed two:1\n');
      const dry = parseLines((await own.veneer(['gc', '--dry-run', '--json'])).text)[0]!;
      assert.equal((dry.layers as string[]).length, 1);
      assert.equal((await own.veneer(['gc', '--quiet'])).text, '');
      assert.equal(parseLines((await own.veneer(['layers', '--json'])).text).length, 1);
      const layers = join(own.root, 'layers');
      const tar = join(layers, readdirSync(layers)[0]!, 'layer.tar');
      chmodSync(tar, 0o600);
      const bytes = readFileSync(tar);
      bytes[600]! ^= 1;
      writeFileSync(tar, bytes);
      const damaged = await own.veneer(['verify']);
      assert.equal(damaged.code, 1);
      assert.match(damaged.text, /^damaged: .*layer\.tar/m);
    });

    it('an empty one', async (t) => {
      const own = new CliLab(t);
      const ran = await own.veneer(['images']);
      assert.deepEqual([ran.code, ran.text], [0, '']);
      assert.match(ran.stderr, /has no images/);
      assert.equal((await own.veneer(['images', '--json'])).stderr, '');
    });

    it('--root wins over $VENEER_ROOT, before and behind the command', async (t) => {
      const own = new CliLab(t);
      const elsewhere = { env: { VENEER_ROOT: own.root } };
      for (const words of [
        ['images', '--names', '--root', lab.root],
        ['--root', lab.root, 'images', '--names'],
        [`--root=${lab.root}`, 'images', '--names'],
      ]) {
        assert.equal((await runVeneer(words, elsewhere)).text, 'test:1\n');
      }
      for (const words of [
        ['--root', lab.root, 'image', 'stat', '--store', 'test:1'],
        ['image', `--root=${lab.root}`, 'stat', '--store', 'test:1'],
      ]) {
        const ran = await runVeneer(words, elsewhere);
        assert.equal(ran.code, 0, ran.stderr);
      }
    });
  });

  it('bash completion, image names from the store', async () => {
    const bash = await runVeneer(['completion', 'bash']);
    assert.equal(bash.code, 0);
    const complete = async (line: string): Promise<string[]> => {
      const program = `${bash.text}
veneer() { "$NODE" "$LAUNCHER" "$@"; }
COMP_LINE=$1 COMP_POINT=\${#1} COMP_WORDBREAKS=$' \\t\\n=:'
_veneer
printf '%s\\n' "\${COMPREPLY[@]}"`;
      const ran = await run('bash', ['-c', program, 'bash', line], {
        env: { VENEER_ROOT: lab.root, NODE: process.execPath, LAUNCHER },
      });
      assert.equal(ran.stderr, '', line);
      return ran.text.trimEnd().split('\n');
    };
    assert.deepEqual(await complete('veneer images'), ['images']);
    assert.deepEqual(await complete('veneer image t'), ['tag']);
    assert.deepEqual(await complete('veneer image raw r'), ['runtime-config']);
    assert.deepEqual(await complete('veneer image ls --lay'), ['--layout']);
    assert.deepEqual(await complete('veneer ls --lay'), ['']);
    assert.deepEqual(await complete('veneer ls --rec'), ['--recursive']);
    assert.deepEqual(await complete('veneer ls -l te'), ['test:1']);
    assert.deepEqual(await complete('veneer ls test:'), ['1']);
    assert.deepEqual(await complete('veneer pull --progress js'), ['json']);
    assert.deepEqual(await complete('veneer completion z'), ['zsh']);
    assert.deepEqual(await complete('veneer pull --progress=pl'), ['plain']);
    assert.deepEqual(await complete('veneer --root / --json imag'), ['images', 'image']);
    assert.deepEqual(await complete('veneer nosuchcommand '), ['']);
    // A name is text and never run, neither now nor when the line is.
    const evil = lab.path('evil');
    assert.equal((await lab.pull(`$(>${evil})`, [base])).code, 0);
    assert.deepEqual(await complete('veneer ls $'), [`\\$\\(\\>${evil}\\)`]);
    assert.equal(existsSync(evil), false);
    await lab.veneer(['rm', `$(>${evil})`]);
  });

  it('fish completion, in fish', async (t) => {
    if (requireTool(t, 'fish') === null) return;
    const script = lab.path('veneer.fish');
    writeFileSync(script, (await runVeneer(['completion', 'fish'])).text);
    const program = `function veneer; $NODE $LAUNCHER $argv; end; source ${script}; complete -C $LINE`;
    const complete = async (line: string): Promise<string[]> => {
      const ran = await run('fish', ['-N', '-c', program], {
        env: { HOME: lab.directory, VENEER_ROOT: lab.root, NODE: process.execPath, LAUNCHER, LINE: line },
      });
      assert.equal(ran.stderr, '', line);
      return ran.text
        .trimEnd()
        .split('\n')
        .map((row) => row.split('\t')[0]!);
    };
    assert.deepEqual(await complete('veneer images'), ['images']);
    assert.deepEqual(await complete('veneer image t'), ['tag']);
    assert.deepEqual(await complete('veneer image raw r'), ['runtime-config']);
    assert.deepEqual(await complete('veneer image --json t'), ['tag']);
    assert.deepEqual(await complete('veneer image ls --lay'), ['--layout']);
    assert.deepEqual(await complete('veneer ls --lay'), ['']);
    assert.deepEqual(await complete('veneer ls --rec'), ['--recursive']);
    assert.deepEqual(await complete('veneer cat test:'), ['test:1']);
    assert.deepEqual(await complete('veneer pull --progress js'), ['json']);
    assert.deepEqual(await complete('veneer --json imag'), ['image', 'images']);
  });

  it('zsh completion, in zsh', async (t) => {
    if (requireTool(t, 'zsh') === null) return;
    const script = lab.path('_veneer');
    writeFileSync(script, (await runVeneer(['completion', 'zsh'])).text);
    const complete = async (line: string): Promise<string> => {
      const ran = await run(
        'zsh',
        ['-f', fileURLToPath(new URL('complete.zsh', import.meta.url)), script, line],
        {
          env: { VENEER_ROOT: lab.root, NODE: process.execPath, LAUNCHER },
        },
      );
      assert.equal(ran.code, 0, ran.stderr);
      return ran.text.trimEnd();
    };
    assert.equal(await complete('veneer images'), 'veneer images');
    assert.equal(await complete('veneer image t'), 'veneer image tag');
    assert.equal(await complete('veneer image raw r'), 'veneer image raw runtime-config');
    assert.equal(await complete('veneer image ls --lay'), 'veneer image ls --layout=');
    assert.equal(await complete('veneer ls --rec'), 'veneer ls --recursive');
    assert.equal(await complete('veneer cat test:'), 'veneer cat test:1');
    assert.equal(await complete('veneer pull --progress js'), 'veneer pull --progress json');
    assert.equal(await complete('veneer pull --progress=js'), 'veneer pull --progress=json');
    assert.equal(await complete('veneer --root / --json um'), 'veneer --root / --json umount');
  });

  describe('progress', () => {
    it('silence in a pipe, lines or JSON when asked for', async (t) => {
      const own = new CliLab(t);
      const silent = await own.pull('quiet:1', [base]);
      assert.equal(silent.stderr, '');
      const layout = `oci:${own.path('layout-quiet-1')}:latest`;
      const plain = await own.veneer(['pull', layout, '--root', own.path('b'), '--progress=plain']);
      assert.match(plain.stderr, /: started/);
      assert.match(plain.stderr, /: done/);
      const json = await own.veneer(['pull', layout, '--root', own.path('c'), '--progress=json', '--json']);
      const events = parseLines(json.stderr).map(({ progress }) => (progress as { type: string }).type);
      assert.ok(events.includes('start') && events.includes('end'));
      assert.equal(parseLines(json.text).length, 1);
    });
  });

  describe('signals', () => {
    for (const [signal, code] of [
      ['SIGINT', 130],
      ['SIGTERM', 143],
    ] as const) {
      it(`${signal} ends a conversion with ${code} and leaves no file`, async (t) => {
        const own = new CliLab(t);
        const child = spawn(process.execPath, [LAUNCHER, 'convert', '-', '-o', 'out.erofs'], {
          cwd: own.directory,
          env: cleanEnv(),
          stdio: ['pipe', 'ignore', 'pipe'],
        });
        child.stdin.on('error', () => {});
        child.stdin.write(base.subarray(0, 1 << 20));
        // The temporary file says that the work has begun.
        while (!readdirSync(own.directory).some((name) => name.endsWith('.unfinished'))) {
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
        child.kill(signal);
        child.stdin.write(base.subarray(1 << 20));
        child.stdin.end();
        const [exit] = await once(child, 'close');
        assert.equal(exit, code);
        assert.deepEqual(readdirSync(own.directory), []);
      });
    }
  });

  describe('without root', { skip: rootOnly }, () => {
    it('pulls, lists, prints and copies; mounting says what it needs', async () => {
      const directory = mkdtempSync(join(tmpdir(), 'veneer-nobody-'));
      try {
        chmodSync(directory, 0o777);
        const own = new CliLab({ after: () => {} });
        await own.pull('setup:1', [base, top]);
        await run('cp', ['-r', own.path('layout-setup-1'), join(directory, 'image')]);
        await run('chmod', ['-R', 'a+rX', directory]);
        rmSync(own.directory, { recursive: true, force: true });
        const as = {
          uid: NOBODY,
          cwd: directory,
          env: { HOME: directory, XDG_DATA_HOME: join(directory, 'data') },
        };
        const pulled = await runVeneer(['pull', 'oci:image:latest'], as);
        assert.equal(pulled.code, 0, pulled.stderr);
        assert.ok(readdirSync(join(directory, 'data')).includes('veneer'));
        assert.equal((await runVeneer(['cat', 'image:latest:/etc/new'], as)).text, 'new\n');
        const copied = await runVeneer(['cp', '--json', 'image:latest:/etc', 'etc'], as);
        assert.equal(copied.code, 0, copied.stderr);
        assert.equal(readFileSync(join(directory, 'etc/new'), 'utf8'), 'new\n');
        const device = await runVeneer(['cp', 'image:latest:/null', 'null'], as);
        assert.equal(device.code, 1);
        assert.match(device.stderr, /\/null: is not made/);
        const quiet = await runVeneer(['cp', '-q', 'image:latest:/null', 'null'], as);
        assert.equal(quiet.code, 1);
        assert.match(quiet.stderr, /^veneer: Cannot copy everything: 1 file could not be made here\nhint: /);
        mkdirSync(join(directory, 'mnt'));
        const mounted = await runVeneer(['mount', 'image:latest', 'mnt'], as);
        assert.equal(mounted.code, 1);
        assert.match(mounted.stderr, /hint: Run as root/);
      } finally {
        rmSync(directory, { recursive: true, force: true });
      }
    });
  });

  it('nothing is made in the home of somebody else', async (t) => {
    if (process.getuid?.() !== 0) return t.skip('not root');
    const home = lab.path('home');
    mkdirSync(home);
    const env = { HOME: home };
    await lab.veneer(['images'], { env });
    assert.deepEqual(readdirSync(home), ['.cache'], 'but in the own home');
    rmSync(join(home, '.cache'), { recursive: true });
    chownSync(home, NOBODY, NOBODY);
    await lab.veneer(['images'], { env });
    assert.deepEqual(readdirSync(home), []);
  });

  it('an old Node starts the new one, or says what to install', async (t) => {
    const old = ['/usr/bin/node', '/usr/local/bin/node'].find((path) => existsSync(path));
    if (old === undefined) return t.skip('no other Node is installed');
    const version = (await run(old, ['--version'])).text;
    if (Number.parseInt(version.slice(1), 10) >= 24) return t.skip(`${old} is ${version.trim()}`);
    const ran = await run(old, [LAUNCHER, 'cat', 'test:1:/x'], { env: { VENEER_ROOT: lab.root } });
    assert.equal(ran.code, 1);
    assert.match(ran.stderr, /the root has no "x"/);
    const alone = await run(old, [LAUNCHER, 'images'], { env: { VENEER_LAUNCHED: '1' } });
    assert.equal(alone.code, 1);
    assert.match(alone.stderr, /needs Node 24/);
  });
});
