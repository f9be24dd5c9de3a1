/** Runs every file in examples/ as docs/library.md says, and looks at what it does. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { bufferSource, ErofsReader } from '../src/erofs/index.ts';
import { skipReason } from './e2e/mount-lab.ts';
import { run } from './e2e/run-veneer.ts';
import { buildImage, writeLayout } from './support/image-builder.ts';
import { sha256 } from './support/images.ts';
import { archive, dir, file, whiteout } from './support/tar-builder.ts';

const examples = fileURLToPath(new URL('../examples/', import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'veneer-examples-'));
const at = (name: string): string => join(scratch, name);

const lower = archive(dir('etc'), file('etc/motd', 'hello\n'), file('etc/gone', 'x'));
const upper = archive(whiteout('etc/gone'), file('new', 'n', { mode: 0o600 }));
const image = buildImage([lower, upper]);

/** Arguments of each example and what it has to print. */
const runs: Readonly<
  Record<string, { words: string[]; prints: RegExp; skip?: string | false; check?: () => void }>
> = {
  'tar-list.ts': { words: [at('lower.tar')], prints: /^dir etc\/ 0 512\nfile etc\/motd 6 1024\n/ },
  'tar-to-erofs.ts': {
    words: [at('lower.tar'), at('full.erofs')],
    prints: /^\d+ bytes; mount/,
    check: () => assert.equal(namesOf('full.erofs').length, 1),
  },
  'index-tar.ts': {
    words: [at('lower.tar'), at('meta.erofs')],
    prints: /^\d+ bytes of metadata for \d+ bytes of tar\n$/,
    check: () => assert.deepEqual(namesOf('meta.erofs'), ['etc']),
  },
  'merge-layers.ts': {
    words: [at('lower.tar'), at('upper.tar')],
    prints: /^755 3 \/\n755 2 \/etc\n644 1 \/etc\/motd\n600 1 \/new\n$/,
  },
  'diff-tars.ts': {
    words: [at('lower.tar'), at('upper.tar')],
    prints: /^attributes \/etc mtime\nremoved \/etc\/gone\nremoved \/etc\/motd\nadded \/new\n$/,
  },
  'read-erofs.ts': {
    words: [at('meta.erofs')],
    prints: /^blocks of 512 bytes, 1 data devices\n4 names; \/etc is there\n$/,
  },
  'inspect-layout.ts': {
    words: [at('layout'), 'latest'],
    prints: new RegExp(`^${image.layers[0]!.digest} \\d+ ${sha256(lower)}\n.*\n$`),
  },
  'pull-and-read.ts': { words: [at('layout'), at('store'), '/etc/motd'], prints: /^hello\n$/ },
  'pull-and-mount.ts': {
    words: [`oci:${at('layout')}:latest`, at('store'), at('mnt')],
    prints: /^layout:latest is on .*\/mnt\n$/,
    skip: skipReason,
  },
};

function namesOf(name: string): string[] {
  const reader = new ErofsReader(bufferSource(readFileSync(at(name))));
  return [...reader.readTree().root.children!.keys()];
}

describe('examples', () => {
  before(async () => {
    writeFileSync(at('lower.tar'), lower);
    writeFileSync(at('upper.tar'), upper);
    mkdirSync(at('mnt'));
    await writeLayout(at('layout'), image);
  });
  after(() => rmSync(scratch, { recursive: true, force: true }));

  it('are all run here, and told in docs/library.md', () => {
    const files = readdirSync(examples).filter((name) => name.endsWith('.ts'));
    assert.deepEqual(files.sort(), Object.keys(runs).sort());
    const docs = readFileSync(new URL('../docs/library.md', import.meta.url), 'utf8');
    for (const name of files) assert.ok(docs.includes(`examples/${name}`), name);
  });

  for (const [name, { words, prints, skip, check }] of Object.entries(runs)) {
    it(name, { skip: skip ?? false }, async () => {
      // The condition takes the entries from src/, so that no build is needed.
      const ran = await run(process.execPath, ['-C', 'veneer-source', join(examples, name), ...words]);
      assert.equal(ran.code, 0, ran.stderr);
      assert.match(ran.text, prints);
      check?.();
    });
  }
});
