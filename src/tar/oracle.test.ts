/** The scan against GNU tar and Python's tarfile: archives that GNU tar makes, and the conformance table. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { requireTool } from '../../test/support/require-tool.ts';
import { patterned } from '../../test/support/tar-cases/tar-case.ts';
import { layersOf, tarCases } from '../../test/support/tar-cases.ts';
import { type TarEntry, TarScanner } from './index.ts';

const LAB = mkdtempSync(join(tmpdir(), 'veneer-tar-'));
after(() => rmSync(LAB, { recursive: true, force: true }));

/** Entries, and the content of those that are files. */
function scan(bytes: Buffer): { entries: TarEntry[]; contents: Map<string, Buffer> } {
  const entries: TarEntry[] = [];
  const scanner = new TarScanner({ onEntry: (entry) => void entries.push(entry) });
  for (let at = 0; at < bytes.length; at += 10_000) scanner.write(bytes.subarray(at, at + 10_000));
  scanner.end();
  const contents = new Map<string, Buffer>();
  for (const entry of entries) {
    if (entry.type !== 'file' || entry.size > 1 << 26) continue;
    const content = Buffer.alloc(entry.size);
    for (const run of entry.sparse ?? [{ offset: 0, length: entry.size, source: entry.payloadOffset }]) {
      bytes.copy(content, run.offset, run.source, run.source + run.length);
    }
    contents.set(entry.path, content);
  }
  return { entries, contents };
}

const LONG = `${'long-'.repeat(18)}${'x'.repeat(30)}`;

/** A tree on disk with what any user can make; returns the content of its files. */
function makeTree(): Map<string, Buffer> {
  const root = join(LAB, 'tree');
  const contents = new Map<string, Buffer>();
  mkdirSync(join(root, 'd/e'), { recursive: true });
  const put = (path: string, data: Buffer): void => {
    writeFileSync(join(root, path), data);
    contents.set(path, data);
  };
  put('d/empty', Buffer.alloc(0));
  put('d/one', patterned(1));
  put('d/block', patterned(512));
  put('d/e/large', patterned(100_000));
  put('short-name', patterned(5));
  linkSync(join(root, 'd/one'), join(root, 'd/same'));
  symlinkSync('../d/one', join(root, 'd/e/symlink'));
  utimesSync(join(root, 'd/block'), 1_600_000_000.123_456, 1_600_000_000.123_456);
  return contents;
}

/** GNU tar's `--format`; v7 and oldgnu cannot say what the others can. */
for (const format of ['ustar', 'pax', 'gnu', 'oldgnu', 'v7']) {
  test(`archives that GNU tar makes with --format=${format}`, (t) => {
    if (requireTool(t, 'tar') === null || requireTool(t, 'python3') === null) return;
    rmSync(join(LAB, 'tree'), { recursive: true, force: true });
    const contents = makeTree();
    if (format !== 'v7') {
      // ustar can only split a long name at a slash.
      const path = format === 'ustar' ? `d/${'y'.repeat(80)}/${'z'.repeat(80)}` : LONG;
      mkdirSync(join(LAB, 'tree', path, '..'), { recursive: true });
      writeFileSync(join(LAB, 'tree', path), 'long');
      contents.set(path, Buffer.from('long'));
      if (format !== 'ustar') symlinkSync(LONG.repeat(2), join(LAB, 'tree/long-target'));
    }
    const tar = join(LAB, `${format}.tar`);
    execFileSync('tar', ['-c', '-f', tar, `--format=${format}`, '-C', join(LAB, 'tree'), '--sort=name', '.']);
    const scanned = scan(readFileSync(tar));
    const found = new Map(
      [...scanned.contents].map(([path, content]) => [path.replace(/^\.\//, ''), content]),
    );
    assert.deepEqual(
      scanned.entries.map(({ path, linkPath }) => [path, linkPath]),
      listNames(tar),
    );
    const linked = scanned.entries.find(({ type }) => type === 'link')!;
    assert.match(`${linked.path} ${linked.linkPath}`, /d\/same .*d\/one|d\/one .*d\/same/);
    contents.delete(linked.path.replace(/^\.\//, ''));
    assert.deepEqual(new Map([...found].sort()), new Map([...contents].sort()));
    const block = scanned.entries.find(({ path }) => path.endsWith('d/block'))!;
    assert.equal(block.mtime, 1_600_000_000);
    assert.equal(Math.round(block.mtimeNsec / 1000), format === 'pax' ? 123_456 : 0);
    if (format !== 'ustar' && format !== 'v7') {
      assert.equal(scanned.entries.find(({ path }) => path === './long-target')?.linkPath, LONG.repeat(2));
    }
  });
}

/** Name and link target of each member, byte strings. */
function listNames(tar: string): string[][] {
  const program = [
    'import sys, tarfile, json',
    'with tarfile.open(sys.argv[1], encoding="latin1", errors="strict") as t:',
    '  print(json.dumps([[m.name + ("/" if m.isdir() else ""), m.linkname] for m in t]))',
  ].join('\n');
  return JSON.parse(execFileSync('python3', ['-c', program, tar], { encoding: 'utf8' })) as string[][];
}

for (const form of ['old-gnu', '0.0', '0.1', '1.0']) {
  test(`sparse files that GNU tar makes, form ${form}`, (t) => {
    if (requireTool(t, 'tar') === null) return;
    const folder = mkdtempSync(join(LAB, 'sparse-'));
    const want = new Map<string, Buffer>();
    const make = (name: string, size: number, ...runs: (readonly [number, number])[]): void => {
      const content = Buffer.alloc(size);
      const fd = openSync(join(folder, name), 'w');
      ftruncateSync(fd, size);
      for (const [offset, length] of runs) {
        const data = patterned(length, offset + 1);
        data.copy(content, offset);
        writeSync(fd, data, 0, length, offset);
      }
      closeSync(fd);
      want.set(name, content);
    };
    make('holes', 1 << 20, [65_536, 5000], [200_000, 1], [700_001, 4097]);
    make('all-hole', 300_000);
    make('tail', 100_003, [99_000, 1003]);
    make('many', 60 * 65_536, ...Array.from({ length: 60 }, (_, i) => [i * 65_536 + 7, 300 + i] as const));
    make('dense', 9000, [0, 9000]);
    const flags =
      form === 'old-gnu'
        ? ['--format=gnu', '--sparse']
        : ['--format=pax', '--sparse', `--sparse-version=${form}`];
    const tar = join(folder, 'out.tar');
    execFileSync('tar', ['-c', '-f', tar, ...flags, '-C', folder, ...want.keys()]);
    const bytes = readFileSync(tar);
    assert.ok(bytes.length < 1 << 20, 'GNU tar did store them sparse');
    const { entries, contents } = scan(bytes);
    assert.ok(entries.some(({ sparse }) => sparse !== null && sparse.length > 20));
    for (const [name, content] of want) {
      assert.ok(contents.get(name)?.equals(content), name);
    }
    assert.equal(entries.length, want.size);
  });
}

/** `tar -tv` as `[type and mode, uid/gid, size, mtime, name with target]`; complaints are not heard. */
function listVerbose(bytes: Buffer): string[][] {
  let text: Buffer;
  try {
    text = execFileSync(
      'tar',
      ['-tv', '--numeric-owner', '--full-time', '--quoting-style=escape', '-f', '-'],
      {
        input: bytes,
        stdio: ['pipe', 'pipe', 'ignore'],
        maxBuffer: 1 << 26,
        env: { ...process.env, LC_ALL: 'C', TZ: 'UTC' },
      },
    );
  } catch (error) {
    text = (error as { stdout: Buffer }).stdout;
  }
  return text
    .toString('latin1')
    .split('\n')
    .slice(0, -1)
    .map((line) => {
      const [, mode, owner, size, time, name] = /^(\S+) (\S+) +(\S+) (\S+ \S+) +(.*)$/s.exec(line)!;
      return [mode!.replace(/^C/, '-'), owner!, size!, time!, name!];
    });
}

const LETTERS = { file: '-', link: 'h', symlink: 'l', char: 'c', block: 'b', dir: 'd', fifo: 'p' } as const;

/** The same line as ours, in GNU tar's words. */
function describeLine(entry: TarEntry): string[] {
  const bit = (mask: number, char: string): string => (entry.mode & mask ? char : '-');
  const last = (special: number, execute: number, letter: string): string => {
    if ((entry.mode & special) === 0) return bit(execute, 'x');
    return entry.mode & execute ? letter : letter.toUpperCase();
  };
  const mode = [
    LETTERS[entry.type],
    `${bit(0o400, 'r')}${bit(0o200, 'w')}${last(0o4000, 0o100, 's')}`,
    `${bit(0o040, 'r')}${bit(0o020, 'w')}${last(0o2000, 0o010, 's')}`,
    `${bit(0o004, 'r')}${bit(0o002, 'w')}${last(0o1000, 0o001, 't')}`,
  ].join('');
  const isDevice = entry.type === 'char' || entry.type === 'block';
  const size = isDevice ? `${entry.devMajor},${entry.devMinor}` : String(entry.size);
  const time = new Date(entry.mtime * 1000).toISOString().replace(/^\+0+/, '').slice(0, 19).replace('T', ' ');
  const fraction =
    entry.mtimeNsec === 0 ? '' : `.${String(entry.mtimeNsec).padStart(9, '0').replace(/0+$/, '')}`;
  const link =
    entry.type === 'symlink'
      ? ` -> ${entry.linkPath}`
      : entry.type === 'link'
        ? ` link to ${entry.linkPath.replace(/^\/+/, '')}`
        : '';
  return [
    mode,
    `${entry.uid}/${entry.gid}`,
    size,
    `${time}${fraction}`,
    `${escapeName(entry.path)}${escapeName(link)}`.trimStart(),
  ];
}

const escapeName = (text: string): string =>
  text.replace(/[^ -[\]-~]/g, (char) => {
    const short = { '\n': '\\n', '\r': '\\r', '\t': '\\t', '\\': '\\\\', '\x7f': '\\177' }[char];
    return short ?? `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`;
  });

/** Members that GNU tar lists otherwise, though nothing is wrong. */
const LISTED_OTHERWISE = new Map([
  ['format/unknown-type', 'it lists what we leave out'],
  ['format/volume-label', 'it lists what we leave out'],
  ['format/empty-name-file', 'it lists what we leave out'],
  ['format/empty-name-directory', 'it lists no name'],
  ['format/oldgnu-go-prefix', 'it does not read that prefix'],
  ['format/dumpdir', 'it shows the size of the list'],
  ['pax/empty-value-deletes', 'it takes an empty number for a malformed one'],
  ['pax/global-again', 'it forgets all global records when another header comes'],
  ['link/directory-and-symlink-with-size', 'it shows sizes that mean nothing'],
  ['link/with-data', 'it stumbles over the data'],
  ['link/with-data-pax', 'it counts a size that the link need not have'],
  ['pax/many-times', 'it shows fractions before 1970 wrongly, and extracts them right'],
  ['attribute/times', 'it shows fractions before 1970 wrongly, and extracts them right'],
  ['symlink/with-data', 'it shows a size that means nothing'],
]);

test('the table as `tar -tv` lists it', (t) => {
  if (requireTool(t, 'tar') === null) return;
  let compared = 0;
  for (const tarCase of tarCases) {
    if (LISTED_OTHERWISE.has(tarCase.name)) continue;
    // It stops at the first gapless run that does not fill its blocks.
    if (tarCase.name.startsWith('sparse/') && tarCase.gnuTar !== 'same') continue;
    for (const layer of layersOf(tarCase)) {
      const ours = scan(layer).entries.map(describeLine);
      assert.deepEqual(ours, listVerbose(layer), tarCase.name);
      compared += ours.length;
    }
  }
  assert.ok(compared > 5000);
});

test('real layers as `tar -tv` lists them', (t) => {
  if (requireTool(t, 'tar') === null) return;
  const corpus = join(
    process.env.VENEER_CORPUS ?? fileURLToPath(new URL('../../.cache/corpus', import.meta.url)),
    'tars',
  );
  if (!existsSync(corpus)) {
    t.skip('no corpus: scripts/corpus.sh makes it');
    return;
  }
  for (const name of readdirSync(corpus, { recursive: true, encoding: 'utf8' })) {
    const path = join(corpus, name);
    // The others take long and hold nothing that these do not.
    if (!name.endsWith('.tar') || statSync(path).size > 20 << 20) continue;
    const bytes = readFileSync(path);
    assert.deepEqual(scan(bytes).entries.map(describeLine), listVerbose(bytes), name);
  }
});
